"""Who makes masks and knows words in a process: loaded once, when first asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from videopainter.app.options import AppOptions
from videopainter.captions.backends import asks_somebody, check_backend
from videopainter.data.workers import processors
from videopainter.errors import InputError
from videopainter.segmentation.choosing import BUILTIN, SegmenterChoice, SegmenterOptions, choose_segmenter
from videopainter.segmentation.segmenter import Segmenter, TextBox, TextFinder


class MaskMakers:
    """The segmenter that the app's flags name, and who finds words; models answer one question at a time."""

    def __init__(self, options: AppOptions) -> None:
        self._options = SegmenterOptions(segmenter=options.segmenter, text_model=options.text_model)
        self._device = options.device
        self._lock = threading.RLock()
        self._places, self._held = threading.BoundedSemaphore(processors()), threading.local()

    @property
    def learned(self) -> bool:
        """Whether a model makes the masks, on the device, and not the built-in tracker."""
        return self._options.segmenter != BUILTIN

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A model's own state is not for two threads. The built-in tracker has none, but of many who click at once as
        many are answered as there are processors: the first soon, instead of all late."""
        if self.learned:
            with self._lock:
                yield
            return
        depth = getattr(self._held, "depth", 0)
        if not depth:
            self._places.acquire()
        self._held.depth = depth + 1
        try:
            yield
        finally:
            self._held.depth = depth
            if not depth:
                self._places.release()

    @cached_property
    def segmenter(self) -> Segmenter:
        """InputError where its weights are not there."""
        with self._lock:
            return choose_segmenter(self._options, words=False).load(self._device)[0]

    @property
    def finder(self) -> TextFinder:
        """Finds what words say; whoever that is is loaded by the first words."""
        return _LazyFinder(self)

    @cached_property
    def loaded_finder(self) -> TextFinder:
        with self._lock:
            choice = choose_segmenter(self._options, words=True)
            found = SegmenterChoice(segmenter=None, finder=choice.finder).load(self._device)[1]
            assert found is not None
            return found

    @property
    def words_state(self) -> str | None:
        """Why objects cannot be found by words; None where they can."""
        try:
            choose_segmenter(self._options, words=True)
        except InputError as error:
            return str(error)
        return None


class _LazyFinder:
    def __init__(self, makers: MaskMakers) -> None:
        self._makers = makers

    @property
    def identity(self) -> str:
        return self._makers.loaded_finder.identity

    def __call__(self, pixels: np.ndarray, words: str) -> Sequence[TextBox]:
        return self._makers.loaded_finder(pixels, words)


def captions_state(options: AppOptions) -> str | None:
    """Why nobody proposes captions; None where somebody does."""
    if not asks_somebody(options.llm_model):
        return "off: nobody writes captions; start the app with --llm_model (a server's model, a folder, or template)"
    try:
        check_backend(options.llm_model or "")
    except InputError as error:
        return str(error)
    return None
