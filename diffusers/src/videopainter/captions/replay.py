"""Answers that were given before, from a file: for tests, demos and repeating a run without asking anybody.

The file is a JSON list of notes, or a result's JSON, whose `captions` is such a list. A note answers a question of
its `kind` if the question says all that its `facts` say (a note without facts answers all of its kind); the first one
that does is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from videopainter.captions.questions import Question
from videopainter.errors import InputError
from videopainter.files import read_json, sha256_file


def read_replay(file: Path) -> list[dict[str, Any]]:
    """The notes in a file; InputError where it holds none, or others than `kind`, `text` and `facts`."""
    content = read_json(file)
    notes = content.get("captions") if isinstance(content, dict) else content
    if not isinstance(notes, list) or not notes:
        raise InputError(f"replay: expected a list of answers (or a result with `captions`), got none, in {file}")
    for note in notes:
        if (
            not isinstance(note, dict)
            or not isinstance(note.get("kind"), str)
            or not isinstance(note.get("text"), str)
            or not isinstance(note.get("facts", {}), dict)
        ):
            raise InputError(
                f'replay: expected {{"kind": ..., "facts": {{...}}, "text": ...}}, got {note!r:.80}, in {file}'
            )
    return notes


class ReplayBackend:
    """Answers from a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._notes = file, read_replay(file)
        self.name = f"replay {sha256_file(file)[:12]}"

    def ask(self, question: Question, complaint: str | None) -> str:
        for note in self._notes:
            facts = note.get("facts", {})
            if note["kind"] == question.kind and all(question.facts.get(key) == facts[key] for key in facts):
                if complaint is not None:  # the same again would not be better
                    raise InputError(f"replay: expected a usable answer, got one of which {complaint}, in {self._file}")
                return note["text"]
        asked = "; ".join(f"{key}: {value[:60]}" for key, value in question.facts.items())
        raise InputError(f"replay: expected an answer to `{question.kind}` ({asked}), got none, in {self._file}")

    def close(self) -> None:
        pass
