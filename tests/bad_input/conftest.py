"""The folder of wrong files, made once."""

import pytest
from bad_input import wrong_files


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return wrong_files.make(tmp_path_factory.mktemp("wrong"))
