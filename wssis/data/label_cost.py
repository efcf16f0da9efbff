"""The ledger: every label used, its purpose, and the seconds it cost to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wssis.data.records import Annotation, CocoData

# Seconds a label. Mask: COCO's polygons, 22 worker hours for 1,000 (Lin et al., ECCV 2014). Box: extreme
# clicking, 7.0 s (Papadopoulos et al., ICCV 2017). Point: a click at the middle of an object of a class that
# is known to be there, 1.87 s (Papadopoulos et al., CVPR 2017).
PRICES: Mapping[str, float] = {"mask": 79.2, "box": 7.0, "point": 1.9}

Use = Literal["training", "selection", "evaluation"]
Kind = Literal["mask", "box", "point"]
KINDS: tuple[Kind, ...] = ("mask", "box", "point")


def kind_of(item: Annotation) -> Kind:
    """What a person drew: a mask (also of a crowd), else a box if there is a field `box`, else a point."""
    if item.rle is not None:
        return "mask"
    return "box" if item.extra.get("box") is not None else "point"


def count_labels(
    data: CocoData, source: str = "train", kinds: Mapping[int, Kind] | None = None
) -> list[dict[str, Any]]:
    """Labels by image and kind: `set`, `image_id`, `file_name`, `kind` and `count`; no masks, no prices.

    Args:
        data: an image without annotations has no entry.
        source: the set that the images belong to, `train` or `val`, which have separate image ids.
        kinds: by annotation id, where it differs from `kind_of`.
    """
    entries = []
    for image in data.images:
        found = Counter((kinds or {}).get(item.id) or kind_of(item) for item in image.annotations)
        found["point"] += sum(len(item.clicks) for item in image.annotations)
        for kind in KINDS:
            if found[kind]:
                entry = {"set": source, "image_id": image.id, "file_name": image.file_name}
                entries.append({**entry, "kind": kind, "count": found[kind]})
    return entries


def price(
    counted: Sequence[Mapping[str, Any]], use: Use, prices: Mapping[str, float] = PRICES
) -> list[dict[str, Any]]:
    """Entries of a ledger: those of `count_labels` with their `use` and `seconds`."""
    return [
        {**entry, "use": use, "seconds": round(entry["count"] * prices[entry["kind"]], 3)}
        for entry in counted
    ]


def labels_used(data: CocoData, use: Use, prices: Mapping[str, float] = PRICES) -> list[dict[str, Any]]:
    """`count_labels` of training images, priced."""
    return price(count_labels(data), use, prices)


def make_ledger(
    labels: Sequence[Mapping[str, Any]], objects: int, prices: Mapping[str, float] = PRICES
) -> dict[str, Any]:
    """The ledger as JSON values.

    Args:
        labels: entries of `price`.
        objects: number of objects in all training images.
        prices: seconds a label of each kind.

    Returns:
        `prices`, `labels`, and `totals`: counts and seconds by use and kind, `label_hours` (training and
        selection: what a user has to draw) and `full_label_hours` (a mask for every object instead).
    """
    totals: dict[str, Any] = {}
    for entry in labels:
        kind = totals.setdefault(entry["use"], {}).setdefault(entry["kind"], {"count": 0, "seconds": 0.0})
        kind["count"] += entry["count"]
        kind["seconds"] = round(kind["seconds"] + entry["seconds"], 3)
    drawn = sum(entry["seconds"] for entry in labels if entry["use"] != "evaluation")
    totals["label_hours"] = round(drawn / 3600, 6)
    totals["full_label_hours"] = round(objects * prices["mask"] / 3600, 6)
    return {"prices": dict(prices), "totals": totals, "labels": [dict(entry) for entry in labels]}
