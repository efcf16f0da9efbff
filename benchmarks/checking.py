"""Time and memory of `wssis check` on a file of COCO's size, beside `pycocotools.COCO(...)` of the same file.

    python -m benchmarks.checking /tmp/large [--images 118287] [--annotations 860001]

writes images and a file into the folder unless they are there, then runs both, each in a process of its own.
The images are small, but as many and of as many different lengths as to make looking for doubles work.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from wssis.files import write_json

CLASSES = 80
COCO = "from pycocotools.coco import COCO; import sys; COCO(sys.argv[1])"


def main() -> None:
    """Make the data where it lacks, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--annotations", type=int, default=860_001)
    parser.add_argument("--out", help="JSON file to write")
    options = parser.parse_args()
    file = options.folder / "instances.json"
    if not file.exists():
        generate(options.folder, options.images, options.annotations)
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")
    check = ["-m", "pipelines.cli.main", "check", str(options.folder), "--model", "none"]
    rows = {}
    for name, words in (("pycocotools.COCO", ["-c", COCO, str(file)]), ("wssis check", check)):
        seconds, work, memory = measured([sys.executable, *words])
        print(f"{name}: {seconds:.1f} s ({work:.1f} s of a core), {memory:.2f} GB at most in one process")
        rows[name] = {"seconds": seconds, "cpu_seconds": work, "peak_gb": memory}
    if options.out:
        write_json(options.out, {"benchmark": "checking", "rows": rows}, indent=2)


def measured(words: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of a process and those that it started, and the GB (10^9) of the largest."""
    start = time.perf_counter()
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[1:3]} ended with {process.returncode}")
    work = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, work, usage.ru_maxrss * 1024 / 1e9


def generate(folder: Path, images: int, annotations: int) -> None:
    """Write images of 640 x 480 and a COCO file with polygons of about COCO's lengths."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) // 64 * 64).resize((64, 48)).resize(
        (640, 480)
    ).save(buffer, "JPEG", quality=30)
    records = []
    for number in range(1, images + 1):
        name = f"{number:012}.jpg"
        (folder / "images" / name).write_bytes(
            buffer.getvalue() + rng.bytes(int(rng.integers(1, 60_000)) // 8)
        )
        records.append({"id": number, "file_name": name, "height": 480, "width": 640})
    owner = np.sort(rng.integers(1, images + 1, annotations)).tolist()
    labels = rng.integers(1, CLASSES + 1, annotations).tolist()
    corners = np.clip(rng.lognormal(3.0, 0.6, annotations), 4, 400).astype(int)
    document = {
        "info": {"image_dir": os.path.abspath(folder / "images")},
        "images": records,
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)],
        "annotations": [
            annotation(rng, number, image, label, count)
            for number, (image, label, count) in enumerate(zip(owner, labels, corners, strict=True), 1)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(document))


def annotation(
    rng: np.random.Generator, number: int, image: int, label: int, corners: int
) -> dict[str, object]:
    """A star with rough rays round a random place."""
    radius = float(np.clip(rng.lognormal(3.3, 1.0), 2, 200))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    ray = radius * rng.uniform(0.7, 1, corners)
    middle = rng.uniform((0, 0), (640, 480))
    line = middle + ray[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    line = np.clip(line, 0, (640, 480)).round(2)
    low, high = line.min(0), line.max(0)
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "iscrowd": 0,
        "area": radius**2,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "segmentation": [line.ravel().tolist()],
    }


if __name__ == "__main__":
    main()
