"""Points to pseudo-labels: teacher, refiner, and the rules that decide what to trust.

`propose` runs the networks; `decide` is arithmetic on what they said, so that rules can be tried on stored
proposals. Every point ends as exactly one mask or one ignore region.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wssis.crops import crop_windows, cut, cut_each, paste, point_channels
from wssis.data.transforms import resize_image, resize_points
from wssis.instances import Instances
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.prompting import prompt
from wssis.settings import PseudoRules, ResizeSettings

# Dimensions of a batch (B, C, H, W) that are flipped, one entry a view: what training flips, labelling asks.
VIEWS: dict[str, list[list[int]]] = {"none": [[]], "horizontal": [[], [3]], "all": [[], [3], [2], [2, 3]]}
# Views agree on an object's middle and differ on its rim: their mean is low there. On shapes (seeds 0, 1) the
# true outline lies at a mean of .3 to .4: rough IoU .747 on average at .35, .727 at .5.
VIEW_LEVEL = 0.35
CHUNK = 32  # objects whose full-size maps and crops are in memory at once


@dataclass(frozen=True)
class Proposals:
    """What the networks said of the N points of one image; compact enough to keep for a whole data set.

    Attributes:
        points, labels, ids: (N, 2) xy pixels, (N,), (N,) or None, as given.
        size: (H, W) of the image in pixels.
        rough: (N, h, w) float16 probabilities at mask resolution, over `rough_size` (H, W) pixels from the
            image's top left corner: the image and the padding that the network saw.
        score: (N,) float32 of pyramid-level selection, in 0..1.
        refined: (N, S, S) float16 probabilities in the windows; None without a refiner.
        windows: (N, 4) x0, y0, x1, y1 pixels.
    """

    points: Tensor
    labels: Tensor
    ids: Tensor | None
    size: tuple[int, int]
    rough: Tensor
    rough_size: tuple[float, float]
    score: Tensor
    refined: Tensor | None
    windows: Tensor


class Labeler:
    """A teacher and, where there is one, a refiner: image and points to one mask a point.

    Args:
        teacher: SOLOv2 in evaluation mode.
        refiner: or None.
        resize: the scale that the teacher was trained at.
        rules: see `PseudoRules`.
        flips: "none", "horizontal" or "all": views of the image that the teacher is asked about; those that
            it was trained on.
    """

    def __init__(
        self,
        teacher: SOLOv2,
        refiner: Refiner | None,
        resize: ResizeSettings,
        rules: PseudoRules | None = None,
        flips: str = "none",
    ) -> None:
        self.teacher, self.refiner, self.resize = teacher.eval(), refiner and refiner.eval(), resize
        self.rules, self.flips = rules or PseudoRules(), flips

    def label(self, image: Tensor, points: Tensor, labels: Tensor, ids: Tensor | None = None) -> Instances:
        """One mask or ignore region a point; see `propose` and `decide`."""
        return decide(self.propose(image, points, labels, ids), self.rules)

    @torch.inference_mode()
    def propose(self, image: Tensor, points: Tensor, labels: Tensor, ids: Tensor | None = None) -> Proposals:
        """Ask the networks.

        Args:
            image: uint8 (3, H, W).
            points: (N, 2) float32, xy pixels of the image.
            labels: (N,) int64 classes.
            ids: (N,) int64 that travel with the points.
        """
        device = self.teacher.backbone.mean.device
        image, inputs = image.to(device), (points.to(device), labels.to(device))
        size = (int(image.shape[1]), int(image.shape[2]))
        rough, rough_size, score = rough_masks(self.teacher, self.resize, image, *inputs, self.flips)
        rough = rough.half()
        refined, windows = None, torch.zeros((len(points), 4))
        if self.refiner is not None and len(points):
            pixels = self.refiner.normalise(image)
            so_far = partial(spread, rough, rough_size, size)
            refined, windows = refine(self.refiner, pixels, so_far, *inputs)
            for _ in range(self.refiner.settings.passes - 1):
                # A window that a poor rough mask had misplaced is laid again round what was found.
                so_far = partial(pasted, refined, windows, size)
                refined, windows = refine(self.refiner, pixels, so_far, *inputs)
            refined = refined.half().cpu()
        return Proposals(
            points, labels, ids, size, rough.cpu(), rough_size, score.cpu(), refined, windows.cpu()
        )


@torch.inference_mode()
def rough_masks(
    teacher: SOLOv2, resize: ResizeSettings, image: Tensor, points: Tensor, labels: Tensor, flips: str
) -> tuple[Tensor, tuple[float, float], Tensor]:
    """The teacher's answer to points, see `Proposals`: the mean over flipped views of the image.

    A view's masks weigh as the square of their level score, so that a view which is sure of a point
    outvotes others that are not. Views are flips of the padded input, which keeps them on one pixel grid.

    Returns:
        (N, h, w) probabilities, the (H, W) image pixels that they span, (N,) mean level scores.
    """
    height, width = int(image.shape[1]), int(image.shape[2])
    batch = teacher.preprocess([resize_image(image, resize)])
    views = VIEWS[flips]
    raw = teacher(torch.cat([batch.flip(view) for view in views]))
    own = not teacher.settings.parity
    inputs = resize_points(points, resize, height, width)
    total = weights = scores = torch.zeros((), device=points.device)
    for index, view in enumerate(views):
        x, y = inputs.unbind(1)
        x = raw.image_size[1] - x if 3 in view else x
        y = raw.image_size[0] - y if 2 in view else y
        answer = prompt(raw, index, torch.stack([x, y], 1), labels, own_point=own)
        weight = answer.score.square().clamp(min=1e-12)[:, None, None]
        # (N, h, w) has its rows and columns one dimension before those of the batch.
        total = total + answer.probs.flip([side - 1 for side in view]) * weight
        weights, scores = weights + weight, scores + answer.score / len(views)
    input_h, input_w = resize.size(height, width)
    span = (raw.image_size[0] * height / input_h, raw.image_size[1] * width / input_w)
    mean = total / weights
    # Odds are scaled so that VIEW_LEVEL becomes one half, where every mask downstream is cut.
    scale = (1 - VIEW_LEVEL) / VIEW_LEVEL
    return (scale * mean / (scale * mean + 1 - mean) if len(views) > 1 else mean), span, scores


def refine(
    refiner: Refiner,
    image: Tensor,
    probs: Callable[[Tensor], Tensor],
    points: Tensor,
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """One pass of the refiner over all objects of an image, in batches of crops.

    Args:
        refiner: in evaluation mode.
        image: (3, H, W) normalised.
        probs: rows (n,) of the objects to their (n, H, W) probabilities so far.
        points, labels: (N, 2), (N,).

    Returns:
        (N, S, S) refined probabilities and the (N, 4) windows that they lie in.
    """
    settings = refiner.settings
    refined, windows = [], []
    for rows in torch.arange(len(points), device=points.device).split(CHUNK):
        masks = probs(rows) > 0.5
        spans = crop_windows(masks, points[rows], settings.scale, settings.smallest)
        channels = point_channels(
            points, labels, rows, spans, refiner.num_classes, settings.crop, settings.sigma
        )
        pixels = cut(image, spans, settings.crop)
        refined.append(refiner(pixels, cut_each(masks, spans, settings.crop), channels).sigmoid())
        windows.append(spans)
    return torch.cat(refined), torch.cat(windows)


def spread(rough: Tensor, rough_size: tuple[float, float], size: tuple[int, int], rows: Tensor) -> Tensor:
    """Rough probabilities (n, H, W) float32 of some of the points, bilinear."""
    windows = torch.tensor([[0.0, 0.0, rough_size[1], rough_size[0]]], device=rough.device)
    return paste(rough[rows], windows.expand(len(rows), 4), size)


def full_size(proposals: Proposals, rows: Tensor) -> Tensor:
    """Rough probabilities (n, H, W) float32 of some of the points of an image."""
    return spread(proposals.rough, proposals.rough_size, proposals.size, rows)


def pasted(refined: Tensor, windows: Tensor, size: tuple[int, int], rows: Tensor) -> Tensor:
    """Refined probabilities (n, H, W) float32 of some of the points; 0 outside their windows."""
    return paste(refined[rows], windows[rows], size)


@torch.inference_mode()
def decide(proposals: Proposals, rules: PseudoRules) -> Instances:
    """Masks and ignore regions of one image under `rules`. No network is asked.

    Returns:
        N instances in the order of the points; `scores` is the confidence. A point that is not trusted has
        an empty mask, and its region is in `ignore`.
    """
    count, size = len(proposals.points), proposals.size
    owner_prob = torch.zeros(size)
    owner = torch.full(size, -1)
    masks = torch.zeros((count, *size), dtype=torch.bool)
    confidence = torch.zeros(count)
    for rows in torch.arange(count).split(CHUNK) if count else ():
        blend, agreement = blended(proposals, rows, rules)
        masks[rows] = blend > rules.mask_threshold
        confidence[rows] = confidences(blend, agreement, proposals, rows, rules)
        best, index = (blend * masks[rows]).max(0)
        better = best > owner_prob
        owner_prob, owner = torch.where(better, best, owner_prob), torch.where(better, rows[index], owner)
    trusted = (confidence >= rules.min_confidence) & masks.flatten(1).any(1)
    regions = masks[~trusted].any(0) | discs(proposals.points[~trusted], size, rules.ignore_radius)
    if rules.exclusive:
        masks &= owner == torch.arange(count)[:, None, None]
    masks &= trusted[:, None, None]
    lost = trusted & ~masks.flatten(1).any(1)  # every pixel went to more probable neighbours
    regions |= discs(proposals.points[lost], size, rules.ignore_radius)
    return Instances(
        size=size,
        labels=proposals.labels,
        masks=masks,
        points=proposals.points,
        scores=confidence,
        ids=proposals.ids,
        ignore=regions & ~masks.any(0),
    )


def blended(proposals: Proposals, rows: Tensor, rules: PseudoRules) -> tuple[Tensor, Tensor]:
    """Probabilities (n, H, W) of rough and refined masks together, and the IoU of the two (n,).

    Where the refined mask is empty the rough one is kept.
    """
    rough = full_size(proposals, rows)
    if proposals.refined is None:
        return rough, torch.ones(len(rows))
    refined = pasted(proposals.refined, proposals.windows, proposals.size, rows)
    hard_rough, hard_refined = rough > rules.mask_threshold, refined > rules.mask_threshold
    both = (hard_rough & hard_refined).flatten(1).sum(1)
    either = (hard_rough | hard_refined).flatten(1).sum(1)
    weight = rules.refined_weight * hard_refined.flatten(1).any(1)[:, None, None]
    return rough + weight * (refined - rough), both / either.clamp(min=1)


def confidences(
    blend: Tensor, agreement: Tensor, proposals: Proposals, rows: Tensor, rules: PseudoRules
) -> Tensor:
    """Confidence (n,) in 0..1: maskness x (probability at the point)^a x (agreement of the two masks)^b."""
    inside = blend > rules.mask_threshold
    maskness = (blend * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
    height, width = proposals.size
    x = proposals.points[rows, 0].long().clamp(0, width - 1)
    y = proposals.points[rows, 1].long().clamp(0, height - 1)
    at_point = blend[torch.arange(len(rows)), y, x]
    return maskness * at_point**rules.own_point * agreement**rules.agreement


def discs(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """(H, W) bool: pixels whose middle is within `radius` pixels of one of the points (N, 2)."""
    y = torch.arange(size[0])[:, None] + 0.5
    x = torch.arange(size[1])[None, :] + 0.5
    region = torch.zeros(size, dtype=torch.bool)
    for px, py in points.tolist():
        region |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return region
