"""How the page looks: the theme, and the files of `assets/`."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_ASSETS = Path(__file__).parent / "assets"
# Of the machine itself: a page of one's own asks nobody for fonts.
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def stylesheet() -> Path:
    """The page's CSS."""
    return _ASSETS / "page.css"


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Calm greys and one accent; text and controls keep a contrast of 4.5 to 1 in both looks."""
    return gr.themes.Base(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        font=_FONTS,
        font_mono=_MONO,
        radius_size="lg",
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        color_accent="*primary_600",
        color_accent_soft_dark="*primary_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_weight="600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
