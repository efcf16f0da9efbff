"""`wssis export`: files that agree with the student, and refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.io import write_png
from torchvision.transforms.v2 import functional as TF

from pipelines.cli.main import main
from pipelines.config import protected_paths
from pipelines.inference import export as command
from pipelines.inference.load_models import load_predictor
from wssis.checkpoint import save_model
from wssis.data.images import read_image
from wssis.inference import export
from wssis.models.solov2 import SOLOv2
from wssis.settings import SOLOv2Settings

SETTINGS = SOLOv2Settings(
    backbone="test_resnet",
    pretrained=False,
    strides=(4, 8),
    sources=(0, 1),
    cells=(8, 16),
    ranges=((0, 20), (14, 400)),
    fpn_channels=16,
    head_channels=16,
    head_depth=1,
    mask_channels=8,
)
HEIGHT, WIDTH = 45, 70
DOCS = Path(__file__).parents[3] / "docs/export.md"


def has_onnx() -> None:
    for name in export.EXTRA:
        pytest.importorskip(name)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student that finds objects in patches of color, and none in black."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    model = SOLOv2(SETTINGS, 2).eval().requires_grad_(False)
    model.head.category.weight.mul_(60)
    extra = {"resize": {"scale": 1.5, "short": 0, "long": 1333}, "flips": "all", "category_ids": [3, 7]}
    save_model(folder, model, SETTINGS, "solov2", ("cat", "dog"), extra)
    predictor, _ = load_predictor(folder)
    # Black lies just under the threshold of 0.1, a logit of -2.2.
    black = predictor.raw(pictures()[1:2]).category.max()
    model.head.category.bias.sub_(black + 2.5)
    save_model(folder, model, SETTINGS, "solov2", ("cat", "dog"), extra)
    return folder


def pictures() -> list[torch.Tensor]:
    """Patches of color, black, and patches twice more."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randint(0, 255, (4, 3, 5, 7), generator=generator, dtype=torch.uint8)
    images = TF.resize(patches, [HEIGHT, WIDTH])
    images[1] = 0
    return list(images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures as files, the last of another size."""
    place = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures()):
        write_png(picture if number < 3 else picture[:, :40], str(place / f"{number}.png"))
    return place


@pytest.fixture(scope="module")
def onnx_file(student: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `wssis export --onnx`; its size is that of most pictures."""
    has_onnx()
    out = tmp_path_factory.mktemp("exported") / "student.onnx"
    assert (
        main(["export", "--model", str(student), "--onnx", "--images", str(folder), "--out", str(out)]) == 0
    )
    return out


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_onnx_agrees_with_the_student(student: Path, onnx_file: Path, batch: int) -> None:
    predictor, _ = load_predictor(student)
    result = command.compare_outputs(export.open_onnx(onnx_file, 1), predictor, pictures(), batch)
    assert result.holds, str(result)
    assert result.instances > 3
    assert [len(predictor.predict([image])[0]) > 0 for image in pictures()] == [True, False, True, True]


@pytest.mark.slow
def test_onnx_has_metadata(student: Path, onnx_file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    about = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items() if k != ""}
    assert (about["class_names"], about["category_ids"]) == (["cat", "dog"], [3, 7])
    assert about["input_size"] == [HEIGHT, WIDTH]
    assert about["decode"]["max_detections"] == 100
    assert len(about["model_sha256"]) == 64
    assert [value.name for value in session.get_outputs()] == list(about["outputs"])
    assert session.get_inputs()[0].shape == ["batch", 3, HEIGHT, WIDTH]


@pytest.mark.slow
def test_the_example_in_the_docs_needs_no_torch(student: Path, onnx_file: Path, folder: Path) -> None:
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S).group(1)
    code = code.replace("student.onnx", str(onnx_file)).replace("photo.png", str(folder / "0.png"))
    block = "import sys\nsys.modules['torch'] = sys.modules['wssis'] = None\n"
    done = subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own = load_predictor(student)[0].predict([read_image(folder, "0.png")])[0]
    lines = [
        f"{('cat', 'dog')[label]} {score:.3f}, {pixels} pixels"
        for label, score, pixels in zip(own.labels, own.scores, own.masks.flatten(1).sum(1), strict=True)
    ]
    assert done.stdout.splitlines()[0] == lines[0]
    assert len(done.stdout.splitlines()) == len(lines)


@pytest.mark.slow
def test_torch_export(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without images, the file is compared on drawn scenes."""
    out = tmp_path / "student.pt2"
    call = ["export", "--model", str(student), "--torch-export", "--size", "45", "70", "--out", str(out)]
    assert main(call) == 0
    assert "agrees with the model" in capsys.readouterr().out
    found = {export.METADATA_FILE: ""}
    program = torch.export.load(str(out), extra_files=found)
    assert json.loads(found[export.METADATA_FILE])["class_names"] == ["cat", "dog"]
    predictor, _ = load_predictor(student)
    for batch in (1, 4):
        assert command.compare_outputs(program.module(), predictor, pictures(), batch).holds


@pytest.fixture
def agreeing(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[torch.Tensor], None]], None]:
    """Make the written file agree with the student, but for scores (images, instances) changed in place."""

    def agree_but_for(change: Callable[[torch.Tensor], None]) -> None:
        network = command.Deployable(load_predictor(student)[0], (HEIGHT, WIDTH))

        def answer(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            scores, *others = network(images)
            change(scores)
            return scores, *others

        monkeypatch.setattr(command, "open_torch", lambda path: answer)

    monkeypatch.setattr(command, "export_program", lambda network: network)
    monkeypatch.setattr(command, "write_torch", lambda program, path, about: path.write_bytes(b"new"))
    return agree_but_for


@pytest.mark.parametrize(
    ("moved", "kept"), [("every", False), ("one by much", False), ("one a little", True)]
)
def test_a_file_is_kept_if_it_agrees_within_rounding(
    moved: str, kept: bool, student: Path, folder: Path, tmp_path: Path, agreeing, capsys
) -> None:
    def change(scores: torch.Tensor) -> None:
        if moved == "every":
            scores.mul_(0.999)
        else:
            scores[0, 0] -= 0.02 if "much" in moved else 0.005

    agreeing(change)
    out = tmp_path / "student.pt2"
    out.write_bytes(b"earlier")
    call = ["export", "--model", str(student), "--torch-export", "--images", str(folder), "--out", str(out)]
    assert main(call) == (0 if kept else 2)
    output = capsys.readouterr()
    assert ("within rounding" in output.out) is kept
    assert ("scores within 1e-4" in output.err) is not kept
    assert out.read_bytes() == (b"new" if kept else b"earlier")
    assert [path.name for path in tmp_path.iterdir()] == ["student.pt2"]


def test_invalid_calls_are_refused(
    student: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(*arguments: str) -> str:
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    pt2 = ("--torch-export", "--images", str(folder))
    assert "expected a model folder" in refused("--model", "nowhere", *pt2)
    assert "ends in .pt2" in refused("--model", str(student), *pt2, "--out", "student.onnx")
    assert "--size 512 512" in refused("--model", str(student), "--torch-export")
    assert "found none" in refused("--model", str(student), "--torch-export", "--images", str(tmp_path))
    (tmp_path / "a.pt2").mkdir()
    assert "found a folder" in refused("--model", str(student), *pt2, "--out", "a.pt2")
    (tmp_path / "a.pt2").rmdir()
    monkeypatch.setattr(protected_paths, "stage_folders", lambda: [tmp_path / "models"])
    assert "managed by the pipeline" in refused("--model", str(student), *pt2, "--out", "models/a.pt2")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    missing = refused("--model", str(student), "--onnx", "--images", str(folder))
    assert "no onnxscript" in missing
    assert ".[export]" in missing
    assert list(tmp_path.iterdir()) == []
    for wrong in (["--onnx", "--torch-export"], [], ["--onnx", "--size", "0", "9"]):
        assert main(["export", "--model", str(student), *wrong]) == 2
