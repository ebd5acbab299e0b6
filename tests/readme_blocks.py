"""Code blocks of the documents, and what each needs to run."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "infer/README.md",
    "train/README.md",
    "train/BACKBONES.md",
    "evaluate/README.md",
    "ckpt/README.md",
    "comfyui/README.md",
    "data/README.md",
    "data_utils/README.md",
    "app/README.md",
]
# The second word of a fence, where its commands need more than a fresh clone after `make setup`: another environment,
# published weights (and the benchmark), a data folder of one's own, or the app at work.
NEEDS = {"", "setup", "weights", "data", "app"}


class Block(NamedTuple):
    document: str
    language: str
    needs: str
    code: str


def blocks(language: str, documents=DOCUMENTS) -> list[Block]:
    """The code blocks in that language, in the documents' order."""
    found = []
    for document in documents:
        text = (ROOT / document).read_text()
        for needs, code in re.findall(rf"^```{language}(?: (\w+))?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found.append(Block(document, language, needs, code))
    return found
