"""`wssis export`: a student with its decoding as one file that runs without wssis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from pipelines import paths
from pipelines.config.protected_paths import check_own
from pipelines.inference.load_models import load_predictor
from pipelines.inference.predict import decode_in_force, image_set
from pipelines.registry import versions
from pipelines.registry.register import content_hash
from wssis import __version__
from wssis.data.coco import load_coco
from wssis.data.images import read_image
from wssis.data.records import Category, CocoData
from wssis.data.synthetic import draw_scene
from wssis.errors import InputError
from wssis.files import atomic_path
from wssis.inference.agreement import Parity, parity
from wssis.inference.export import (
    export_program,
    open_onnx,
    open_torch,
    require_onnx,
    write_onnx,
    write_torch,
)
from wssis.inference.exportable import OUTPUTS, Deployable
from wssis.inference.predictor import Predictor
from wssis.instances import Instances

TRIAL_IMAGES = 8
SUFFIX = {"onnx": ".onnx", "torch-export": ".pt2"}


def export_model(
    model: str, kind: str, size: Sequence[int] | None, out: str | None, images: Sequence[str] | None
) -> None:
    """Write a student as a file, and keep it only if it agrees with the student.

    Args:
        kind: "onnx" or "torch-export".
        size: (H, W) of the images; None: the most common size of `images`.
        images: files or folders to compare on; None: the project's validation images, or drawn scenes if
            there are none.

    Raises:
        InputError: the model or the images cannot be used, packages are missing, or the file disagrees with
            the student; nothing is written then.
    """
    target = Path(out or f"student{SUFFIX[kind]}")
    check_own(out=target)
    if target.is_dir():
        raise InputError("expected a name for a file, found a folder", where=f"--out {target}")
    if target.suffix != SUFFIX[kind]:
        raise InputError(
            f"expected a file name that ends in {SUFFIX[kind]}, found {target.name}", where="--out"
        )
    if kind == "onnx":
        require_onnx()
    folder = versions.local_folder(model)
    predictor, categories = load_predictor(folder, decode_in_force(folder))
    size, trial = trial_images(images, size, categories)
    network = Deployable(predictor, size)
    print(f"export: network and decoding for images of {size[0]} x {size[1]} px (height x width)", flush=True)
    program = export_program(network)
    about = metadata(network, predictor, categories, content_hash(folder))
    with atomic_path(target) as temporary:
        (write_onnx if kind == "onnx" else write_torch)(program, temporary, about)
        exported = (open_onnx if kind == "onnx" else open_torch)(temporary)
        result = compare_outputs(exported, predictor, trial)
        if not result.within_rounding:
            raise InputError(
                f"expected the instances of {model} (scores within 1e-4, mask IoU 0.999), found {result}",
                where=target,
                remedy="Nothing was written; try other --images or another --size, and report it",
            )
    agrees = "agrees with the model" if result.holds else "agrees with the model within rounding"
    print(f"export: {agrees}: {result}")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, any number of images of {size[0]} x {size[1]} px")


def metadata(
    network: Deployable, predictor: Predictor, categories: tuple[Category, ...], digest: str
) -> dict[str, Any]:
    """JSON values by name, stored in the file."""
    return {
        "wssis_version": __version__,
        "model_sha256": digest,
        "class_names": [category.name for category in categories],
        "category_ids": [category.id for category in categories],
        "input_size": list(network.size),
        "input": "images: uint8 (batch, 3, height, width), RGB, upright",
        "outputs": list(OUTPUTS),
        "candidates": network.candidates,
        "decode": asdict(predictor.settings),
        "resize": asdict(predictor.resize),
    }


def trial_images(
    images: Sequence[str] | None, size: Sequence[int] | None, categories: tuple[Category, ...]
) -> tuple[tuple[int, int], list[Tensor]]:
    """The size to export, and up to 8 images of it; resized if none has it, drawn if there are none."""
    data = project_or_given_images(images, categories)
    if data is None:
        if size is None:
            raise InputError(
                "expected the height and width of the images, found none, and no images to take it from",
                where="--size",
                remedy="For example `--size 512 512`, or `--images FOLDER`",
            )
        height, width = size
        rng = np.random.default_rng(0)
        scenes = [torch.from_numpy(draw_scene(rng, max(size)).image) for _ in range(TRIAL_IMAGES)]
        return (height, width), [x.permute(2, 0, 1)[:, :height, :width].contiguous() for x in scenes]
    height, width = size or Counter(record.size for record in data.images).most_common(1)[0][0]
    records = [record for record in data.images if record.size == (height, width)] or list(data.images)
    read = [read_image(data.image_dir, r.file_name, r.size) for r in records[:TRIAL_IMAGES]]
    return (height, width), [
        x if x.shape[1:] == (height, width) else TF.resize(x, [height, width], antialias=True) for x in read
    ]


def project_or_given_images(
    images: Sequence[str] | None, categories: tuple[Category, ...]
) -> CocoData | None:
    """The given images, else the project's validation images if it has any."""
    if images:
        return image_set(images, categories)
    if not paths.PREPARED_VAL.exists():
        return None
    data = load_coco(paths.PREPARED_VAL)
    folder = paths.source(data.image_dir)
    return image_set([str(folder)], categories) if data.images and folder.is_dir() else None


def compare_outputs(
    exported: Callable[[Tensor], tuple[Tensor, ...]],
    predictor: Predictor,
    images: Sequence[Tensor],
    batch: int = 3,
) -> Parity:
    """Agreement of the exported program, run in batches, with the predictor."""
    found = []
    for start in range(0, len(images), batch):
        found += unpad(exported(torch.stack(list(images[start : start + batch]))))
    own = [predictor.predict([image])[0] for image in images]
    return parity(own, found, predictor.settings.keep_threshold, predictor.settings.max_detections)


def unpad(outputs: Sequence[Tensor]) -> list[Instances]:
    """The instances of each image, without the padding of the batch.

    Args:
        outputs: scores (B, N), labels (B, N), masks (B, N, H, W), counts (B,).
    """
    scores, labels, masks, counts = outputs
    height, width = masks.shape[2:]
    return [
        Instances(size=(height, width), labels=labels[i, :n], masks=masks[i, :n], scores=scores[i, :n])
        for i, n in enumerate(counts.tolist())
    ]
