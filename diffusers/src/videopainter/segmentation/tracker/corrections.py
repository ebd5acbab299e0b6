"""Strokes and clicks on a mask that is there: the frame is solved again, with them as certain."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.segmentation.tracker.appearance import ColourModel, colour_cells
from videopainter.segmentation.tracker.labelling import logit, mean_field
from videopainter.segmentation.tracker.picture import Picture

_CERTAIN = 12.0
# A stroke speaks for what looks like it within this share of the object's size.
_REACH = 0.25


def corrected(picture: Picture, prob: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """`prob` float32 (H, W) solved again: pixels of `inside` bool (H, W) are the object, those of `outside` are not.

    What looks like a stroke and lies beside it goes along; all else keeps the mask it has, but where its outline now
    follows an edge better.
    """
    lab = picture.smooth
    colours = colour_cells(picture.lab)
    evidence = 1.5 * logit(prob)
    reach = max(8.0, _REACH * float(np.sqrt((prob > 0.5).sum())))
    for strokes, sign in ((inside, 1), (outside, -1)):
        if not strokes.any():
            continue
        near = cv2.distanceTransform((~strokes).astype(np.uint8), cv2.DIST_L2, 5) < reach
        wrong = (prob > 0.5) != (sign > 0)
        alike = near & wrong & _looks_like(lab, strokes, near)
        # Only what hangs together with a stroke.
        count, labels = cv2.connectedComponents((alike | strokes).astype(np.uint8))
        touched = np.unique(labels[strokes])
        flipped = np.isin(labels, touched[touched > 0])
        evidence = np.where(flipped, sign * 3.0, evidence)
    model = ColourModel()
    settled = np.where(inside, 1.0, np.where(outside, 0.0, 1 / (1 + np.exp(-evidence)))).astype(np.float32)
    model.learn(colours, settled, np.ones_like(settled), 1)
    evidence = evidence + 0.3 * cv2.blur(model.score(colours), (3, 3))
    evidence = np.where(inside, _CERTAIN, np.where(outside, -_CERTAIN, evidence))
    solved = mean_field(evidence, lab, bound=_CERTAIN)
    return np.where(inside, 0.97, np.where(outside, 0.03, solved)).astype(np.float32)


def _looks_like(lab: np.ndarray, strokes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Which pixels have a colour that lies under the strokes (within 10 Lab units); bool (H, W)."""
    samples = lab[strokes]
    samples = samples[:: 1 + len(samples) // 24]
    alike = np.zeros(near.shape, bool)
    places = np.nonzero(near)
    apart = np.linalg.norm(lab[places][:, None] - samples[None], axis=-1).min(1)
    alike[places] = apart < 10
    return alike
