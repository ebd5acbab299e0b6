"""The models that the app's flags name: checked before anybody comes, without loading one."""

from __future__ import annotations

from videopainter.app.filling import model_options
from videopainter.app.options import AppOptions
from videopainter.captions.backends import asks_somebody, check_backend
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.first_frame import check_filler
from videopainter.pipelines.quantization import check_quantization
from videopainter.runs.processes import check_device
from videopainter.runs.weights import resolve_weights
from videopainter.segmentation.choosing import SegmenterOptions, choose_segmenter


def check_models(options: AppOptions) -> None:
    """InputError, in one line, for weights that are not there or do not fit each other, or a device there is none of.

    Who is named and cannot work is told at the start, not to the first user.
    """
    models = model_options(options)
    check_device(models.device)
    check_quantization(models.quantization)
    weights = resolve_weights(models)
    check_checkpoints(weights.model_path, weights.inpainting_branch, weights.id_adapter)
    check_filler(options.img_inpainting_model)
    segmenter = SegmenterOptions(segmenter=options.segmenter, text_model=options.text_model)
    choose_segmenter(segmenter, words=options.text_model is not None)
    if asks_somebody(options.llm_model):
        check_backend(options.llm_model or "")
