"""`wssis budget`: what to draw and what to click next, from the project's own runs or the paper's table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.console.text import pluralize
from pipelines.datasets.past_measurements import own_measurements
from wssis.errors import InputError
from wssis.files import write_json
from wssis.label_budget import PAPER, Advice, Curve, Measured, Stock, advise, after, curve_spread, fit_curve

LABEL_SETS = 3  # runs with different numbers of masks, below which nothing can be said of the curve's bend


def budget(
    hours: float | None, out: str | None = None, folder: str | None = None, which: int | None = None
) -> None:
    """Print how much to draw and click and which images to draw, and write both to `out`.

    Args:
        hours: of a person's work that are left; None: no advice on numbers.
        out: JSON file, or None.
        folder: with instances.json, as `wssis import` writes it; None: data/splits, or else data/mine.
        which: number of images to name; None: none.

    Raises:
        InputError: neither is wanted, no project, or no labeled object at hand.
    """
    if hours is None and which is None:
        raise InputError("expected --hours or --which", where="budget", remedy="Give one of them, or both")
    found: dict[str, Any] = {} if hours is None else advice_for(hours, folder)
    if which is not None:
        from pipelines.datasets.which_images import which_images  # with torch, which advice does not need

        found["which"] = which_images(which)
    if out:
        write_json(out, found, indent=2)


def advice_for(hours: float, folder: str | None) -> dict[str, Any]:
    """Print the advice for so many hours; returns it with its figures."""
    params = load_params()
    stock, place = stock_at_hand(Path(folder) if folder else None)
    prices = params.prices.model_dump()
    if stock.points + stock.masks == 0:
        raise InputError(
            "expected a labeled object, found none: the number of objects an image is unknown",
            where=place,
            remedy="Label a few images first",
        )
    basis = basis_of(*own_measurements(params), stock)
    advice = advise(stock, hours, prices, basis.curve)
    between = curve_spread(basis.used, *after(stock, advice), basis.curve.unit)
    print(
        f"At hand ({place}): {pluralize(stock.drawn, 'image')} drawn, {stock.clicked:,} clicked, "
        f"{stock.unlabelled:,} unlabeled; "
        f"{pluralize(stock.masks, 'mask')} and {pluralize(stock.points, 'point')}, "
        f"{stock.objects_per_image:.1f} objects an image.\n"
        f"With {hours:g} h: {in_words(stock, advice)}\n"
        f"Expected AP: {advice.ap:.3f}, now {advice.ap_now:.3f} ({between[0]:.3f} to {between[1]:.3f} if any "
        f"one measurement is left out; the curve misses them by up to {basis.curve.miss:.3f})."
    )
    for line in where_from(basis, after(stock, advice)[0]):
        print(line)
    return {
        "hours": hours,
        "prices": prices,
        "data": place,
        "stock": asdict(stock) | {"objects_per_image": stock.objects_per_image},
        "advice": asdict(advice),
        "ap_between": list(between),
        "curve": asdict(basis.curve) | {"from": "runs" if basis.own else "paper"},
        "measured": [one._asdict() for one in basis.used],
        "label_sets": basis.label_sets,
        "left_out": basis.left_out,
    }


@dataclass(frozen=True)
class Basis:
    """What the advice goes by.

    Attributes:
        own: whether `used` are the project's own measurements and not the paper's.
        used: what `curve` was fitted to.
        label_sets: own runs with different numbers of masks.
        left_out: own runs that tell nothing about today's, by reason.
    """

    own: bool
    used: list[Measured]
    curve: Curve
    label_sets: int
    left_out: dict[str, int]


def basis_of(measured: list[Measured], left_out: dict[str, int], stock: Stock) -> Basis:
    """The project's own measurements if there are enough; else the paper's, as shares of all objects."""
    label_sets = len({round(one.masks) for one in measured})
    own = label_sets >= LABEL_SETS
    used = measured if own else list(PAPER)
    return Basis(own, used, fit_curve(used, 1.0 if own else stock.objects), label_sets, left_out)


def where_from(basis: Basis, masks: float) -> Iterator[str]:
    """Which measurements were used, and what they do not tell; `masks` are those of the advice."""
    if basis.own:
        used = pluralize(len(basis.used), "measurement")
        yield f"From: the project's own runs, {used} on this validation set."
        if masks > 2 * max(one.masks for one in basis.used):
            yield "That is more than twice the masks of any run so far: take the AP as a guess."
    else:
        yield (
            "From: the paper's table (COCO, 1 to 100 % of the images drawn, the others clicked), by shares "
            f"of all objects. Own runs with different numbers of masks: {basis.label_sets}; a curve of your "
            f"own needs {LABEL_SETS}. Your images are not COCO: trust the mix more than the AP."
        )
    for reason, count in basis.left_out.items():
        yield f"Left out: {pluralize(count, 'run')}, {reason}."


def in_words(stock: Stock, advice: Advice) -> str:
    """What to do."""
    parts = []
    draw = advice.draw_unlabelled + advice.draw_clicked
    if draw:
        both = advice.draw_unlabelled and advice.draw_clicked
        clicked = f", {advice.draw_clicked} of them clicked already" if both else ""
        clicked = clicked or (", clicked already" if advice.draw_clicked else "")
        objects = f"{pluralize(advice.masks, 'object')}, {advice.draw_hours:.1f} h{clicked}"
        parts.append(f"draw masks on about {pluralize(draw, 'image')} ({objects})")
    if advice.click:
        objects = f"{pluralize(advice.points, 'object')}, {advice.click_hours:.1f} h"
        parts.append(f"click points on about {pluralize(advice.click, 'image')} ({objects})")
    if parts:
        words = " and ".join(parts)
        return f"{words[0].upper()}{words[1:]}."
    if stock.unlabelled + stock.clicked == 0:
        return "Nothing is left to label: every image is drawn. More images are what would help."
    return "That is not enough to label one image."


def stock_at_hand(folder: Path | None) -> tuple[Stock, str]:
    """Images and labels, and the folder that they were counted in."""
    if folder is None and paths.LEDGER.exists():
        return stock_of_splits(), str(paths.LEDGER.parent)
    folder = folder or paths.IMPORTED
    if not (folder / paths.INSTANCES).exists():
        raise InputError(
            "expected data/splits or imported data, found neither"
            if folder == paths.IMPORTED
            else "does not exist",
            where=folder / paths.INSTANCES,
            remedy="`wssis import` your labels, or run `dvc repro split`",
        )
    return stock_of_import(folder / paths.INSTANCES), str(folder)


def stock_of_import(path: Path) -> Stock:
    """Images and labels of imported data; unlabeled are the image files that it does not list."""
    from wssis.data.records import image_kind
    from wssis.validation.image_files import listing  # with torch, which data/splits does not need

    document = read_plain(path)
    rows, info = counted(document, path), document.get("info")
    folder = str(info.get("image_dir") or "") if isinstance(info, dict) else ""
    listed = {os.path.normpath(str(image.get("file_name"))) for image in document["images"]}
    clicked = [row for row in rows if image_kind(sum(row), row[0]) in ("weak", "mixed")]
    return Stock(
        unlabelled=len(listing(folder) - listed) if folder else 0,
        clicked=len(clicked),
        drawn=len(rows) - len(clicked),
        points=sum(row[1] for row in rows),
        masks=sum(row[0] for row in rows),
    )


def stock_of_splits() -> Stock:
    """Images and labels of the project, as `split` wrote them."""

    def counted_in(path: Path) -> list[tuple[int, int]]:
        return counted(read_plain(path), path)

    drawn = counted_in(paths.STRONG) + counted_in(paths.HOLDOUT)
    clicked = counted_in(paths.POINTS)
    also = sum(row[0] for row in counted_in(paths.DRAWN)) if paths.DRAWN.exists() else 0
    return Stock(
        unlabelled=len(json.loads(paths.LEDGER.read_text())["unlabelled"]),
        clicked=len(clicked),
        drawn=len(drawn),
        points=sum(row[1] for row in clicked) - also,
        masks=sum(row[0] for row in drawn) + also,
    )


def read_plain(path: Path) -> dict[str, Any]:
    """COCO JSON as plain values: masks need no decoding to be counted."""
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document["images"], list):
            raise TypeError("images")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_coco(path, error) from error
    return dict(document)


def counted(document: Mapping[str, Any], path: Path) -> list[tuple[int, int]]:
    """Masks and points without one of each image, crowds and ignore regions left out."""
    try:
        counts = {image["id"]: [0, 0] for image in document["images"]}
        for item in document["annotations"]:
            if not (item.get("iscrowd") or item.get("ignore")):
                counts[item["image_id"]][0 if item.get("segmentation") else 1] += 1
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_coco(path, error) from error
    return [(masks, points) for masks, points in counts.values()]


def _no_coco(path: Path, error: Exception) -> InputError:
    return InputError(
        f"expected COCO JSON ({error!r})", where=path, remedy="`wssis check` says what is wrong"
    )
