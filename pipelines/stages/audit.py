"""audit: pseudo-labels against the truth of the weak images, where it exists. Nothing trains on this."""

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipelines import paths
from pipelines.report.gallery import all_labels, choose, gallery
from pipelines.report.pictures import save_picture, save_scatter, stack
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.runner.training_log import write_csv
from wssis.data.images import read_image
from wssis.data.records import CocoData
from wssis.files import write_json
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.quality import rank_correlation
from wssis.visualize import draw_instances, side_by_side

PICTURES = 4


@dataclass(frozen=True)
class _Row:
    """A point beside its truth; the field names are columns of plots/pseudo.csv."""

    image_id: int
    id: int
    label: str
    ignored: int
    confidence: float
    quality: float
    rough_iou: float
    refined_iou: float


def audit(stage: StageContext) -> Outcome:
    """Count labels; measure rough and refined masks of all points, the ignored ones included."""
    labels = stage.load(paths.LABELS)
    masks = labels.num_objects
    points = sum(len(image.annotations) for image in labels.images)
    metrics: dict[str, float] = {"points": points, "masks": masks, "ignored": points - masks}
    guessed = without_drawn(labels)
    if guessed.num_objects < masks:
        metrics["drawn"] = masks - guessed.num_objects
    truth = stage.load(paths.WEAK_TRUTH)
    refined, rough = stage.load(paths.PROPOSED), stage.load(paths.PROPOSED_ROUGH)
    rows = _compare(guessed, refined, rough, truth)
    if rows:
        for kind in ("rough", "refined"):
            iou = torch.tensor([getattr(row, f"{kind}_iou") for row in rows])
            metrics[f"{kind}_iou"] = float(iou.mean())
            metrics[f"{kind}_iou50"] = float((iou > 0.5).float().mean())
        metrics["quality_rank_correlation"] = rank_correlation(
            np.array([row.quality for row in rows]), np.array([row.refined_iou for row in rows])
        )
        stage.say(
            f"IoU with the truth: rough {metrics['rough_iou']:.3f}, refined {metrics['refined_iou']:.3f}; "
            f"its rank correlation with quality {metrics['quality_rank_correlation']:.2f}"
        )
    write_json(paths.METRICS_PSEUDO, metrics, indent=2)
    write_csv(paths.PLOT_PSEUDO, [vars(row) for row in rows] or [vars(_Row(0, 0, "", 0, 0.0, 0.0, 0.0, 0.0))])
    save_scatter(
        [row.confidence for row in rows],
        [row.refined_iou for row in rows],
        ("confidence", "IoU with the truth"),
        "Pseudo-labels" if rows else "Pseudo-labels (no truth of weak images)",
        paths.PICTURE_CONFIDENCE,
    )
    draw_worst(labels, refined, rough, truth, rows)
    every = all_labels(guessed, {row.id: (row.rough_iou, row.refined_iou) for row in rows})
    panels = {"rough": rough, "refined": refined, "truth": truth}
    write_json(paths.GALLERY, gallery(choose(every), panels, len(every)))
    pictures = (paths.PICTURE_CONFIDENCE, paths.PICTURE_WORST_LABELS)
    return Outcome(
        headline={f"pseudo/{name}": value for name, value in metrics.items()},
        files=[(picture, "pictures") for picture in pictures],
    )


def without_drawn(labels: CocoData) -> CocoData:
    """The labels but for masks that a person drew in images with points: these say nothing of the labeler."""
    return replace(
        labels,
        images=tuple(
            replace(
                image, annotations=tuple(item for item in image.annotations if not item.extra.get("drawn"))
            )
            for image in labels.images
        ),
    )


def _compare(labels: CocoData, refined: CocoData, rough: CocoData, truth: CocoData) -> list[_Row]:
    """A row for each point whose object has a true mask."""
    rows = []
    for image in labels.images:
        if image.id not in truth.by_id:
            continue
        known = truth.by_id[image.id].instances()
        place = {int(i): n for n, i in enumerate(known.get_ids())}
        points = [item for item in image.annotations if item.id in place]
        if not points or known.masks is None:
            continue
        own = known.masks[[place[item.id] for item in points]]
        ious = {
            name: mask_iou(_masks_of(data, image.id, [item.id for item in points]), own).tolist()
            for name, data in (("rough", rough), ("refined", refined))
        }
        for n, item in enumerate(points):
            name = labels.class_names[item.label]
            confidence = float(item.extra.get("confidence", 0.0))
            rows.append(
                _Row(
                    image.id,
                    item.id,
                    name,
                    int(item.ignored),
                    confidence,
                    float(item.extra.get("quality", confidence)),
                    ious["rough"][n],
                    ious["refined"][n],
                )
            )
    return rows


def _masks_of(data: CocoData, image_id: int, ids: list[int]) -> torch.Tensor:
    """(N, H, W) masks of annotations; empty for those without."""
    record = data.by_id[image_id]
    objects = record.instances()
    place = {int(i): n for n, i in enumerate(objects.get_ids())}
    empty = torch.zeros(record.size, dtype=torch.bool)
    return torch.stack([objects.get_masks()[place[i]] if i in place else empty for i in ids])


def draw_worst(
    labels: CocoData, refined: CocoData, rough: CocoData, truth: CocoData, rows: list[_Row]
) -> None:
    """Rough masks, labels and truth of the images whose labels are worst (by IoU, else by confidence)."""
    badness: dict[int, list[float]] = {}
    for row in rows:
        badness.setdefault(row.image_id, []).append(row.refined_iou)
    if not rows:
        for image in labels.images:
            given = [float(item.extra.get("confidence", 0.0)) for item in image.annotations]
            if given:
                badness[image.id] = given
    worst = sorted(badness, key=lambda i: sum(badness[i]) / len(badness[i]))[:PICTURES] or [
        labels.images[0].id
    ]
    strips = []
    for image_id in worst:
        record = labels.by_id[image_id]
        picture = read_image(labels.image_dir, record.file_name, record.size)
        shown = [("rough", rough), ("refined", refined), ("label", labels)]
        if rows:
            shown.append(("truth", truth))
        panels = [
            draw_instances(picture, data.by_id[image_id].instances(), labels.class_names) for _, data in shown
        ]
        strips.append(side_by_side(panels, [name for name, _ in shown]))
    save_picture(stack(strips), paths.PICTURE_WORST_LABELS)


if __name__ == "__main__":
    sys.exit(run("audit", audit, ()))
