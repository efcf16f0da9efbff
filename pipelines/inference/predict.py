"""`wssis predict` and `wssis evaluate`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pipelines import paths
from pipelines.config.params import load_sections, rules_in_force
from pipelines.console.text import pluralize
from pipelines.decode_file import own_decode
from pipelines.inference.label_dataset import each_image, labeled, predicted_results
from pipelines.inference.load_models import load_labeler, load_labeler_folder, load_predictor
from pipelines.registry import versions
from pipelines.report.pictures import save_picture
from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.images import MAX_PIXELS, check_image
from wssis.data.points import read_points
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.evaluation.coco_ap import results_ap
from wssis.files import write_json
from wssis.inference.predictor import check_pixels
from wssis.instances import Instances
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import DecodeSettings
from wssis.visualize import draw_instances

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".jp2"}


def predict_images(
    images: Sequence[str],
    model: str,
    points: str | None,
    out: str,
    draw: str | None,
    score: float | None = None,
) -> None:
    """Write COCO JSON of a model's instances, or of a labeler's masks for `points`, in `images`.

    Args:
        images: files or folders.
        draw: folder for a PNG per image.
        score: minimum score of an instance; None: the model's own threshold.

    Raises:
        InputError: images, points or model cannot be used; nothing is written then.
    """
    if points is not None and score is not None:
        raise InputError(
            "expected no --points: every point gets its mask",
            where=f"--score {score:g}",
            remedy="Leave one of the two out",
        )
    folder = versions.local_folder(model)
    labeler, predictor = None, None
    if points is not None:
        labeler, categories = open_labeler(folder)
        data, resize = with_points(image_set(images, categories), Path(points)), labeler.resize
    else:
        thresholds = decode_in_force(folder)
        predictor, categories = load_predictor(folder, thresholds, device=device(), score=score)
        data, resize = image_set(images, categories), predictor.resize
    for record in data.images:
        check_pixels(record.size, resize, MAX_PIXELS, Path(data.image_dir) / record.file_name)
    done: list[ImageRecord] = []
    total = 0
    for record, image, prompts in each_image(data, "predict"):
        if labeler:
            instances = labeler.label(image, *prompts)
            done.append(labeled(record, instances))
        elif predictor:
            [instances] = predictor.predict([image])
            done.append(replace(record, annotations=_annotations(instances, total + 1)))
        total += len(done[-1].annotations)
        if draw:
            name = Path(record.file_name).with_suffix(".png").as_posix().replace("/", "__")
            save_picture(draw_instances(image, instances, data.class_names), Path(draw) / name)
    save_coco(replace(data, images=tuple(done)), out)
    line = f"{out}: {pluralize(total, 'instance')} in {pluralize(len(done), 'image')}"
    if predictor:
        line += f" {describe_threshold(predictor.score)}"
        if predictor.left_out:
            saved = "" if thresholds else f", as saved in {folder / paths.DECODE_FILE}"
            kept = f"{total:,} of {total + predictor.left_out:,} kept"
            line += f"; {kept} (evaluate.decode.max_detections){saved}"
    print(line)


def _annotations(instances: Instances, first: int) -> tuple[Annotation, ...]:
    """Instances as annotations with consecutive ids."""
    rles = rle_api.encode(instances.get_masks())
    columns = zip(instances.labels.tolist(), rles, instances.get_scores().tolist(), strict=True)
    return tuple(
        Annotation(i, label, rle, score=score) for i, (label, rle, score) in enumerate(columns, first)
    )


def describe_threshold(score: float) -> str:
    """The score threshold in words."""
    return f"with a score >= {score:.2g} (--score 0 keeps all)" if score else "with any score"


def evaluate_model(model: str, images: str, annotations: str, out: str) -> None:
    """Write the mask AP of a model on annotated images.

    Raises:
        InputError: model or data cannot be used, or the classes are not the model's.
    """
    folder = versions.local_folder(model)
    predictor, categories = load_predictor(folder, decode_in_force(folder), device=device())
    data = load_coco(annotations, images)
    names = tuple(category.name for category in categories)
    if data.class_names != names:
        first, second = (
            f"{', '.join(known[:5])}{', …' if len(known) > 5 else ''}" for known in (names, data.class_names)
        )
        raise InputError(
            f"expected the model's classes ({first}), found {second}",
            where=annotations,
            record="categories",
            remedy=f"Give the categories of the data that {model} was trained on",
        )
    results = predicted_results(predictor, data, "evaluate")
    backend = load_sections("evaluate").evaluate.backend if paths.PARAMS.exists() else "pycocotools"
    scores = results_ap(data, results, predictor.settings.max_detections, backend)
    write_json(out, scores, indent=2)
    print("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def open_labeler(folder: Path) -> tuple[Labeler, tuple[Category, ...]]:
    """A registered labeler, or the pipeline's own from a folder with `teacher/` and `refiner/`."""
    if (folder / paths.RULES_FILE).exists():
        return load_labeler_folder(folder, device())
    if not (folder / "teacher").is_dir():
        raise InputError(
            "expected a labeler (teacher/ and refiner/) for --points, found none",
            where=folder,
            remedy="Give the folder models, or models:/wssis-labeler@candidate, or leave out --points",
        )
    rules = rules_in_force(load_sections("pseudo", "tune_pseudo")) if paths.PARAMS.exists() else PseudoRules()
    return load_labeler(folder / "teacher", folder / "refiner", rules, device())


def decode_in_force(folder: Path) -> DecodeSettings | None:
    """Decoding thresholds from params.yaml for a model of this project, or for one without its own.

    None for other models: a registered version keeps its thresholds.
    """
    here = folder.resolve().is_relative_to(paths.STUDENT.parent.resolve())
    if paths.PARAMS.exists() and (here or own_decode(folder)[0] is None):
        return load_sections("evaluate").evaluate.decode
    return None


def device() -> str:
    """The first GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def image_set(images: Sequence[str], categories: tuple[Category, ...]) -> CocoData:
    """Image files and the images in folders as a data set without annotations; headers are checked."""
    files = [path.resolve() for path in image_files(images)]
    root = Path(os.path.commonpath([path.parent for path in files]))
    records = []
    for number, path in enumerate(files, 1):
        name = path.relative_to(root).as_posix()
        records.append(ImageRecord(number, name, *check_image(root, name)))
    return CocoData(categories, tuple(records), str(root))


def image_files(images: Sequence[str]) -> Iterator[Path]:
    """The given files, and the images in the given folders."""
    for name in images:
        path = Path(name)
        if not path.is_dir():
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(
                "expected images, found none", where=path, remedy="Name image files, or their folder"
            )
        yield from inside


def with_points(data: CocoData, path: Path) -> CocoData:
    """The data set with an annotation per point of a points file."""
    found = read_points(path, data)
    number, images = 0, []
    for record in data.images:
        points = found.get(record.id, [])
        annotations = tuple(
            Annotation(number + n, label, point=(x, y), clicks=clicks)
            for n, (x, y, label, clicks) in enumerate(points, 1)
        )
        number += len(points)
        images.append(replace(record, annotations=annotations))
    return replace(data, images=tuple(images))
