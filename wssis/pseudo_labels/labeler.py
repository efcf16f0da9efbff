"""Points to pseudo-labels: teacher and refiner propose, rules decide what to trust."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from wssis.data.transforms import resize_image, resize_points
from wssis.instances import Instances
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.ops.crops import crop_windows, cut, cut_each, point_maps
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.decisions import decide
from wssis.pseudo_labels.point_prompting import prompt
from wssis.pseudo_labels.proposals import CHUNK, Proposals, pasted, spread
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import ResizeSettings

# Dimensions of a batch (B, C, H, W) to flip, one entry a view. Labeling uses the flips of the training.
VIEWS: dict[str, list[list[int]]] = {"none": [[]], "horizontal": [[], [3]], "all": [[], [3], [2], [2, 3]]}
# Views agree on an object's middle and differ on its rim: their mean is low there. On shapes (seeds 0, 1) the
# true outline lies at a mean of .3 to .4: rough IoU .747 on average at .35, .727 at .5.
VIEW_LEVEL = 0.35
CROP_PIXELS = 1 << 17  # that a CPU refines at once: 32 crops of the default, 2 of the paper


class Labeler:
    """A teacher and, where there is one, a refiner: image and points to one mask a point.

    Args:
        teacher: SOLOv2 in evaluation mode.
        refiner: or None.
        resize: the scale that the teacher was trained at.
        rules: see `PseudoRules`.
        flips: "none", "horizontal" or "all": views of the image that the teacher is asked about; those that
            it was trained on.
        own_point: whether a mask's own point counts in level choice, see `prompt`; None: unless `parity`.
        level: ask this level of the pyramid only, for comparison.
        mirrored: (K,) label of each class in a mirror image, see `mirrored_labels`; None: its own.

    Example:
        >>> from wssis.settings import SOLOv2Settings
        >>> teacher = SOLOv2(SOLOv2Settings(pretrained=False), num_classes=2)  # or of `load_model`
        >>> labeler = Labeler(teacher, None, ResizeSettings())
        >>> image, points = torch.zeros((3, 60, 90), dtype=torch.uint8), torch.tensor([[10.5, 20.0]])
        >>> found = labeler.label(image, points, torch.tensor([1]))
        >>> found.get_masks().shape, found.labels
        (torch.Size([1, 60, 90]), tensor([1]))
    """

    def __init__(
        self,
        teacher: SOLOv2,
        refiner: Refiner | None,
        resize: ResizeSettings,
        rules: PseudoRules | None = None,
        flips: str = "none",
        own_point: bool | None = None,
        level: int | None = None,
        mirrored: Tensor | None = None,
    ) -> None:
        self.teacher, self.refiner, self.resize = teacher.eval(), refiner and refiner.eval(), resize
        self.rules, self.flips, self.level = rules or PseudoRules(), flips, level
        self.mirrored = mirrored
        self.own_point = not teacher.settings.parity if own_point is None else own_point

    def label(self, image: Tensor, points: Tensor, labels: Tensor, *more: Tensor | None) -> Instances:
        """One mask or ignore region a point; arguments as of `propose`, see `decide`."""
        return decide(self.propose(image, points, labels, *more), self.rules)

    @torch.inference_mode()
    def propose(
        self,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        ids: Tensor | None = None,
        clicks: Tensor | None = None,
    ) -> Proposals:
        """Ask the networks.

        Args:
            image: uint8 (3, H, W).
            points: (N, 2) float32, xy pixels of the image.
            labels: (N,) int64 classes.
            ids: (N,) int64 that travel with the points.
            clicks: (C, 4) float32 further clicks: row of the object, x, y, and 1 on it or 0 beside it.
        """
        device = self.teacher.backbone.mean.device
        clicks = None if clicks is None else clicks.to(device)
        image, inputs = image.to(device), (points.to(device), labels.to(device))
        size = (int(image.shape[1]), int(image.shape[2]))
        rough, rough_size, score, views = rough_masks(
            self.teacher,
            self.resize,
            image,
            *inputs,
            self.flips,
            self.own_point,
            self.level,
            self.mirrored,
            clicks,
        )
        rough = rough.half()
        refined, crops, windows = None, None, torch.zeros((len(points), 4))
        if self.refiner is not None and len(points):
            refined, windows = refine_all(self.refiner, image, rough, rough_size, *inputs, clicks)
            # roi_align takes floats; a crop keeps the image's 8 bits
            crops = cut(image.float(), windows, self.refiner.settings.crop).round().byte().cpu()
        return Proposals(
            points=points,
            labels=labels,
            ids=ids,
            size=size,
            rough=rough.cpu(),
            rough_size=rough_size,
            score=score.cpu(),
            refined=refined,
            windows=windows.cpu(),
            crops=crops,
            views=None if views is None else views.cpu(),
        )


@torch.inference_mode()
def refine_all(
    refiner: Refiner,
    image: Tensor,
    rough: Tensor,
    rough_size: tuple[float, float],
    points: Tensor,
    labels: Tensor,
    clicks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Every pass of the refiner over all objects of an image.

    Args:
        refiner: in evaluation mode, on the device of all tensors.
        image: uint8 (3, H, W).
        rough, rough_size: see `Proposals`.
        points, labels, clicks: (N, 2), (N,), (C, 4), at least one point.

    Returns:
        (N, S, S) float16 probabilities on the CPU, and the (N, 4) windows that they lie in.
    """
    size = (int(image.shape[1]), int(image.shape[2]))
    pixels = refiner.normalize(image)
    so_far = partial(spread, rough, rough_size, size)
    refined, windows = refine(refiner, pixels, so_far, points, labels, clicks)
    for _ in range(refiner.settings.passes - 1):
        # A window that a poor rough mask had misplaced is placed again around what was found. The mean
        # of both masks is nearer the truth than either: on shapes the next pass gains .001 to .002.
        so_far = partial(halfway, so_far, partial(pasted, refined, windows, size))
        refined, windows = refine(refiner, pixels, so_far, points, labels, clicks)
    return refined.half().cpu(), windows


@torch.inference_mode()
def rough_masks(
    teacher: SOLOv2,
    resize: ResizeSettings,
    image: Tensor,
    points: Tensor,
    labels: Tensor,
    flips: str,
    own_point: bool,
    level: int | None = None,
    mirrored: Tensor | None = None,
    clicks: Tensor | None = None,
) -> tuple[Tensor, tuple[float, float], Tensor, Tensor | None]:
    """The teacher's masks for points, see `Proposals`: the mean over flipped views of the image.

    A view's mask is weighted by the square of its level score, so a confident view outvotes uncertain ones.
    Views are flips of the padded input, so they share one pixel grid.

    Returns:
        (N, h, w) probabilities, the (H, W) image pixels that they span, (N,) mean level scores, and (N,) how
        far the views agree, None of a single one.
    """
    height, width = int(image.shape[1]), int(image.shape[2])
    batch = teacher.preprocess([resize_image(image, resize)])  # (1, 3, H, W), padded
    views = VIEWS[flips]
    raw = teacher(torch.cat([batch.flip(view) for view in views]))  # batch of V views
    inputs = resize_points(points, resize, height, width)  # (N, 2)
    total = weights = scores = torch.zeros((), device=points.device)
    each = []
    for index, view in enumerate(views):
        flipped_points, flipped_clicks = flip_points(inputs, raw.image_size, view), None
        if clicks is not None:
            places = resize_points(clicks[:, 1:3], resize, height, width)
            places = flip_points(places, raw.image_size, view)
            flipped_clicks = torch.cat([clicks[:, :1], places, clicks[:, 3:]], 1)  # (C, 4)
        flipped = mirrored is not None and len(view) == 1  # two flips are a half turn
        kinds = mirrored.to(labels.device)[labels] if flipped and mirrored is not None else labels
        answer = prompt(
            raw, index, flipped_points, kinds, own_point=own_point, level=level, clicks=flipped_clicks
        )
        weight = answer.score.square().clamp(min=1e-12)[:, None, None]  # (N, 1, 1)
        # (N, h, w) has its rows and columns one dimension before those of the batch.
        probs = answer.probs.flip([side - 1 for side in view])
        total = total + probs * weight
        each.append(probs > 0.5)
        weights, scores = weights + weight, scores + answer.score / len(views)
    input_h, input_w = resize.size(height, width)
    span = (raw.image_size[0] * height / input_h, raw.image_size[1] * width / input_w)
    mean = total / weights  # (N, h, w)
    if len(views) == 1:
        return mean, span, scores, None
    mean = leveled(mean, VIEW_LEVEL)
    together = mean > 0.5  # (N, h, w)
    return mean, span, scores, torch.stack([mask_iou(mask, together) for mask in each]).mean(0)


def flip_points(points: Tensor, size: tuple[int, int], view: list[int]) -> Tensor:
    """(N, 2) xy pixels in a view of the padded input of `size` (H, W), see `VIEWS`."""
    x, y = points.unbind(1)
    return torch.stack([size[1] - x if 3 in view else x, size[0] - y if 2 in view else y], 1)


def leveled(probs: Tensor, level: float) -> Tensor:
    """Probabilities whose odds are scaled so that `level` becomes one half, where masks are cut."""
    scale = (1 - level) / level
    return scale * probs / (scale * probs + 1 - probs)


def halfway(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """The mean of two sources of maps (n, H, W)."""
    return (first(rows) + second(rows)) / 2


def crops_at_once(refiner: Refiner, image: Tensor) -> int:
    """How many crops the refiner sees together: small ones gain from it, large ones only cost memory."""
    if image.device.type != "cpu":
        return CHUNK
    return min(CHUNK, max(1, CROP_PIXELS // refiner.settings.crop**2))


def refine(
    refiner: Refiner,
    image: Tensor,
    probs: Callable[[Tensor], Tensor],
    points: Tensor,
    labels: Tensor,
    clicks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One pass of the refiner over all objects of an image, in batches of crops.

    Args:
        refiner: in evaluation mode.
        image: (3, H, W) normalized.
        probs: rows (n,) of the objects to their (n, H, W) probabilities so far.
        points, labels, clicks: (N, 2), (N,), (C, 4).

    Returns:
        (N, S, S) refined probabilities, the outline at one half, and the (N, 4) windows that they lie in.
    """
    settings = refiner.settings
    refined, windows = [], []
    count, numbers = crops_at_once(refiner, image), torch.arange(len(points), device=points.device)
    for rows, kinds in zip(numbers.split(count), labels.cpu().split(count), strict=True):
        masks = probs(rows) > 0.5  # (n, H, W)
        spans = crop_windows(masks, points[rows], settings.scale, settings.smallest)  # (n, 4)
        shown = point_maps(points, rows, spans, settings.crop, settings.sigma, clicks)  # (n, 2, S, S)
        pixels, rough = (
            cut(image, spans, settings.crop),
            cut_each(masks, spans, settings.crop),
        )  # (n, 3, S, S), (n, S, S)
        logits = refiner(pixels, rough, shown, kinds.tolist())  # (n, S, S)
        refined.append(leveled(logits.sigmoid(), settings.level))
        windows.append(spans)
    return torch.cat(refined), torch.cat(windows)
