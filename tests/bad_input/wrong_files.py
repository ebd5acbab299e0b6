"""A folder of good files and of many that are wrong, each in its own way; made once."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from videopainter.data.video.writer import VideoWriter

FRAMES, HEIGHT, WIDTH = 10, 48, 64
TINY = Path(__file__).resolve().parents[2] / "ckpt/tiny"


def make(root: Path) -> Path:
    """Everything below `root`."""
    _videos(root)
    _masks(root)
    _images(root)
    _places(root)
    _tables(root)
    _models(root)
    _summaries(root)
    return root


# ---- videos and masks


def write_video(path: Path, frames: np.ndarray, fps: int = 8) -> Path:
    with VideoWriter(path, fps=fps) as writer:
        writer.write(frames)
    return path


def noise(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8)


def box(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    masks = np.zeros((count, height, width, 3), np.uint8)
    masks[:, height // 4 : height // 2, width // 4 : width // 2] = 255
    return masks


def _videos(root: Path) -> None:
    video = write_video(root / "video.mp4", noise(FRAMES))
    write_video(root / "one_frame.mp4", noise(1))
    write_video(root / "odd.mp4", noise(FRAMES, 47, 63))
    write_video(root / "tall.mp4", noise(FRAMES, 64, 48))
    whole = video.read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "first_bytes.mp4").write_bytes(whole[:40])
    damaged = bytearray(whole)
    middle = whole.index(b"mdat") + 200
    damaged[middle : middle + 2000] = os.urandom(2000)
    (root / "damaged.mp4").write_bytes(damaged)
    (root / "text.mp4").write_text("not a video at all\n" * 50)
    (root / "random.mp4").write_bytes(np.random.default_rng(1).bytes(4096))
    (root / "nothing.mp4").touch()
    shutil.copy(video, root / "a video, ünï 🎞.mp4")
    shutil.copy(video, root / "video.xyz")
    (root / "playlist.m3u8").write_text("#EXTM3U\nhttp://localhost:1/x.ts\n")
    _sound_only(root / "sound_only.mp4")
    (root / "regular_file").write_text("a file")


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _masks(root: Path) -> None:
    write_video(root / "mask.mp4", box(FRAMES))
    write_video(root / "mask_short.mp4", box(FRAMES - 3))
    write_video(root / "mask_long.mp4", box(FRAMES + 3))
    write_video(root / "mask_tall.mp4", box(FRAMES, height=96))
    write_video(root / "mask_empty.mp4", np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    ids = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    ids[:, 10:20, 10:30] = 3
    np.savez(root / "ids.npz", ids)
    two = ids.copy()
    two[:, 30:40, 10:30] = 5
    np.savez_compressed(root / "two_ids.npz", two)
    np.savez(root / "no_ids.npz", np.zeros_like(ids))
    np.savez(root / "float_ids.npz", ids.astype(np.float32))
    np.savez(root / "flat_ids.npz", ids[0])
    np.savez(root / "other_names.npz", a=ids, b=ids)
    np.savez(root / "objects.npz", np.array([{"a": 1}], dtype=object))
    np.savez(root / "short_ids.npz", ids[:5])
    np.savez(root / "small_ids.npz", ids[:, :10])
    whole = (root / "ids.npz").read_bytes()
    (root / "cut_ids.npz").write_bytes(whole[: len(whole) // 2])
    packed = bytearray((root / "two_ids.npz").read_bytes())
    packed[200:230] = bytes(30)
    (root / "damaged_ids.npz").write_bytes(packed)
    (root / "text.npz").write_text("not an archive")
    (root / "text.npy").write_text("not an array")
    _bomb(root / "bomb.npz", (1000, 4000, 1000))
    _bomb(root / "huge_shape.npz", (10**6, 10**6, 10**6), frames=1)
    _bomb(root / "negative_shape.npz", (-1, 48, 64), frames=1)
    _bomb(root / "bomb_that_fits.npz", (10, 48_000, 64_000), frames=3000)
    _bomb(root / "locked.npz", (10, 48, 64), frames=1, flags=1)
    _bomb(root / "long_header.npz", (10, 48, 64), frames=4000, version=b"\x02\x00")


def _bomb(path: Path, shape: tuple[int, ...], frames: int = 0, *, flags: int = 0, version: bytes = b"\x01\x00") -> None:
    """An npz of that shape that is small on disk; `frames` pieces of a megabyte are in it (0: all of it)."""
    header = str({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    count = frames or -(-int(np.prod(shape, dtype=np.int64)) // 2**20)
    length = struct.pack("<H", len(header))
    # The same compressed megabyte again and again: four gigabytes are made in milliseconds.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(b"\x93NUMPY" + version + (length if version[0] == 1 else bytes([0, 0, 0, 240])) + header)
    start += packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = start + piece * count + b"\x03\x00"
    size = 10 + len(header) + count * 2**20
    _write_zip(path, "arr_0.npy", body, size, flags)


def _write_zip(path: Path, name: str, body: bytes, size: int, flags: int) -> None:
    """One member of given compressed bytes; its checksum is wrong, which nobody gets to compare."""
    head = struct.pack("<HHHHHIIIHH", 20, flags, 8, 0, 0, 0, len(body), size % 2**32, len(name), 0)
    local = b"PK\x03\x04" + head + name.encode()
    central = b"PK\x01\x02" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local) + len(body), 0)
    path.write_bytes(local + body + central + end)
    assert zipfile.is_zipfile(path)


def _images(root: Path) -> None:
    Image.fromarray(box(1)[0]).save(root / "mask.png")
    Image.fromarray(np.zeros((20, 90, 3), np.uint8)).save(root / "wide.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(root / "mask_empty.png")
    clear = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    clear[10:20, 10:20] = 255
    Image.fromarray(clear, "RGBA").save(root / "transparent.png")
    whole = (root / "mask.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.png").write_text("not an image")
    for name, size in (("million.png", 10**6), ("large.png", 30_000)):
        empty_png(root / name, size, size)
    mixed = root / "mixed_sizes"
    mixed.mkdir()
    for number, height in enumerate([HEIGHT] * 3 + [20]):
        Image.fromarray(noise(1, height=height)[0]).save(mixed / f"{number}.png")
    some = root / "frames"
    some.mkdir()
    for number in range(3):
        Image.fromarray(noise(1)[0]).save(some / f"{number}.png")
    shutil.copytree(some, root / "frames_good")
    (some / "1.png").write_bytes(b"")
    (root / "ratios_nan.json").write_text("[1.0, NaN]")
    (root / "ratios_text.json").write_text("[")
    (root / "no_images").mkdir()


def empty_png(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


# ---- places


def _places(root: Path) -> None:
    (root / "loop.mp4").symlink_to("loop.mp4")
    (root / "loop_folder").symlink_to("loop_folder")
    (root / "dangling.mp4").symlink_to("nowhere.mp4")
    (root / "folder.mp4").mkdir()
    (root / "folder.csv").mkdir()
    (root / "folder.png").mkdir()
    (root / "folder.npz").mkdir()
    (root / "folder.safetensors").mkdir()
    os.mkfifo(root / "pipe.mp4")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe.csv")


# ---- tables

ROW = "000000001000.0.mp4,0,10,8,3"
COLUMNS = "path,start_frame,end_frame,fps,mask_id,caption"


def _tables(root: Path) -> None:
    bench = root / "bench"
    videos = bench / "videovo/raw_video/000000001"
    masks = bench / "video_inpainting/videovo/000000001000"
    videos.mkdir(parents=True)
    masks.mkdir(parents=True)
    shutil.copy(root / "video.mp4", videos / "000000001000.0.mp4")
    shutil.copy(root / "ids.npz", masks / "all_masks.npz")
    caption = "a caption of more than fifty characters as the rules of training want it to be"

    def table(name: str, *rows: str, columns: str = COLUMNS) -> None:
        (bench / name).write_bytes("\n".join([columns, *rows, ""]).encode("utf-8", "surrogateescape"))

    table("good.csv", f"{ROW},{caption}")
    table("no_mask_id.csv", f"000000001000.0.mp4,0,10,8,{caption}", columns=COLUMNS.replace(",mask_id", ""))
    table("no_caption.csv", ROW, columns=COLUMNS.replace(",caption", ""))
    table("no_rows.csv")
    table("missing_video.csv", f"000000009000.0.mp4,0,9,8,3,{caption}")
    for column, at in (("start_frame", 1), ("end_frame", 2), ("fps", 3), ("mask_id", 4)):
        for value in ("nan", "inf", "-1", "1e400", "many", "1.5", "99999999999999999999999", ""):
            cells = ROW.split(",")
            cells[at] = value
            table(f"{column}={value}.csv", ",".join([*cells, caption]))
    for name, path in (
        ("path_up", "../../x.mp4"), ("path_absolute", "/etc/x.mp4"), ("path_no_mp4", "video.avi"), ("path_empty", ""),
        ("path_long", "x" * 300 + ".mp4"), ("path_nul", "a\0b.0.mp4"),
        ("path_short", ".0.mp4"), ("path_dots", "...mp4"),
    ):  # fmt: skip
        table(f"{name}.csv", f"{path},0,10,8,3,{caption}")
    table("nul.csv", f"{ROW},{caption}\0{caption}")
    table("latin.csv", f"{ROW},caf\udce9 {caption}")
    table("quotes.csv", f'{ROW},"{caption}')
    table("more_cells.csv", f"{ROW},{caption}", f"{ROW},{caption},1,2,3,4")
    table("one_more_cell.csv", f"{ROW},{caption}, with a comma in it")
    table("twice.csv", f"{ROW},{caption},{caption}", columns=f"{COLUMNS},caption")
    table("reverse.csv", f"000000001000.0.mp4,8,3,8,3,{caption}")
    table("behind.csv", f"000000001000.0.mp4,50,90,8,3,{caption}")
    table("short_captions.csv", f"{ROW},short")
    table("davis_up.csv", "0,../../etc,a,b", columns="Video_Index,Video_Name,Video_Caption,Masked_Target_Caption")
    table("davis_gone.csv", "0,gone,a,b", columns="Video_Index,Video_Name,Video_Caption,Masked_Target_Caption")
    table("davis_nul.csv", "0,a\0b,a,b", columns="Video_Index,Video_Name,Video_Caption,Masked_Target_Caption")
    (bench / "empty.csv").touch()
    (bench / "binary.csv").write_bytes(np.random.default_rng(2).bytes(3000))
    (bench / "semicolons.csv").write_text(f"{COLUMNS};x\n{ROW};{caption}\n".replace(",", ";"))


# ---- models


def _models(root: Path) -> None:
    models = root / "models"
    models.mkdir()
    backbone = TINY / "CogVideoX-5b-I2V"

    def copied(name: str) -> Path:
        """A backbone whose files are links, so that each wrong one costs nothing."""
        folder = models / name
        for path in backbone.rglob("*"):
            target = folder / path.relative_to(backbone)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.symlink_to(path)
        return folder

    def replaced(name: str, file: str, content: bytes | str | None) -> None:
        path = copied(name) / file
        path.unlink()
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    (models / "filler").mkdir()
    (models / "filler/model_index.json").write_text('{"_class_name": "StableDiffusionInpaintPipeline"}')
    for name, (file, content) in {
        "no_index": ("model_index.json", None),
        "text_index": ("model_index.json", "{"),
        "list_index": ("model_index.json", "[]"),
        "no_transformer_config": ("transformer/config.json", None),
        "no_vae_weights": ("vae/diffusion_pytorch_model.safetensors", None),
        "empty_weights": ("vae/diffusion_pytorch_model.safetensors", b""),
        "lfs": ("transformer/diffusion_pytorch_model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        "huge_header": ("vae/diffusion_pytorch_model.safetensors", struct.pack("<Q", 2**62) + b"{}"),
        "list_header": ("vae/diffusion_pytorch_model.safetensors", struct.pack("<Q", 2) + b"[]"),
        "odd_header": ("vae/diffusion_pytorch_model.safetensors", struct.pack("<Q", 9) + b'{"a": 12}'),
        "no_tokenizer": ("tokenizer/tokenizer_config.json", None),
        "text_config": ("vae/config.json", "{"),
        "list_config": ("vae/config.json", "[]"),
        "latin_config": ("vae/config.json", b'{"_class_name": "caf\xe9"}'),
        "nested_config": ("vae/config.json", "[" * 100_000),
        "no_scheduler": ("scheduler/scheduler_config.json", None),
        "list_scheduler": ("scheduler/scheduler_config.json", "[1]"),
        "text_scheduler": ("scheduler/scheduler_config.json", "scheduler"),
        "list_tokenizer": ("tokenizer/tokenizer_config.json", "[]"),
        "text_tokenizer": ("tokenizer/tokenizer.json", "no JSON"),
    }.items():
        replaced(name, file, content)
    whole = (backbone / "vae/diffusion_pytorch_model.safetensors").read_bytes()
    replaced("cut_weights", "vae/diffusion_pytorch_model.safetensors", whole[:-10])
    tokenizer = copied("no_tokenizer_model")
    for file in ("tokenizer.json", "spiece.model"):
        (tokenizer / "tokenizer" / file).unlink(missing_ok=True)
    index = {"weight_map": {"a": "../../outside.safetensors"}}
    for name, text in (
        ("index_up", json.dumps(index)),
        ("index_list", "[]"),
        ("index_text", "{"),
        ("index_no_map", "{}"),
    ):
        replaced(name, "vae/diffusion_pytorch_model.safetensors", None)
        (models / name / "vae/diffusion_pytorch_model.safetensors.index.json").write_text(text)
    for part, name, values in CONFIGS:
        file = f"{part}/{'scheduler_config' if part == 'scheduler' else 'config'}.json"
        for value in values:
            config = json.loads((backbone / file).read_text())
            config[name] = value
            replaced(config_name(part, name, value), file, json.dumps(config))
    _other_weights(root, models)


def config_name(part: str, name: str, value: object) -> str:
    """The folder of a backbone whose config of `part` says `name: value`."""
    return f"{part}.{name}={json.dumps(value)}".replace(" ", "").replace('"', "'")


# (part, key, wrong values): each makes a backbone that is wrong in this one place.
CONFIGS = (
    ("transformer", "num_layers", ("2", 100_000, -1, 0, 1.5, None, [2], float("nan"), True)),
    ("transformer", "num_attention_heads", ("8", 10**9, 0, None)),
    ("transformer", "attention_head_dim", ("x", 10**9, 0, 7)),
    ("transformer", "in_channels", ("32", 10**9, 0, None, 33)),
    ("transformer", "sample_height", ("60", 10**9, 0, None)),
    ("transformer", "sample_width", (-1,)),
    ("transformer", "max_text_seq_length", ("226", 10**9, 0)),
    ("transformer", "patch_size", (0, "2", 10**6)),
    ("transformer", "text_embed_dim", ("4096", 10**9)),
    ("transformer", "_class_name", (3, "UNet2DModel")),
    ("vae", "block_out_channels", (8, "8", [], [8], ["8", "8", "8", "8"], [10**9] * 4, [0, 0, 0, 0])),
    ("vae", "latent_channels", ("16", 10**9, 0, None)),
    ("vae", "layers_per_block", ("3", 10**9)),
    ("vae", "scaling_factor", ("1.15", 0, None, float("inf"))),
    ("vae", "_class_name", ("AutoencoderKL",)),
    ("text_encoder", "d_model", ("4096", 10**9, 0, None)),
    ("text_encoder", "num_layers", ("24", 10**9)),
    ("text_encoder", "vocab_size", (10**9, "many")),
    ("scheduler", "num_train_timesteps", ("1000", 10**9, 0, None)),
    ("scheduler", "beta_start", ("0.1", float("nan"), [0.1])),
    ("scheduler", "prediction_type", (3, "nonsense")),
    ("scheduler", "beta_schedule", ("nonsense", None)),
    ("scheduler", "snr_shift_scale", ("one", 0)),
    ("scheduler", "_class_name", ("NoScheduler", None, "UNet2DConditionModel")),
)


def _other_weights(root: Path, models: Path) -> None:
    (models / "nothing").mkdir()
    (models / "other").mkdir()
    (models / "other" / "config.json").write_text("{}")
    branch = TINY / "VideoPainter/checkpoints/branch"
    (models / "good_branch").symlink_to(branch)
    for name, change in (
        ("branch_layers_text", {"num_layers": "2"}),
        ("branch_layers_many", {"num_layers": 100_000}),
        ("branch_layers_none", {"num_layers": None}),
        ("branch_width", {"num_attention_heads": 99}),
        ("branch_fill_text", {"hole_fill": "black"}),
        ("branch_fill_nan", {"hole_fill": float("nan")}),
        ("branch_fill_far", {"hole_fill": 1e9}),
    ):
        folder = models / name
        folder.mkdir()
        config = json.loads((branch / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "diffusion_pytorch_model.safetensors").symlink_to(branch / "diffusion_pytorch_model.safetensors")
    for name, content in (("branch_list", "[]"), ("branch_text", "{{")):
        (models / name).mkdir()
        (models / name / "config.json").write_text(content)
    adapter = TINY / "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors"
    narrow = {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": np.zeros((4, 3), np.float32)}
    save_file(narrow, root / "narrow.safetensors")
    save_file({"weight": np.zeros(3, np.float32)}, root / "no_lora.safetensors")
    (root / "text.safetensors").write_text("no weights")
    weights = load_file(adapter)
    some = dict(list(weights.items())[:4])
    for name, metadata in (
        ("form", {"id_resample_form": "wide"}),
        ("fill", {"hole_fill": "black"}),
        ("alpha", {"lora_adapter_metadata": "{"}),
        ("alpha_list", {"lora_adapter_metadata": "[]"}),
        ("alpha_nan", {"lora_adapter_metadata": '{"transformer.lora_alpha": "NaN"}'}),
    ):
        save_file(some, root / f"adapter_{name}.safetensors", metadata=metadata)


# ---- what evaluations and trainings leave


def _summaries(root: Path) -> None:
    good = {
        "kind": "videopainter metrics",
        "version": 1,
        "run": {"scoring": {}, "data": {}},
        "protocol": "background",
        "total_videos": 1,
        "metrics": {},
        "left_out": {},
        "videos": [{"index": 0, "name": "a", "values": {"psnr": 30.0}, "left_out": {}, "details": {}}],
    }
    runs = root / "runs"
    runs.mkdir()
    for name, content in (
        ("good", good),
        ("good2", good),
        ("list", []),
        ("number", 3),
        ("other_version", good | {"version": 99}),
        ("no_videos", good | {"videos": None}),
        ("value_text", good | {"videos": [good["videos"][0] | {"values": {"psnr": "high"}}]}),
        ("value_list", good | {"videos": [good["videos"][0] | {"values": {"psnr": [1]}}]}),
        ("no_share", good | {"videos": [good["videos"][0] | {"name": "b"}]}),
        ("metrics_list", good | {"metrics": []}),
        ("index_text", good | {"videos": [good["videos"][0] | {"index": []}]}),
        ("protocol_list", good | {"protocol": ["x"]}),
        ("details_list", good | {"videos": [good["videos"][0] | {"details": [1]}]}),
    ):
        (runs / name).mkdir()
        (runs / name / "metrics.json").write_text(json.dumps(content))
    for name, text in (("text", "{"), ("nested", "[" * 100_000), ("latin", "\udce9")):
        (runs / name).mkdir()
        (runs / name / "metrics.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    settings = {"list": "[]", "text": "{", "nested": "[" * 100_000, "half": '{"content": {"format": 3}}', "other": "{}"}
    for name, text in settings.items():
        for kind, file in (("caches", "settings.json"), ("sets", "synthetic.json")):
            folder = root / kind / name
            folder.mkdir(parents=True)
            (folder / file).write_text(text)
    shutil.copytree(root / "frames_good", root / "results" / "another")
    (runs / "folder").mkdir()
    (runs / "folder" / "metrics.json").mkdir()
    for name, text in (
        ("train_good", '{"step": 1, "loss": 0.5, "lr": 0.1}\n{"step": 2, "loss": 0.4, "lr": 0.1}\n'),
        ("train_empty", ""),
        ("train_text", "not JSON\n"),
        ("train_list", "[1, 2]\n"),
        ("train_no_step", '{"loss": 0.5}\n'),
        ("train_step_text", '{"step": "x", "loss": 0.5}\n'),
        ("train_step_nan", '{"step": NaN, "loss": 0.5}\n'),
        ("train_all_nan", '{"step": 1, "loss": NaN}\n'),
        ("train_step_null", '{"step": null, "loss": 1}\n'),
        ("train_huge", '{"step": 1, "loss": 1' + "0" * 400 + "}\n"),
        ("train_latin", '{"step": 1, "caf\udce9": 1}\n'),
    ):
        (runs / name).mkdir()
        (runs / name / "metrics.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
