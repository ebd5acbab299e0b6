"""What the app needs, as the overlay says it: its own dependencies, and those of its extras `app` and `edit`.

The package itself is taken from ../diffusers/src, where it lies: `pip install -e .` copies nothing.
"""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

OVERLAY = Path("../diffusers")

project = tomllib.loads((Path(__file__).parent / OVERLAY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]

setup(
    version=project["version"],
    install_requires=[*project["dependencies"], *extras["app"], *extras["edit"]],
    package_dir={"": str(OVERLAY / "src")},
    packages=find_packages(str(OVERLAY / "src")),
)
