"""VideoPainter as ComfyUI nodes. Put this folder, or a link to it, into ComfyUI/custom_nodes; see README.md."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
