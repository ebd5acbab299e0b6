"""The ComfyUI nodes: their schemas, whole workflows, and what they refuse.

With COMFYUI_PATH (a checkout of ComfyUI, its requirements installed) in its own classes; without, in a stand-in of its
V3 schema (`comfy_stand_in/`), as ComfyUI is in no package registry.
"""

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videopainter.errors import InputError

REPO = Path(__file__).resolve().parents[1]
COMFYUI = os.environ.get("COMFYUI_PATH")
SQUARE = "8,20,28,44"
# What ComfyUI itself has in the example workflows.
CORE = {
    "LoadVideo": (["file"], ["VIDEO"]),
    "GetVideoComponents": (["video"], ["images", "audio", "fps"]),
    "CreateVideo": (["images", "audio", "fps"], ["VIDEO"]),
    "SaveVideo": (["video", "filename_prefix", "format", "codec"], []),
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """{node id: class}, loaded as ComfyUI loads a folder of custom nodes."""
    place = COMFYUI or str(REPO / "tests" / "comfy_stand_in")
    sys.path.insert(0, place)
    try:
        import folder_paths  # pyright: ignore[reportMissingImports]

        folder = tmp_path_factory.mktemp("temporary")
        folder_paths.get_temp_directory = lambda: str(folder)
        file = REPO / "comfyui" / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            "nodes_of_ours", file, submodule_search_locations=[str(file.parent)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["nodes_of_ours"] = module
        spec.loader.exec_module(module)
        classes = asyncio.run(_classes(module))
        yield {one.define_schema().node_id: one for one in classes}
    finally:
        sys.path.remove(place)


async def _classes(module):
    return await (await module.comfy_entrypoint()).get_node_list()


@pytest.fixture(scope="module")
def images():
    """A square that moves to the right over a still picture: IMAGE of nine frames of 64x96, not of 8 bits."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(8, 12, 3, generator=generator) * 0.4 + 0.2
    frames = small.repeat_interleave(8, 0).repeat_interleave(8, 1).expand(9, -1, -1, -1).clone()
    for t in range(9):
        frames[t, 20:44, 8 + 6 * t : 28 + 6 * t] = torch.tensor([0.9, 0.24, 0.16])
    return frames


@pytest.fixture(scope="module")
def masks(images):
    masks = torch.zeros(images.shape[:3])
    for t in range(9):
        masks[t, 18:46, 6 + 6 * t : 30 + 6 * t] = 1.0
    return masks


def call(node, **given):
    """A node's outputs, with the defaults of its widgets, as ComfyUI calls it."""
    schema = node.define_schema()
    values = {one.id: one.default for one in schema.inputs if hasattr(one, "default")}
    assert set(given) <= {one.id for one in schema.inputs}
    return node.execute(**values | given).args


def quick(nodes, **options):
    return call(nodes["VideoPainterOptions"], num_inference_steps=1, guidance_scale=1.0, **options)[0]


def reddish(frames):
    return (frames[..., 0] > 0.7) & (frames[..., 1] < 0.35)


def test_a_box_and_a_removal_take_the_square_away(nodes, images):
    (mask,) = call(nodes["VideoPainterSegment"], images=images, box=SQUARE)
    assert mask.shape == images.shape[:3] and mask.dtype == torch.float32
    assert mask[reddish(images)].mean() > 0.9
    result, record = call(nodes["VideoPainterRemove"], images=images, mask=mask)
    assert result.shape == images.shape and result.dtype == torch.float32
    assert reddish(result).float().mean() < 0.002
    assert json.loads(record)["recipe"]["propagation"]["propagate"] == "only"
    far = torch.zeros(64, 96, dtype=torch.bool)
    far[:10], far[-10:] = True, True
    assert torch.equal(result[:, far], images[:, far]), "what is not painted keeps the images' own numbers"


def test_what_is_painted_depends_on_the_prompt_and_the_seed(nodes, images, masks):
    models, options = call(nodes["VideoPainterModels"])[0], quick(nodes, dilate_size=3)
    given = {"images": images, "mask": masks, "models": models, "options": options}
    first, record = call(nodes["VideoPainterInpaint"], **given, prompt="A plain wall.\nNothing else.")
    assert json.loads(record)["recipe"]["prompts"]["video"] == "A plain wall. Nothing else."
    assert json.loads(record)["recipe"]["settings"]["num_inference_steps"] == 1
    again, same = call(nodes["VideoPainterInpaint"], **given, prompt="A plain wall. Nothing else.")
    assert torch.equal(first, again) and record == same, "made once"
    other, _ = call(nodes["VideoPainterInpaint"], **given, prompt="A plain wall. Nothing else.", seed=7)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_models_are_kept_but_not_where_comfyui_needs_the_room(on_gpu, nodes, monkeypatch):
    work = sys.modules["nodes_of_ours.work"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_gpu)
    with work._models() as loaded:
        loaded.key, loaded.pipe = "models", object()
    assert (loaded.pipe is None) == on_gpu and bool(loaded.key) != on_gpu
    loaded.release()


def test_one_mask_serves_for_all_frames_and_a_first_frame_is_taken(nodes, images):
    mask = torch.zeros(1, 64, 96)
    mask[:, 10:54, 4:90] = 1.0
    picture = torch.where(mask[..., None] > 0, torch.tensor([0.2, 0.4, 0.8]), images[:1])
    models, options = call(nodes["VideoPainterModels"])[0], quick(nodes)
    result, _ = call(
        nodes["VideoPainterEdit"],
        **{"images": images, "mask": mask, "models": models, "options": options, "first_frame": picture},
        instruction="make it a blue wall",
        prompt="A blue wall.",
        image_prompt="A wall.",
    )
    hole = mask[0].bool()
    assert (result[0][hole] - picture[0][hole]).abs().max() < 0.01
    assert not torch.equal(result[5][hole], images[5][hole])
    assert torch.equal(result[:, ~hole], images[:, ~hole])


@pytest.mark.parametrize("name", sorted(file.stem for file in (REPO / "comfyui" / "example_workflows").glob("*.json")))
def test_an_example_workflow_fits_the_nodes_and_runs(name, nodes, images):
    workflow = json.loads((REPO / "comfyui" / "example_workflows" / f"{name}.json").read_text())
    by_id = {node["id"]: node for node in workflow["nodes"]}
    made, links = {}, {link[0]: link for link in workflow["links"]}
    for node in sorted(workflow["nodes"], key=lambda one: one["order"]):
        given = {}
        for slot in node["inputs"]:
            if slot["link"] is None:
                continue
            _, source, number, target, _, kind = links[slot["link"]]
            output = by_id[source]["outputs"][number]
            assert target == node["id"] and output["type"] == slot["type"] == kind
            given[slot["name"]] = made[source][number]
        made[node["id"]] = _run(nodes, node, given, images)
    (saved,) = [made[node["id"]] for node in workflow["nodes"] if node["type"] == "SaveVideo"]
    assert saved.shape == images.shape and not torch.equal(saved, images)


def _run(nodes, node, given, images):
    if node["type"] in CORE:
        names, outputs = CORE[node["type"]]
        assert set(given) <= set(names) and [one["name"] for one in node["outputs"]] == outputs
        return {
            "LoadVideo": lambda: [images],
            "GetVideoComponents": lambda: [given["video"], None, 8.0],
            "CreateVideo": lambda: [given["images"]],
            "SaveVideo": lambda: given["video"],
        }[node["type"]]()
    schema = nodes[node["type"]].define_schema()
    values = iter(node["widgets_values"])
    widgets = {}
    for one in schema.inputs:
        if hasattr(one, "default"):
            widgets[one.id] = next(values)
            if not COMFYUI:
                one.check(widgets[one.id])
            if getattr(one, "control_after_generate", None):
                assert next(values) in ("fixed", "increment", "decrement", "randomize")
    assert next(values, None) is None, "as many values as widgets"
    sockets = [(one.id, one.io_type) for one in schema.inputs if one.id not in widgets]
    assert [(one["name"], one["type"]) for one in node["inputs"]] == sockets
    assert [one["type"] for one in node["outputs"]] == [one.io_type for one in schema.outputs]
    if "box" in widgets:  # that of another video
        widgets["box"] = SQUARE
    if "num_inference_steps" in widgets:
        widgets["num_inference_steps"] = 1
    return nodes[node["type"]].execute(**widgets | given).args


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.zeros(9, 64, 96, 4)}, "expected an IMAGE of shape (frames, height, width, 3), got (9, 64"),
        ({"images": torch.zeros(0, 64, 96, 3)}, "expected an IMAGE of shape"),
        ({"images": torch.full((9, 64, 96, 3), torch.nan)}, "expected finite numbers"),
        ({"mask": torch.zeros(1, 64, 64)}, "got 1 of 64x64 (what a loader gives for a picture without alpha)"),
        ({"mask": torch.ones(4, 64, 96)}, "expected 1 or 9 of 96x64 pixels, as the images, got 4 of 96x64"),
        ({"mask": torch.ones(9, 96, 64)}, "got 9 of 64x96"),
        ({"mask": torch.ones(64, 96)}, "expected 1 or 9 of 96x64 pixels, as the images, got (64, 96)"),
        ({"mask": torch.zeros(9, 64, 96)}, "mask"),
        ({"models": ("--model_path=/nowhere",)}, "/nowhere"),
        ({"options": ("--height=64",)}, "expected both height and width"),
        ({"first_frame": torch.zeros(1, 96, 64, 3)}, "does not fit a video of 96x64"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_a_model_loads(change, said, nodes, images, masks):
    given = {"images": images, "mask": masks, "models": (), "options": ()} | change
    with pytest.raises((InputError, ValueError)) as error:
        call(nodes["VideoPainterInpaint"], **given, prompt="A wall.")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_flag_is_the_same_in_a_node_as_in_the_script(nodes):
    """Its default changes nothing; what a script refuses, a node hands on to be refused."""
    for name in ("VideoPainterModels", "VideoPainterOptions"):
        assert call(nodes[name]) == ((),)
    words = call(nodes["VideoPainterOptions"], mask_add=False, height=64, width=96, mask_shape="box")[0]
    assert words == ("--height=64", "--width=96", "--mask_shape=box", "--mask_add=false")
    assert call(nodes["VideoPainterModels"], model_path="a b", dtype="float16")[0] == (
        "--model_path=a b",
        "--dtype=float16",
    )


@pytest.mark.slow
@pytest.mark.skipif(COMFYUI is not None, reason="the stand-in remembers what bars showed")
def test_stop_keeps_what_is_finished_and_the_bar_tells_how_far_it_is(nodes, images, masks, tmp_path):
    import comfy.model_management as management  # pyright: ignore[reportMissingImports]
    import comfy.utils  # pyright: ignore[reportMissingImports]

    long, holes = torch.cat([images, images.flip(0)]), torch.cat([masks, masks.flip(0)])
    models = call(nodes["VideoPainterModels"])[0]
    options = call(nodes["VideoPainterOptions"], num_inference_steps=2, guidance_scale=1.0, inpainting_frames=9)[0]
    given = {"images": long, "mask": holes, "models": models, "options": options, "prompt": "A wall."}
    expected, _ = call(nodes["VideoPainterInpaint"], **given)

    update, stopped = comfy.utils.ProgressBar.update_absolute, []

    def stopping(bar, value, total=None, preview=None):
        update(bar, value, total, preview)
        if total == 6 and value == 5 and not stopped:  # in the third of three windows
            stopped.append(value)
            management.interrupt_current_processing()

    comfy.utils.shown.clear()
    comfy.utils.ProgressBar.update_absolute = stopping
    try:
        with pytest.raises(management.InterruptProcessingException):
            call(nodes["VideoPainterInpaint"], **given, work_folder=str(tmp_path))
    finally:
        comfy.utils.ProgressBar.update_absolute = update
    assert [done for done, total, _ in comfy.utils.shown if total == 6] == [1, 2, 3, 4, 5]
    assert any(preview is not None for *_, preview in comfy.utils.shown)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2, "two windows are kept"
    comfy.utils.shown.clear()
    resumed, record = call(nodes["VideoPainterInpaint"], **given, work_folder=str(tmp_path))
    assert json.loads(record)["resumed"] and torch.equal(resumed, expected)
    assert [done for done, total, _ in comfy.utils.shown if total == 6] == [5, 6]


def test_half_a_hole_counts_from_the_middle_on(nodes, images):
    module = sys.modules["nodes_of_ours.exchange"]
    mask = torch.full((9, 64, 96), 0.49)
    mask[3, 5, 7] = 0.5
    file = module.write_mask(mask, images, Path(sys.modules["nodes_of_ours.host"].work_folder("")))
    with np.load(file) as stored:
        assert np.argwhere(stored["arr_0"]).tolist() == [[3, 5, 7]]
