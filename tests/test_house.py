"""The check of the house's plan finds what it is for."""

from pathlib import Path

import pytest

house = pytest.importorskip("house", reason="vulture is not installed: pip install -e 'diffusers[dev]'")


@pytest.fixture
def package(tmp_path) -> Path:
    """A package without anything wrong."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text("LIMIT, _STEP = 3, 1\n\n\ndef main():\n    return LIMIT, _STEP\n")
    (folder / "two.py").write_text(
        "from package.one import main as first\n\n\ndef main():\n    return first()\n\n\nmain()\n"
    )
    return folder


def test_nothing_to_say(package):
    assert [*house.crowded(package), *house.defined_twice(package), *house.unused(package, [])] == []


def test_a_crowded_room(package):
    for number in range(house.MOST_FILES - 2):
        (package / f"more{number}.py").touch()
    assert not list(house.crowded(package))
    (package / "last.py").touch()
    assert list(house.crowded(package)) == ["package: expected at most 14 files, got 15: make subfolders"]


@pytest.mark.parametrize("again", ["def LIMIT(): ...", "class LIMIT: ...", "LIMIT: int = 4", "OTHER, LIMIT = 1, 2"])
def test_a_name_with_two_meanings(package, again):
    (package / "three.py").write_text(again + "\n")
    assert list(house.defined_twice(package)) == [
        "LIMIT: expected one meaning, got 2: package/one.py, package/three.py"
    ]


def test_private_names_may_come_twice(package):
    (package / "three.py").write_text("_STEP = 2\n")
    assert not list(house.defined_twice(package))


def test_what_nobody_uses(package, tmp_path):
    (package / "three.py").write_text("def forgotten():\n    return 1\n")
    assert list(house.unused(package, [])) == ["package/three.py:1: unused function forgotten"]
    (tmp_path / "door.py").write_text("from package.three import forgotten\n\nforgotten()\n")
    assert not list(house.unused(package, [tmp_path / "door.py"]))
