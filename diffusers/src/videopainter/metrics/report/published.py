"""What the VideoPainter paper reports for its full-size model (arXiv 2503.05639), in our keys and units."""

from __future__ import annotations

from dataclasses import dataclass

# Its fidelity is of the unmasked region: our protocol `background`. LPIPS, MSE and MAE are printed there times 100.
PROTOCOL = "background"
_SCALED = {"masked_lpips", "masked_mse", "masked_mae"}
_KEYS = (
    *("masked_psnr", "masked_ssim", "masked_lpips", "masked_mse", "masked_mae"),
    *("clip_score", "masked_clip_score", "vfid"),
)
_TABLE = {
    "standard": ("VPBench-S", 23.32, 0.89, 6.85, 0.82, 2.62, 8.66, 21.49, 0.15),
    "long": ("VPBench-L", 22.19, 0.85, 9.14, 0.71, 2.92, 11.52, 21.54, 0.17),
    "davis": ("DAVIS", 25.27, 0.94, 4.29, 0.45, 1.41, 7.21, 18.46, 0.09),
    "edit_standard": ("VPBench-S, editing", 22.63, 0.91, 7.65, 1.02, 2.90, 8.67, 20.20, 0.18),
    "edit_long": ("VPBench-L, editing", 22.60, 0.90, 7.53, 0.86, 2.76, 11.85, 19.38, 0.11),
}


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row of the paper: `values` by metric key (`catalog.METRICS`), fidelity in 0..1 like ours."""

    set_name: str
    label: str
    values: dict[str, float]


def _row(set_name: str, label: str, *numbers: float) -> PublishedRow:
    # Rounded, so that 6.85 / 100 is 0.0685 and not 0.06849999...
    values = {key: round(x / 100, 6) if key in _SCALED else x for key, x in zip(_KEYS, numbers, strict=True)}
    return PublishedRow(set_name=set_name, label=label, values=values)


PUBLISHED: dict[str, PublishedRow] = {name: _row(name, *row) for name, row in _TABLE.items()}
