"""What the labels of weak images are worth, learnt on the held-out strong images."""

from __future__ import annotations

import torch

from pipelines.labeling import proposals
from wssis.data.coco import CocoData
from wssis.labeler import Labeler
from wssis.masks import mask_iou
from wssis.quality import Calibration, calibrate
from wssis.rules import masks_and_signals
from wssis.settings import PseudoRules


def calibrated(labeler: Labeler, holdout: CocoData, rules: PseudoRules) -> Calibration:
    """The curve from signal to IoU under `rules`, from images that the labeler has not learnt."""
    signals, ious = [], []
    for record, given in proposals(labeler, holdout, "calibrate"):
        truth = record.instances().masks
        if truth is None or not len(truth):
            continue
        found, signal = masks_and_signals(given, rules)
        assert found.masks is not None
        there = found.masks.flatten(1).any(1)
        signals.append(signal[there])
        ious.append(mask_iou(found.masks, truth)[there])
    if not signals:
        return Calibration()
    return calibrate(torch.cat(signals).double().numpy(), torch.cat(ious).double().numpy())
