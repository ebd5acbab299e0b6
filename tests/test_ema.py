"""The moving average: its arithmetic, its swap and its state."""

import pytest
import torch
from conftest import make_branch, make_transformer
from safetensors.torch import load_file, save_file

from videopainter.errors import InputError
from videopainter.training.ema import EMAOptions, TrainedAverage


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    layer[1].requires_grad_(False)
    return layer


def walk(layer, average, steps, seed=1):
    """Random steps of the weights; gives the weights after each."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            layer[0].weight += torch.randn(layer[0].weight.shape, generator=generator).to(layer[0].weight)
        average.step()
        seen.append(layer[0].weight.detach().clone())
    return seen


def weight_of(average):
    return average.state_dict()["average.0.weight"]


@pytest.mark.parametrize(("decay", "update_after"), [(0.999, 0), (0.15, 0), (0.999, 3)])
def test_average_follows_its_formula(layer, decay, update_after):
    average = TrainedAverage(layer.named_parameters(), EMAOptions(ema_decay=decay, ema_update_after=update_after))
    seen = walk(layer, average, 8)

    expected = seen[0].double()
    for number, weight in enumerate(seen, start=1):
        n = number - update_after - 1
        share = min(decay, (1 + n) / (10 + n)) if n > 0 else 0.0
        expected = share * expected + (1 - share) * weight.double()
    torch.testing.assert_close(weight_of(average).double(), expected, rtol=0, atol=1e-5)


def test_only_trained_parameters_are_kept(layer):
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    assert set(average.state_dict()) == {"optimization_step", "average.0.weight", "average.0.bias"}


def test_small_steps_of_bfloat16_weights_are_not_lost(layer):
    """At decay 0.999 a distance of 1 moves the average by 0.001, which bfloat16 rounds away at 8."""
    layer.to(torch.bfloat16)
    with torch.no_grad():
        layer[0].weight.fill_(8.0)
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    state = {**average.state_dict(), "optimization_step": torch.tensor(100_000)}
    average.load_state_dict(state)
    with torch.no_grad():
        layer[0].weight.fill_(9.0)
    average.step()
    torch.testing.assert_close(weight_of(average), torch.full((3, 4), 8.001), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swap_shows_the_averages_and_gives_the_weights_back_to_the_bit(layer, dtype):
    layer.to(dtype)
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    walk(layer, average, 4)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}

    def broken_validation():
        with average.swap_in():
            assert torch.equal(layer[0].weight, weight_of(average).to(dtype))
            assert not torch.equal(layer[0].weight, before["0.weight"])
            assert torch.equal(layer[1].weight, before["1.weight"])
            raise RuntimeError("validation broke")

    with pytest.raises(RuntimeError, match="validation broke"):
        broken_validation()
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad == name.startswith("0.")


def test_saved_and_loaded_it_goes_on_to_the_bit(layer, tmp_path):
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    walk(layer, average, 5)
    save_file(average.state_dict(), tmp_path / "ema.safetensors")
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    walk(layer, average, 5, seed=2)
    expected = {name: value.clone() for name, value in average.state_dict().items()}

    layer.load_state_dict(weights)
    resumed = TrainedAverage(layer.named_parameters(), EMAOptions())
    resumed.load_state_dict(load_file(tmp_path / "ema.safetensors"))
    walk(layer, resumed, 5, seed=2)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_branch_is_averaged_and_a_frozen_backbone_is_not():
    transformer = make_transformer().requires_grad_(False)
    branch = make_branch(transformer).requires_grad_(True)
    model = torch.nn.ModuleDict({"transformer": transformer, "branch": branch})
    average = TrainedAverage(model.named_parameters(), EMAOptions())
    names = {name.removeprefix("average.") for name in average.state_dict()} - {"optimization_step"}
    assert names == {f"branch.{name}" for name, _ in branch.named_parameters()}


def test_states_that_do_not_fit_are_refused(layer):
    average = TrainedAverage(layer.named_parameters(), EMAOptions())
    state = average.state_dict()
    with pytest.raises(InputError, match=r"average\.0\.bias is missing"):
        average.load_state_dict({name: value for name, value in state.items() if name != "average.0.bias"})
    with pytest.raises(InputError, match=r"average\.9 is unknown"):
        average.load_state_dict({**state, "average.9": torch.zeros(1)})
    with pytest.raises(InputError, match=r"0\.weight: expected shape \(3, 4\), got \(2,\)"):
        average.load_state_dict({**state, "average.0.weight": torch.zeros(2)})


def test_nothing_to_average_and_bad_options_are_refused(layer):
    with pytest.raises(InputError, match="got none"):
        TrainedAverage(layer.requires_grad_(False).named_parameters(), EMAOptions())
    with pytest.raises(InputError, match="ema_decay"):
        EMAOptions(ema_decay=1.0)
    with pytest.raises(InputError, match="ema_update_after"):
        EMAOptions(ema_update_after=-1)


def test_whole_parameters_are_needed(layer):
    layer[0].weight.ds_id = 0  # as ZeRO stage 3 marks its own
    with pytest.raises(InputError, match="stage 3"):
        TrainedAverage(layer.named_parameters(), EMAOptions())


def test_the_average_is_of_the_weights_that_the_optimizer_works_on(layer):
    """Engines whose model holds bfloat16 copies give their float32 masters."""
    masters = [parameter.detach().clone() for parameter in layer[0].parameters()]
    average = TrainedAverage(layer.to(torch.bfloat16).named_parameters(), EMAOptions(ema_decay=0.0), lambda: masters)
    masters[0] += 1e-4
    average.step()
    assert torch.equal(weight_of(average), masters[0])
