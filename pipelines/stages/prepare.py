"""prepare: the data set as checked COCO JSON, drawn (`shapes`) or from a person's folder."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from pipelines import paths
from pipelines.config.schema import Folder
from pipelines.console.progress import Meter
from pipelines.runner.run_stage import Outcome, StageContext, run
from wssis.data import synthetic
from wssis.data.coco import load_coco, save_coco
from wssis.data.images import check_image, image_digest
from wssis.data.label_cost import count_labels
from wssis.data.records import CocoData
from wssis.errors import InputError
from wssis.files import write_json, write_text


def prepare(stage: StageContext) -> Outcome:
    """Write train and val annotations, and the images of `shapes`."""
    data = stage.params.data
    if data.source == "shapes":
        settings = data.shapes
        train, val = synthetic.generate(
            paths.PREPARED, settings.seed, settings.train, settings.val, settings.size
        )
    else:
        assert data.train is not None
        assert data.val is not None
        train = read_folder(data.train, "train")
        val = read_folder(data.val, "val")
        if train.categories != val.categories:
            raise InputError(
                f"expected the categories of {train.path} ({len(train.categories)}), "
                f"found others ({len(val.categories)})",
                where=val.path or "",
                record="categories",
                remedy="Give both files the same ids and names",
            )
        for coco, folder, out, images in (
            (train, data.train, paths.PREPARED_TRAIN, paths.PREPARED_TRAIN_IMAGES),
            (val, data.val, paths.PREPARED_VAL, paths.PREPARED_VAL_IMAGES),
        ):
            save_coco(coco, out)
            # A DVC out even where the images stay elsewhere; DVC warns of an empty one at every stage.
            write_text(images / "where.txt", f"The images are not copied. They are in {folder.images}\n")
    # Counts only: the ledger prices them in `split`, which must not see val itself.
    write_json(paths.PREPARED_VAL_LABELS, {"labels": count_labels(val, "val")})
    counts: dict[str, float] = {}
    for name, coco in (("train", train), ("val", val)):
        stage.say(
            f"{name}: {len(coco.images)} images, {coco.num_objects} objects, {coco.num_classes} classes"
        )
        counts |= {f"{name}/images": len(coco.images), f"{name}/objects": coco.num_objects}
    return Outcome(metrics=counts)


def read_folder(folder: Folder, name: str) -> CocoData:
    """Annotations of a person's folder, each image's header checked against them."""
    annotations = paths.source(folder.annotations)
    if folder.sha256 and annotations.exists() and image_digest(annotations) != folder.sha256:
        raise InputError(
            f"expected the labels that params.yaml was made for (data.{name}.sha256), found others",
            where=annotations,
            remedy="Run `wssis preset NAME --data DIR` again, or set sha256 to null",
        )
    data = load_coco(annotations, paths.source(folder.images))
    with Meter(f"check {name} images", len(data.images), "images") as meter:
        for image in data.images:
            check_image(data.image_dir, image.file_name, image.size)
            meter.step()
    inside = not os.path.isabs(folder.images) and Path(folder.images).parts[0] != os.pardir
    # A folder inside the project is named from the project, so that every workspace writes the same file.
    return replace(data, image_dir=folder.images) if inside else data


if __name__ == "__main__":
    sys.exit(run("prepare", prepare, ("data",)))
