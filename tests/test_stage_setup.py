"""What a stage loads: told where it cannot be, in whichever process, and let go afterwards."""

import pytest

from videopainter.errors import InputError
from videopainter.preparation.stages.running import run_stages
from videopainter.preparation.stages.schedulers import ProcessScheduler
from videopainter.preparation.stages.stage import Stage

ROWS = [{"id": str(k), "number": k} for k in range(3)]


class Loading(Stage):
    name, inputs, outputs = "loading", ("number",), ("loaded",)
    loaded = 0

    def settings(self):
        return {}

    def setup(self):
        Loading.loaded += 1

    def teardown(self):
        Loading.loaded -= 1

    def process(self, row):
        return [{"loaded": Loading.loaded}]


class Unloadable(Loading):
    def setup(self):
        raise InputError("expected weights that can be read, got others: weights.pth")


@pytest.mark.parametrize("processes", [1, 2])
def test_weights_that_cannot_be_read_are_told_in_their_own_words(tmp_path, processes):
    with pytest.raises(InputError, match=r"weights\.pth"):
        run_stages([Unloadable()], ROWS, tmp_path, ProcessScheduler(processes))


def test_models_are_there_for_all_rows_and_then_let_go(tmp_path):
    found = run_stages([Loading()], ROWS, tmp_path, ProcessScheduler(1))
    assert [row["loaded"] for row in found.rows] == [1, 1, 1] and Loading.loaded == 0
