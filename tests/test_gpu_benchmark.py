"""`benchmarks/gpu.py` at tiny size: what is to run on a GPU the first time runs here."""

import json
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

CASES = {
    "memory": ("group_offload",),
    "quantization": ("int8", "nf4"),
    "id": ("compact, two windows handed on",),
    "cache": ("taylorseer",),
    "attention": ("native", "sage"),
    "frames": ("twice the frames, windows that overlap",),
    "training": ("ID adapter, encoded on the fly", "branch, latent cache"),
    "decode": ("one window, tiled",),
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.delitem(sys.modules, "gpu", raising=False)
    import gpu

    AcceleratorState._reset_state(True)

    def run(*flags):
        common = ("--size", "tiny", "--device", "cpu", "--steps", "2", "--output", str(tmp_path / "gpu.json"))
        capsys.readouterr()
        assert gpu.main([*common, *flags]) == 0
        return capsys.readouterr().out, tmp_path / "gpu.json"

    yield run
    AcceleratorState._reset_state(True)


def chosen():
    for part, names in CASES.items():
        yield from ("--part", part)
        for name in names:
            yield from ("--case", name)


@pytest.mark.slow
def test_every_kind_of_case_runs_and_a_failure_is_a_row(run):
    pytest.importorskip("torchao", reason="the extra `quant` is not installed")
    pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")
    _, path = run(*chosen())
    rows = {(row["part"], row["name"]): row for row in json.loads(path.read_text())["rows"]}
    assert set(rows) == {(part, name) for part, names in CASES.items() for name in names}
    failed = rows.pop(("attention", "sage"))
    assert "sageattention" in failed["error"]
    for (part, _), row in rows.items():
        assert row["peak_gib"] > 0 and row["frame_s" if part == "decode" else "step_s"] > 0
        assert part == "training" or row["first_frame_s"] > 0
    tables = path.with_suffix(".md").read_text()
    assert all(f"### {part}" in tables for part in CASES)
    assert "| sage |  |  |" in tables

    # Going on: what is there is not measured again, what failed is; another size is refused.
    out, _ = run(*(word for name in ("native", "sage") for word in ("--case", name)))
    assert "sage" in out and "native" not in out and "done" in out
    out, _ = run("--minutes", "0")
    assert out.strip().endswith("cases left: call again")
    with pytest.raises(SystemExit, match="figures of size tiny, this is 5b"):
        run("--size", "5b")
