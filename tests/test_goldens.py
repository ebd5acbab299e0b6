"""Numbers of seeded random models, compared with stored ones: what no test of a property can tell, these notice.

A difference means that results of users change. Where that is meant: `python tests/goldens.py`, and say why.
"""

import pytest
import torch
from goldens import FILE, PIPELINES, TRAININGS, pipeline_latents, random_numbers, training_numbers
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def stored():
    return load_file(FILE)


def test_every_case_is_stored_and_differs(stored):
    names = {f"pipeline.{name}" for name in PIPELINES} | {f"training.{name}" for name in TRAININGS}
    assert set(stored) == names | {"random_numbers"}
    latents = [stored[f"pipeline.{name}"] for name in PIPELINES]
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(latents) for b in latents[:i])


def test_seeds_draw_the_same_numbers_here(stored):
    torch.testing.assert_close(random_numbers(), stored["random_numbers"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline(name, stored):
    torch.testing.assert_close(pipeline_latents(name), stored[f"pipeline.{name}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", TRAININGS)
def test_training(name, stored):
    torch.testing.assert_close(training_numbers(name), stored[f"training.{name}"], rtol=1e-4, atol=1e-5)
