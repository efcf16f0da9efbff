"""Batch normalisation where a batch is small, or shared out over processes."""

from __future__ import annotations

from typing import Literal

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from wssis.distributed import world
from wssis.errors import InputError


def set_norms(model: nn.Module, norms: Literal["batch", "sync", "frozen"]) -> None:
    """Choose the statistics of a network in training mode, see `TrainSettings.norms`.

    Norms that are in evaluation mode already (frozen stages) stay so.

    Raises:
        InputError: `sync` without a GPU: torch has no kernel for it.
    """
    if norms == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval().requires_grad_(False)
    elif norms == "sync":
        if not torch.cuda.is_available():
            raise InputError(
                "expected a GPU for norms: sync, found none",
                where="norms",
                remedy="Set norms to batch or frozen",
            )
        if world() > 1:
            convert_sync_batchnorm(model)
