"""How long `wssis import coco` takes on an annotation file of COCO's size, beside `pycocotools.COCO(...)`.

    python -m benchmarks.importing [--images 118287] [--annotations 860001] [--folder DIR] [--out FILE]

makes the file (polygons of COCO's sizes, some of several parts, one crowd in a hundred) and links to a few
real JPEG files in a temporary folder, and runs each program in a process of its own. Memory, looked at once a
second: the largest resident set (RSS) of the process alone, and the largest sum of proportional set sizes
(PSS) of it and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.errors import InputError
from wssis.files import atomic_path, write_json

SIZES = ((480, 640), (640, 480), (427, 640), (375, 500), (612, 612), (333, 500))
CLASSES = 80
LINKS = 30_000  # to a file: ext4 allows 65 000
GIB = 2**30
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """What a program took; `rss` of its own process, `pss` with its children, in GiB."""

    program: str
    seconds: float
    rss: float
    pss: float


def make(folder: Path, images: int, annotations: int, seed: int = 0) -> tuple[Path, Path]:
    """The annotation file and the image folder."""
    rng = np.random.default_rng(seed)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    rows = []
    for number in range(1, images + 1):
        kind = number % len(SIZES)
        height, width = SIZES[kind]
        source = pictures / f"source_{kind}_{number // LINKS}.jpg"
        if not source.exists():
            noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((width, height)).save(source, quality=90)
        name = f"{number:012d}.jpg"
        os.link(source, pictures / name)
        rows.append({"id": number, "file_name": name, "height": height, "width": width})
    path = folder / "instances.json"
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
        file.write(
            f'{{"categories": {json.dumps(categories)}, "images": {json.dumps(rows)}, "annotations": ['
        )
        owners = np.sort(rng.integers(0, images, annotations))
        for number, owner in enumerate(owners.tolist(), 1):
            row = annotation(rng, number, rows[owner])
            file.write(("" if number == 1 else ",\n") + json.dumps(row))
        file.write("]}\n")
    return path, pictures


def annotation(rng: np.random.Generator, number: int, image: dict[str, int]) -> dict[str, object]:
    """A blob, its size as in COCO (median 55 px across, from 4 to all of the image)."""
    height, width = image["height"], image["width"]
    across = float(np.clip(rng.lognormal(np.log(55), 1.0), 4, min(height, width)))
    row = {"id": number, "image_id": image["id"], "category_id": int(rng.integers(1, CLASSES + 1))}
    if number % 100 == 0:
        runs = np.diff(np.sort(rng.integers(0, height * width, 40)), prepend=0, append=height * width)
        return row | {
            "segmentation": {"size": [height, width], "counts": runs.tolist()},
            "iscrowd": 1,
            "bbox": [0, 0, width, height],
            "area": 1,
        }
    parts = []
    for _ in range(1 + int(rng.random() < 0.1) + int(rng.random() < 0.03)):
        corners = int(np.clip(rng.lognormal(np.log(20), 0.6), 4, 200))
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        radius = across / 2 * rng.uniform(0.7, 1.0, corners)
        center = rng.uniform(0, (width, height))
        outline = center + radius[:, None] * np.stack((np.cos(angles), np.sin(angles)), 1)
        parts.append(np.clip(outline, 0, (width, height)).round(2).ravel().tolist())
    corner = np.min([np.reshape(part, (-1, 2)).min(0) for part in parts], 0).round(2).tolist()
    box = [*corner, round(across, 2), round(across, 2)]
    return row | {"segmentation": parts, "iscrowd": 0, "bbox": box, "area": round(across**2, 2)}


def measure(program: str, command: Sequence[str], folder: Path | None = None) -> Cost:
    """Run a command to its end, in a folder if one is given."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
    watched = psutil.Process(process.pid)
    rss = pss = 0.0
    while process.poll() is None:
        total = 0
        with suppress(psutil.Error):
            rss = max(rss, watched.memory_info().rss)
            for each in (watched, *watched.children(recursive=True)):
                with suppress(psutil.Error):
                    total += each.memory_full_info().pss
        pss = max(pss, total)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
    if process.returncode:
        raise InputError(f"ended with {process.returncode}", where=program)
    return Cost(program, time.perf_counter() - start, rss / GIB, pss / GIB)


def run(images: int, annotations: int, folder: str | None, out: str | None) -> None:
    """Generate, measure, print a table, write JSON."""
    place = nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="wssis-importing-")
    with place as root:
        data = Path(root or ".") / f"{images}-{annotations}"
        path, pictures = data / "instances.json", data / "pictures"
        if not path.exists():
            make(data, images, annotations)
        loading = f"from pycocotools.coco import COCO; COCO({str(path)!r})"
        imported = ["import", "coco", str(path), "--images", str(pictures), "--out", str(data / "mine")]
        costs = [
            measure("pycocotools.COCO(...)", [sys.executable, "-c", loading]),
            measure("wssis import coco", [sys.executable, "-m", "pipelines.cli.main", *imported, "--force"]),
        ]
        size = path.stat().st_size / 2**20
    rows = [(c.program, f"{c.seconds:.1f}", f"{c.rss:.2f}", f"{c.pss:.2f}") for c in costs]
    print(f"{images} images, {annotations} annotations, {size:.0f} MiB\n")
    print(as_markdown([("program", "seconds", "RSS GiB", "PSS with children GiB"), *rows]))
    if out:
        values = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "mib": round(size)}
        write_json(
            out,
            {**values, "images": images, "annotations": annotations, "costs": [asdict(c) for c in costs]},
            indent=2,
        )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importing", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--images", type=int, default=118_287, help="default 118287, as COCO train2017")
    parser.add_argument("--annotations", type=int, default=860_001, help="default 860001")
    parser.add_argument("--folder", help="keep what is made here, and use it again; default: a temporary one")
    parser.add_argument("--out", help="JSON file to write")
    given = parser.parse_args(arguments)
    if min(given.images, given.annotations) < 1:
        parser.error("images and annotations must be at least 1")
    return exit_code(lambda: run(given.images, given.annotations, given.folder, given.out))


if __name__ == "__main__":
    sys.exit(main())
