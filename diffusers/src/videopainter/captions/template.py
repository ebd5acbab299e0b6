"""Rules instead of a model: what can be said of an edit from its words alone. Sees no picture."""

from __future__ import annotations

import re

from videopainter.captions.questions import Question
from videopainter.errors import InputError

_ARTICLE = r"(?:the|a|an|his|her|its|their|this|that)\s+"
_SWAP = re.compile(
    r"^(?:change|replace|turn|swap|transform|convert|make)\s+(?P<old>.+?)\s+"
    r"(?:to|into|with|by|for|as)\s+(?P<new>.+)$",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"^(?:make|paint|dye|colou?r)\s+(?P<old>.+?)\s+(?P<new>\w+)$", re.IGNORECASE)
_REMOVE = re.compile(r"^(?:remove|delete|erase|take away|get rid of)\s+(?P<old>.+)$", re.IGNORECASE)
_ADD = re.compile(r"^(?:add|put|insert|place)\s+(?P<new>.+)$", re.IGNORECASE)
_COLOURS = frozenset(
    ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey", "gray", "golden")
)
# "Remove the ball and put a star there" and "remove the logo from the shirt" paint something new.
_NOT_ONLY_REMOVED = re.compile(r"\b(?:and|then|but)\b|,|\bfrom\b|\bof\b|'s\b", re.IGNORECASE)
# The same of one that was asked to name what is outlined, and nothing else: "the man's hat", "the old, red car".
_ALSO = r"add|change|colou?r|draw|fill|give|insert|make|paint|place|put|replace|set|show|substitute|swap|turn|use"
_ALSO_DOES = re.compile(
    rf"(?:\b(?:and|then|but|by)|[,.;:!])\s+(?:(?:and|then|also|instead)\s+)*(?:{_ALSO}|adding|placing|putting|"
    r"replacing|substituting|swapping)\b|^(?:the\s+)?(?:\w+\s+)?colou?rs?\s+(?:from|of)\b",
    re.IGNORECASE,
)
_REMAINS = "the background, as it goes on around it"


class TemplateBackend:
    """Rewrites captions by the words of an instruction."""

    name = "template 1"

    def ask(self, question: Question, complaint: str | None) -> str:
        if complaint is not None:
            raise InputError(f"template: expected a usable answer to `{question.kind}`, got one of which {complaint}")
        facts = question.facts
        if question.kind == "hole":
            return _first_words(facts["caption"], question.most_words) or _REMAINS
        if question.kind == "rewrite":
            return rewritten(facts["caption"], facts["instruction"])
        if question.kind == "region":
            return _first_words(region(facts["instruction"]), question.most_words)
        if question.kind in ("video", "object") and facts.get("measured"):
            return _first_words(facts["measured"], question.most_words)
        wanted = "a vision-language model (a folder, transformers:ID, or a server's model)"
        raise InputError(
            f"--llm_model template: expected {wanted} to answer `{question.kind}`, got rules that see nothing"
        )

    def close(self) -> None:
        pass


def kind_of(instruction: str) -> str | None:
    """What an instruction asks for: add, remove, or exchange one thing (or property) for another; None if unclear."""
    instruction = _bare_words(instruction)
    if _REMOVE.match(instruction):
        return "remove" if _removed(instruction) else None
    if _ADD.match(instruction):
        return "add"
    return "exchange" if _SWAP.match(instruction) or _COLOUR.match(instruction) else None


def is_of_kind(instruction: str, kind: str) -> bool:
    """Whether an instruction does what one of a kind (add, remove, swap, change) was to do, as far as words tell."""
    match = _REMOVE.match(_bare_words(instruction))
    removes = match is not None and not _ALSO_DOES.search(match["old"])
    if kind == "remove":
        return removes
    is_add = kind_of(instruction) == "add"
    return is_add if kind == "add" else not (removes or is_add)


def rewritten(caption: str, instruction: str) -> str:
    """The caption with an instruction carried out; the instruction is added where it does not name what is there."""
    caption, instruction = caption.strip(), _bare_words(instruction)
    if old := _removed(instruction):
        return _without(caption, old)
    if match := _SWAP.match(instruction):
        return _exchanged(caption, match["old"], match["new"])
    if match := _COLOUR.match(instruction):
        return _exchanged(caption, match["old"], _recoloured(match["old"], match["new"]))
    if match := _ADD.match(instruction):
        return _joined(caption, f"There is {_with_article(match['new'])}")
    return _joined(caption, instruction[:1].upper() + instruction[1:])


def region(instruction: str) -> str:
    """What is seen where the instruction was carried out."""
    instruction = _bare_words(instruction)
    if _removed(instruction):
        return _REMAINS
    if match := _SWAP.match(instruction):
        return _with_article(match["new"])
    if match := _COLOUR.match(instruction):
        return _with_article(_recoloured(match["old"], match["new"]))
    if match := _ADD.match(instruction):
        return _with_article(match["new"])
    return instruction


def _bare_words(instruction: str) -> str:
    words = " ".join(instruction.split()).rstrip(".!?")
    words = re.sub(r" from (?:the|this) (?:video|scene|image|picture|frame|clip)$", "", words, flags=re.IGNORECASE)
    return re.sub(r"^(?:(?:can|could|would) you )?(?:please,? )?", "", words, flags=re.IGNORECASE)


def _recoloured(old: str, new: str) -> str:
    """`blue coat` of `the red coat`; a property that is no colour stands before what there is."""
    kept = [word for word in _noun(old).split() if new.lower() not in _COLOURS or word.lower() not in _COLOURS]
    return " ".join([new, *kept])


def _removed(instruction: str) -> str | None:
    """What a removal takes away; None for what is none, or paints something new as well."""
    match = _REMOVE.match(instruction)
    return None if match is None or _NOT_ONLY_REMOVED.search(match["old"]) else match["old"]


def _noun(phrase: str) -> str:
    return re.sub(rf"^{_ARTICLE}", "", phrase, flags=re.IGNORECASE)


def _phrase(words: str) -> re.Pattern[str]:
    """The phrase in a caption, with whatever article."""
    return re.compile(rf"\b(?:{_ARTICLE})?{re.escape(_noun(words))}\b", re.IGNORECASE)


def _exchanged(caption: str, old: str, new: str) -> str:
    edited, count = _phrase(old).subn(lambda found: _in_place(found[0], new), caption)
    return edited if count else _joined(caption, f"There is {_with_article(new)}")


def _in_place(found: str, new: str) -> str:
    """The new phrase as the old one stood: capital and kind of article."""
    noun = _noun(new)
    first = found.split()[0].lower()
    told = f"the {noun}" if first == "the" else _with_article(new) if first in ("a", "an") else noun
    return told[:1].upper() + told[1:] if found[:1].isupper() else told


def _with_article(phrase: str) -> str:
    if re.match(_ARTICLE, phrase, re.IGNORECASE) or phrase.split()[0].endswith("s"):
        return phrase
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def _without(caption: str, old: str) -> str:
    """The sentences that do not speak of what is gone; where all do, a word that it is."""
    phrase = _phrase(old)
    kept = [part for part in re.split(r"(?<=[.!?])\s+", caption) if not phrase.search(part)]
    return " ".join(kept) or f"The scene without {_definite(old)}."


def _definite(phrase: str) -> str:
    return phrase if re.match(_ARTICLE, phrase, re.IGNORECASE) else f"the {phrase}"


def _joined(caption: str, sentence: str) -> str:
    if not caption:
        return f"{sentence}."
    return f"{caption.rstrip('.')}. {sentence}."


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])
