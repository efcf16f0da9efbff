"""The ledger: every label that was used, for what, and the seconds that it cost to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wssis.data.coco import CocoData

# Seconds a label. Mask: COCO's polygons (Lin et al. 2014). Box: extreme clicking (Papadopoulos et al. 2017).
# Point: a click on an object of a known class, as DESIGN.md prices it.
PRICES: Mapping[str, float] = {"mask": 79.2, "box": 7.0, "point": 1.9}

Use = Literal["training", "selection", "evaluation"]


def labels_used(data: CocoData, use: Use, prices: Mapping[str, float] = PRICES) -> list[dict[str, Any]]:
    """Entries of a ledger: image_id, file_name, kind (mask, point), use, count and seconds.

    An annotation with a mask counts as a mask (crowds, too), one with a point only as a point; an image
    without either has no entry.
    """
    entries = []
    for image in data.images:
        masks = sum(item.rle is not None for item in image.annotations)
        for kind, count in (("mask", masks), ("point", len(image.annotations) - masks)):
            if count:
                seconds = round(count * prices[kind], 3)
                entry = {"image_id": image.id, "file_name": image.file_name, "kind": kind, "use": use}
                entries.append({**entry, "count": count, "seconds": seconds})
    return entries


def make_ledger(
    labels: Sequence[Mapping[str, Any]], objects: int, prices: Mapping[str, float] = PRICES
) -> dict[str, Any]:
    """The ledger as JSON values.

    Args:
        labels: entries of `labels_used`.
        objects: objects of all training images, whatever their label.
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
