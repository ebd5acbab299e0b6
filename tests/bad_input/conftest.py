"""The folder of wrong files, made once."""

import pytest
from bad_input import wrong_files

# Imported first: the time of a case is that of its answer.
import videopainter.cli.evaluate
import videopainter.cli.inpaint
import videopainter.cli.train  # noqa: F401


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return wrong_files.make(tmp_path_factory.mktemp("wrong"))
