"""Refined masks drawn to the image's color edges: the mean field of a dense CRF (arXiv 1210.5644).

Pixels of a crop that are alike in color and close to one another pull each other to the same side of the
outline. The network says where the object is, the image where it ends. No label is needed, so this works on
images that nobody has outlined.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 8  # mean-field updates
TOLERANCE = 0.2  # standard deviation of the color kernel, in units of a crop's own contrast
FLAT_SHARE = 0.5  # of the pull of pixels that are near, whatever their color, to take off
KEYS = 16  # pixels a side that pull at the others; more cost time and change nothing (docs/results.md)
_EDGE = 1e-3  # probabilities stay this far from 0 and 1, so that the image can overrule the network
_LEAST_CONTRAST = 4.0  # levels of 255; below this, differences in color are noise


@torch.inference_mode()
def follow_colors(probs: Tensor, crops: Tensor, weight: float, reach: float) -> Tensor:
    """Probabilities of masks, moved to color edges.

    One update of a pixel i is q_i = sigmoid(logit p_i + weight x sum_j w_ij (2 q_j - 1)), where j runs over
    a grid of `KEYS` x `KEYS` pixels and w_ij = k_ij - s_ij / 2. k is Gaussian in the difference of color and
    of place, s in that of place alone; both sum to 1 over j. Without s masks would shrink where the image is
    flat, since most of a crop is background.

    Args:
        probs: (N, S, S) probabilities p in 0..1, of any floating dtype.
        crops: (N, 3, S, S) uint8, the image where the masks lie.
        weight: strength of the pull; 0 returns `probs`.
        reach: standard deviation of the distance kernel, in sides of a crop.

    Returns:
        (N, S, S) float32 in 0..1.
    """
    if not weight or not len(probs):
        return probs.float()
    size = probs.shape[-1]
    axis = (torch.arange(size) + 0.5) / size  # (S,)
    place = torch.cartesian_prod(axis, axis) / reach  # (S * S, 2)
    chosen = ((torch.arange(KEYS) + 0.5) * size / KEYS).long().unique()  # (M,)
    keys = (chosen[:, None] * size + chosen).flatten()  # (M * M,) pixels that pull
    nearby = _gaussian(place, place[keys])  # (S * S, M * M)
    guided = []
    for prob, crop in zip(probs.float(), crops, strict=True):
        color = crop.flatten(1).T.float()  # (S * S, 3)
        contrast = color.std(0).norm().clamp(min=_LEAST_CONTRAST)
        features = torch.cat([color / (TOLERANCE * contrast), place], 1)  # (S * S, 5)
        kernel = _gaussian(features, features[keys]) - FLAT_SHARE * nearby  # (S * S, M * M)
        network = torch.logit(prob.flatten(), eps=_EDGE)  # (S * S,)
        belief = network[keys].sigmoid()  # (M * M,)
        for _ in range(STEPS):
            belief = torch.sigmoid(network[keys] + weight * (kernel[keys] @ (2 * belief - 1)))
        guided.append(torch.sigmoid(network + weight * (kernel @ (2 * belief - 1))))
    return torch.stack(guided).view_as(probs)


def _gaussian(features: Tensor, keys: Tensor) -> Tensor:
    """exp(-|f - k|^2 / 2) of (n, D) and (m, D), each row's sum 1: (n, m)."""
    own, others = features.square().sum(1) / 2, keys.square().sum(1) / 2
    kernel = torch.addmm(-own[:, None] - others, features, keys.T).exp_()  # (n, m)
    return kernel / kernel.sum(1, keepdim=True).clamp(min=1e-12)
