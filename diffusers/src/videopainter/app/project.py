"""One user's work: a folder with a video, what was said about it, its masks, and what was made of them."""

from __future__ import annotations

from videopainter.app.makers import captions_state
from videopainter.app.masking import Masking
from videopainter.app.options import AppOptions


class Project(Masking):
    """See `ProjectVideo` (frames, range) and `Masking` (objects, hole). Two browsers may have one project open."""

    options: AppOptions

    @property
    def captions_state(self) -> str | None:
        """Why nobody proposes captions; None where somebody does."""
        return captions_state(self.options)

    @property
    def words_state(self) -> str | None:
        """Why objects cannot be found by words; None where they can."""
        return self.makers.words_state
