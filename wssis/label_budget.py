"""AP as a function of labeling time: a curve over masks and points, and the best mix of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Measured(NamedTuple):
    """AP (0..1) of a model that learnt from `masks` drawn objects and `points` clicked ones."""

    masks: float
    points: float
    ap: float


# COCO test-dev mask AP by the share of images that are drawn, all others clicked (Kim et al., CVPR 2023; the
# last row has every mask). Masks and points are shares of all objects: the 118,287 images of train2017 have
# 860,001.
PAPER = tuple(
    Measured(share, 1 - share, ap)
    for share, ap in (
        *((0.01, 0.240), (0.02, 0.253), (0.05, 0.337), (0.1, 0.358), (0.2, 0.371), (0.3, 0.380)),
        *((0.4, 0.383), (0.5, 0.388), (1.0, 0.397)),
    )
)
PAPER_OBJECTS = 860_001


@dataclass(frozen=True)
class Curve:
    """AP = top - drop * worth ** -power, where worth = masks + points * masks / (masks + half).

    A point is worth a part of a mask: the more masks the teacher has seen, the larger part. More of either
    never lowers the AP. Without a mask it is 0.

    Attributes:
        top, drop, power: of the saturating curve.
        half: masks (in `unit`s) after which a point is worth half a mask.
        unit: objects that count as one; the curve was fitted in these.
        miss: the largest difference between the curve and what it was fitted to, in AP.
    """

    top: float
    drop: float
    power: float
    half: float
    unit: float = 1.0
    miss: float = 0.0

    def ap(self, masks: ArrayLike, points: ArrayLike) -> Floats:
        """Expected AP, 0..1, of numbers of drawn and clicked objects (any shapes that broadcast)."""
        drawn, clicked = (np.asarray(value, float) / self.unit for value in (masks, points))
        with np.errstate(divide="ignore"):
            return np.clip(self.top - self.drop * worth(drawn, clicked, self.half) ** -self.power, 0, 1)


def worth(masks: Floats, points: Floats, half: float | Floats) -> Floats:
    """What labels are worth, in masks; `half` > 0, see `Curve`."""
    return masks + points * masks / (masks + half)


def fit_curve(measured: Sequence[Measured], unit: float = 1.0) -> Curve:
    """The curve with the least squared error, by search over `half` and `power`.

    Args:
        measured: at least two, each with masks; numbers in `unit`s.
        unit: objects that these count as one.

    Raises:
        ValueError: fewer than two, or one without masks.
    """
    masks, points, ap = np.array(measured, float).reshape(-1, 3).T
    if len(ap) < 2 or (masks <= 0).any():
        raise ValueError("expected at least two measurements, each with masks")
    scale = masks.max()
    half = scale * np.geomspace(1e-3, 30, 60)[:, None, None]
    power = np.geomspace(0.05, 4, 40)[None, :, None]
    x = (worth(masks, points, half) / scale) ** -power  # (halves, powers, measured)
    dx, dy = x - x.mean(-1, keepdims=True), ap - ap.mean()
    drop = np.maximum(-(dx * dy).sum(-1) / np.maximum((dx**2).sum(-1), 1e-12), 0)
    top = ap.mean() + drop * x.mean(-1)
    over = top > 1  # no AP is: then the best that ends at 1
    drop = np.where(over, (x * (1 - ap)).sum(-1) / (x**2).sum(-1), drop)
    top = np.where(over, 1.0, top)
    error = ap - (top[..., None] - drop[..., None] * x)
    best = np.unravel_index((error**2).sum(-1).argmin(), top.shape)
    exponent = float(power[0, best[1], 0])
    return Curve(
        top=float(top[best]),
        drop=float(drop[best] * scale**exponent),
        power=exponent,
        half=float(half[best[0], 0, 0]),
        unit=unit,
        miss=float(np.abs(error[best]).max()),
    )


@dataclass(frozen=True)
class Stock:
    """The available images and labels.

    Attributes:
        unlabeled, clicked, drawn: images that nobody has looked at, that have points, that have all masks.
        points, masks: objects known by their point only, and drawn ones.
    """

    unlabelled: int
    clicked: int
    drawn: int
    points: int
    masks: int

    @property
    def objects_per_image(self) -> float:
        """Of the labeled images; 0 if there is none."""
        return (self.points + self.masks) / max(self.clicked + self.drawn, 1)

    @property
    def objects(self) -> float:
        """Of all images, those in unlabeled ones by the mean of the others."""
        return self.points + self.masks + self.unlabelled * self.objects_per_image


@dataclass(frozen=True)
class Advice:
    """What to label next.

    Attributes:
        draw_unlabelled, draw_clicked: images to draw every mask of.
        click: unlabeled images to click.
        masks, points: objects on these, about.
        draw_hours, click_hours: that it takes, about.
        ap_now, ap: expected before and after, 0..1.
    """

    draw_unlabelled: int
    draw_clicked: int
    click: int
    masks: float
    points: float
    draw_hours: float
    click_hours: float
    ap_now: float
    ap: float


def after(stock: Stock, advice: Advice) -> tuple[float, float]:
    """Masks and points once the advice is followed."""
    clicked = stock.points / max(stock.clicked, 1) * advice.draw_clicked
    return stock.masks + advice.masks, stock.points - clicked + advice.points


def advise(stock: Stock, hours: float, prices: Mapping[str, float], curve: Curve) -> Advice:
    """The mix of masks and points with the highest expected AP, by trying every number of drawn images.

    Unlabeled images are drawn before clicked ones, whose clicks would be lost; what time is left goes into
    clicks. Hours are never more than given, images never more than there are.

    Args:
        stock: with at least one labeled object.
        hours: of a person's work, ≥ 0.
        prices: seconds a `mask` and a `point`.
        curve: AP over masks and points.
    """
    each, each_clicked = stock.objects_per_image, stock.points / max(stock.clicked, 1)
    images = np.arange(stock.unlabelled + stock.clicked + 1)
    masks = np.minimum(images, stock.unlabelled) * each
    masks = masks + np.maximum(images - stock.unlabelled, 0) * each_clicked
    images = images[masks * prices["mask"] <= hours * 3600 + 1e-6]
    masks = masks[: len(images)]
    new = np.minimum(images, stock.unlabelled)
    old = images - new
    left, seconds = hours * 3600 - masks * prices["mask"], each * prices["point"]
    room = stock.unlabelled - new
    able = np.floor(left / seconds + 1e-9) if seconds > 0 else np.full(len(images), np.inf)
    click = np.clip(able, 0, room)
    points = click * each
    expected = curve.ap(stock.masks + masks, stock.points - old * each_clicked + points)
    best = int(np.argmax(expected))
    return Advice(
        draw_unlabelled=int(new[best]),
        draw_clicked=int(old[best]),
        click=int(click[best]),
        masks=float(masks[best]),
        points=float(points[best]),
        draw_hours=float(masks[best] * prices["mask"] / 3600),
        click_hours=float(points[best] * prices["point"] / 3600),
        ap_now=float(curve.ap(stock.masks, stock.points)),
        ap=float(expected[best]),
    )


def curve_spread(
    measured: Sequence[Measured], masks: float, points: float, unit: float = 1.0
) -> tuple[float, float]:
    """Lowest and highest AP that curves expect of `masks` and `points`, each fitted without one measurement.

    Needs three measurements or more; says how far one of them decides, and no more.
    """
    found = [
        float(fit_curve([*measured[:place], *measured[place + 1 :]], unit).ap(masks, points))
        for place in range(len(measured))
    ]
    return min(found), max(found)
