"""Attention shared out over two processes (gloo), with the second set of keys and values that ID resampling adds."""

import socket

import pytest
import torch
from conftest import clean_process, make_transformer

from videopainter.models.id_resample import HoleTokens, ResampleTokens

TEXT, VIDEO, WIDTH, HEAD = 4, 12, 32, 16


def attention_inputs():
    generator = torch.Generator().manual_seed(0)
    video, text = (torch.randn(2, length, WIDTH, generator=generator) for length in (VIDEO, TEXT))
    rotary = tuple(torch.randn(VIDEO, HEAD, generator=generator) for _ in range(2))
    hole = torch.zeros(2, VIDEO, dtype=torch.bool)
    hole[:, 3:8] = True  # three tokens of the first half, two of the second
    hole[1, 9:] = True  # samples differ: the smaller hole is padded
    return video, text, rotary, hole


@torch.no_grad()
def attend(form, share, processor_config=None):
    """Attention output (video, text) of the slice `share` of the tokens: (start, stop) in halves."""
    video, text, rotary, hole = attention_inputs()
    of_video, of_text = (slice(*(place * length // 2 for place in share)) for length in (VIDEO, TEXT))
    attn = make_transformer().transformer_blocks[0].attn1
    attn.processor._parallel_config = processor_config
    # As many places in every process, as they exchange them.
    tokens = HoleTokens.from_mask(hole[:, of_video], longest=(share[1] - share[0]) * VIDEO // 2)
    resample = None if form is None else ResampleTokens(tokens.index, tokens.valid, form)
    return attn(
        hidden_states=video[:, of_video],
        encoder_hidden_states=text[:, of_text],
        image_rotary_emb=tuple(table[of_video] for table in rotary),
        resample=resample,
    )


def one_of_two(rank, port, folder):
    from diffusers import ContextParallelConfig
    from diffusers.models._modeling_parallel import ParallelConfig
    from torch.distributed.device_mesh import init_device_mesh

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("ring", "ulysses"))
    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=2))
    config.setup(rank, 2, torch.device("cpu"), mesh=mesh)
    outputs = {form: attend(form, (rank, rank + 1), config) for form in (None, "exact", "compact")}
    torch.save(outputs, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [clean_process(one_of_two, rank, port, folder) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("form", [None, "exact", "compact"])
def test_shares_together_are_the_whole(halves, form):
    whole = attend(form, (0, 2))
    for place in (0, 1):
        together = torch.cat([half[form][place] for half in halves], dim=1)
        torch.testing.assert_close(together, whole[place], atol=1e-6, rtol=1e-5)
