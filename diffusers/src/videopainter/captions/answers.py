"""What comes back: which answers can be used, and the note that is kept of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from videopainter.captions.questions import NO_THINGS, WORDING_VERSION, Question
from videopainter.captions.template import is_of_kind
from videopainter.errors import InputError, one_line

# How models decline, and how they speak of themselves; at the start of an answer only, as captions may hold such words.
_REFUSAL = re.compile(
    r"(i['’]?m|i am|we are|we're)\s+(very\s+)?(sorry|afraid|unable|not able)|sorry\b|unfortunately\b|"
    r"i (must )?decline|i apologi[sz]e|as an? (ai|language|assistant)|n/?a\b|none\b|"
    r"(i|we)\s+(can(['’]t|not)|won['’]t|will not|do not have|don['’]t)\b|"
    r"there (is|are) no (outlined|red|visible|image|picture|region)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(sure|certainly|of course|here (is|are)|caption|description|answer)\b[^:\n]{0,60}:\s*", re.IGNORECASE
)
_OF_KIND = {
    "remove": '"Remove ..." and what is outlined, nothing else',
    "add": '"Add ..." and what',
    "swap": "what becomes what, neither an addition nor a removal",
    "change": "what becomes of it, neither an addition nor a removal",
}
_VERDICT = re.compile(r"(?P<word>yes|no)\b[\s,.:;–—-]*(?P<reason>.*)", re.IGNORECASE)
_KEY = "answer"
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
_THING = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*(?: [^\W\d_]+(?:['’-][^\W\d_]+)*){0,2}")
_ARTICLE = re.compile(r"^(a|an|the|some|two|three|several|many|\d+) ")
_NO_THING = (NO_THINGS, "none", "n/a")


class NobodyAnswers(InputError):
    """Why no question at all will be answered: no network, no key, no such model. Told once, not for every sample."""


class UnusableAnswer(ValueError):
    """Why an answer cannot be taken: said to the model when it is asked again, and to the user at the end."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A usable answer and where it is from. `key`: of all that was asked, pictures included; `cached`: from the disk,
    nobody was asked for it this time."""

    kind: str
    facts: Mapping[str, str]
    text: str
    model: str
    key: str
    cached: bool

    def note(self) -> dict[str, Any]:
        """For a result's JSON; a `replay` file is a list of such notes."""
        return asdict(self) | {"facts": dict(self.facts), "wording": WORDING_VERSION}


def plain(text: str, *, listed: bool = False) -> str:
    """The caption in what a model wrote: out of its JSON, its quotes and its preamble, on one line.

    listed: Whether it is a list of names; one with a line for each gets commas.
    """
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    if fenced := re.fullmatch(r"```(?:\w+)?\s*(.*?)\s*```", text, re.DOTALL):
        text = fenced[1]
    with suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            told = content.get(_KEY)
            content = told if isinstance(told, str) or (listed and isinstance(told, list)) else ""
        if isinstance(content, str):
            text = content
        elif listed and isinstance(content, list):
            text = ", ".join(str(one) for one in content)
    if listed:
        text = _commas(text)
    text = _LEAD.sub("", one_line(text) if text.strip() else "")
    return text.strip().strip('"“”').strip()


def _commas(text: str) -> str:
    """Lines of a list, without their marks, on one line; what leads up to them stays for `_LEAD`."""
    lines = [line for line in text.splitlines() if line.strip()]
    items = [_ITEM.sub("", line).strip().rstrip(",;.") for line in lines]
    lead = f"{items.pop(0)} " if len(items) > 1 and items[0].endswith(":") else ""
    return lead + ", ".join(items)


def things_of(text: str, most: int) -> list[str]:
    """The names in an answer to `things`, lower case, each once ("dogs" is "dog" again), the first `most` of them."""
    found: dict[str, str] = {}
    for part in re.split(r"[,;]|\band\b", text.strip().rstrip(".").lower()):
        name = _ARTICLE.sub("", " ".join(part.split()).strip("\"'“”"))
        if name and name not in _NO_THING:
            found.setdefault(re.sub(r"(?<=[^s])s$", "", name), name)
    return list(found.values())[:most]


def check_answer(question: Question, text: str) -> None:
    """Raises UnusableAnswer for what no caption is: empty, a refusal, too long, another script, a list or markup; for
    a verdict that is neither yes nor no, an instruction of another kind than was asked for, and for things that are
    not named by one to three words each."""
    words = text.split()
    if not words:
        raise UnusableAnswer("it is empty")
    if question.kind == "things" and text.strip(". ").lower() in _NO_THING:
        return
    if _REFUSAL.match(text):
        raise UnusableAnswer(f"it is a refusal ({_short(text)})")
    if len(words) > question.most_words:
        raise UnusableAnswer(f"it has {len(words)} words, expected at most {question.most_words}")
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() or "À" <= letter <= "ɏ" for letter in letters)
    if latin < 0.8 * max(len(letters), 1) or not letters:
        raise UnusableAnswer(f"it is not in English ({_short(text)})")
    if re.search(r"[{}<>|*]|https?://|^[-•#] ", text):
        raise UnusableAnswer(f"it is no plain text ({_short(text)})")
    if question.kind == "things":
        long = [name for name in things_of(text, len(words)) if not _THING.fullmatch(name)]
        if long:
            raise UnusableAnswer(f"it is no list of short nouns with commas between ({_short(long[0])})")
    if question.kind == "verdict" and not _VERDICT.fullmatch(text):
        raise UnusableAnswer("it begins with neither yes nor no")
    if question.kind == "instruction" and not is_of_kind(text, kind := question.facts["kind"]):
        raise UnusableAnswer(f"it is not of kind {kind}: it was to say {_OF_KIND[kind]}")


def verdict_of(text: str) -> tuple[bool, str]:
    """What a usable answer to `verdict` says: whether the edit was carried out, and why not."""
    found = _VERDICT.fullmatch(text)
    assert found is not None
    return found["word"].lower() == "yes", found["reason"]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
