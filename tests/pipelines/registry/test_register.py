"""Registered models: one version per content, the alias `candidate`, and loading in a new process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import load_params
from pipelines.decode_file import write_decode
from pipelines.inference.load_models import load_predictor
from pipelines.registry import register as registry
from pipelines.registry import versions
from pipelines.runner.run_stage import StageContext
from pipelines.serving.request import LabelerRow, StudentRow
from pipelines.serving.server import open_model
from pipelines.stages.register import register
from pipelines.tracking.store import open_store
from wssis.data.images import read_image
from wssis.errors import InputError
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import DecodeSettings

LOW = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=3)


@pytest.fixture
def run_id(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run in a project of its own, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(store, tmp_path / "mlflow.db")
    client = open_store()
    location = (tmp_path / paths.MLRUNS / "test").as_uri()
    return client.create_run(client.create_experiment("test", location)).info.run_id


def test_the_same_content_is_one_version(run_id: str, models: Path) -> None:
    client, source = open_store(), registry.Source(run_id, {"AP": 0.5})
    for decode, number in ((LOW, 1), (LOW, 1), (DecodeSettings(), 2), (LOW, 1)):
        assert registry.register_student(models / "teacher", decode, source) == number
        assert int(client.get_model_version_by_alias(registry.STUDENT, "candidate").version) == number
    tags = client.get_model_version(registry.STUDENT, "1").tags
    assert tags["AP"] == "0.5"
    assert len(tags[registry.CONTENT_TAG]) == 64


def test_a_version_holds_safetensors_code_and_pins_but_no_pickle(run_id: str, models: Path) -> None:
    registry.register_labeler(models / "teacher", models / "refiner", PseudoRules(), registry.Source(run_id))
    folder = versions.local_folder("models:/wssis-labeler@candidate")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("rules.json", "teacher/model.json", "teacher/weights.safetensors"),
        *("refiner/model.json", "refiner/weights.safetensors"),
    }
    version = folder.parent.parent
    assert (version / "code/wssis/pseudo_labels/labeler.py").exists()
    assert not [path for path in version.rglob("*") if path.suffix in (".pkl", ".pyc", ".pt", ".pth")]
    pins = (version / "requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins)
    assert any(pin.startswith("torch==") for pin in pins)


def test_content_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / "-".join(f"{name}{text}" for name, text in files.items())
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return registry.content_hash(folder)

    assert digest(a="1", b="2") == digest(b="2", a="1")
    assert (
        len({digest(a="3", b="4"), digest(a="4", b="3"), digest(a="12"), digest(ab="1"), digest(a="1")}) == 5
    )


def test_models_are_found_in_the_projects_own_store(
    run_id: str, models: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register_student(models / "teacher", LOW, registry.Source(run_id))
    (tmp_path / "other").mkdir()
    shutil.copy(store, tmp_path / "other/mlflow.db")
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match="expected a registered model"):
        versions.local_folder("models:/wssis-student@candidate")
    monkeypatch.chdir(tmp_path)
    assert (versions.local_folder("models:/wssis-student@candidate") / "model.json").exists()


def test_a_missing_model_is_named(run_id: str) -> None:
    with pytest.raises(InputError, match="models:/wssis-student@candidate"):
        versions.local_folder("models:/wssis-student@candidate")
    assert versions.local_folder("models/student") == Path("models/student")


def test_commands_unpickle_nothing(
    run_id: str, models: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register_student(models / "teacher", LOW, registry.Source(run_id))
    registry.register_labeler(models / "teacher", models / "refiner", PseudoRules(), registry.Source(run_id))
    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "torch.load"):
        monkeypatch.setattr(name, lambda *words, **options: pytest.fail("unpickled"))
    image = (images / "a.png").read_bytes()
    student, labeler = (open_model(f"models:/{n}@candidate") for n in (registry.STUDENT, registry.LABELER))
    assert student.answer(StudentRow(image=image), 0)
    row = LabelerRow.model_validate({"image": image, "points": [{"x": 1, "y": 2, "class": "dog"}]})
    assert [found["category_id"] for found in labeler.answer(row, 0)] == [7]


def test_a_pickled_model_is_refused(run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    class Trap(mlflow.pyfunc.PythonModel):
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

        def predict(self, context: object, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.set_registry_uri(mlflow.get_tracking_uri())
    with mlflow.start_run(run_id=run_id):
        mlflow.pyfunc.log_model(
            name="student", python_model=Trap(), pip_requirements=[], registered_model_name=registry.STUDENT
        )
    uri = f"models:/{registry.STUDENT}/1"
    with pytest.raises(InputError, match=r"python_model\.pkl, which would have to be unpickled"):
        versions.local_folder(uri)
    with pytest.raises(mlflow.exceptions.MlflowException, match="pickle is disallowed"):
        mlflow.pyfunc.load_model(uri)
    assert not (tmp_path / "sprung").exists()


def test_foreign_versions_are_refused(tmp_path: Path, models: Path) -> None:
    own = tmp_path / "artifacts/model"
    shutil.copytree(models / "teacher", own)
    versions.refuse_foreign(tmp_path, "models:/x/1")
    for name in ("python_model.pkl", "data/model.PTH", "artifacts/model/weights.pt", "code/x.joblib"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(b"")
        with pytest.raises(InputError, match=f"models:/x/1: .*{file.name}, which would have to be unpickled"):
            versions.refuse_foreign(tmp_path, "models:/x/1")
        file.unlink()
    (own / "model.json").unlink()
    with pytest.raises(InputError, match="found another one"):
        versions.refuse_foreign(tmp_path, "models:/x/1")


def test_the_stage_registers_each_measurement_once(run_id: str, models: Path, images: Path) -> None:
    root = Path(__file__).parents[3]
    for name, path in (("teacher", paths.TEACHER), ("teacher", paths.STUDENT), ("refiner", paths.REFINER)):
        shutil.copytree(models / name, path)
    shutil.copytree(images, paths.PREPARED_VAL_IMAGES)
    document = {"info": {"image_dir": str(paths.PREPARED_VAL_IMAGES)}, "images": [{"file_name": "a.png"}]}
    hours = {"label_hours": 2.0, "full_label_hours": 9.0}
    summary = {"student_AP": 0.3, "gain": 0.1} | hours
    for path, value in (
        (paths.PREPARED_VAL, document),
        (paths.METRICS_SUMMARY, summary),
        (paths.METRICS_PSEUDO, {"points": 3, "refined_iou": 0.7}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    params = load_params(root / "params.yaml")
    untuned = params.tune_pseudo.model_copy(update={"use_tuned": False})
    stage = StageContext("register", params.model_copy(update={"tune_pseudo": untuned}))
    stage.tracker.run_id = run_id

    def expect_registered(student: int, labeler: int) -> None:
        numbers = {"wssis-student": student, "wssis-labeler": labeler}
        assert json.loads(paths.REGISTERED.read_text()) == numbers

    register(stage)
    register(stage)
    expect_registered(1, 1)
    student, labeler = (
        dict(open_store().get_model_version(n, "1").tags) for n in ("wssis-student", "wssis-labeler")
    )
    assert (student["student_AP"], student["label_hours"], student["refined_iou"]) == ("0.3", "2.0", "0.7")
    assert len(student["val.digest"]) == 64
    assert "git.commit" in student
    assert "student_AP" not in labeler
    assert labeler["val.digest"] == student["val.digest"]
    # Another AP makes another version of the student, not of the labeler.
    paths.METRICS_SUMMARY.write_text(json.dumps(summary | {"student_AP": 0.4}))
    register(stage)
    expect_registered(2, 1)
    # Other validation images make other versions of both.
    (paths.PREPARED_VAL_IMAGES / "a.png").write_bytes(b"other")
    register(stage)
    expect_registered(3, 2)


@pytest.mark.slow
def test_versions_load_elsewhere_without_pickles_or_other_packages(
    run_id: str, models: Path, images: Path, tmp_path: Path
) -> None:
    predictor, _ = load_predictor(models / "teacher", LOW)
    scores = predictor.predict([read_image(images, "a.png")])[0].scores
    assert scores is not None
    write_decode(shutil.copytree(models / "teacher", tmp_path / "student"), LOW, float(scores[1]))
    registry.register_student(tmp_path / "student", LOW, registry.Source(run_id))
    registry.register_labeler(models / "teacher", models / "refiner", PseudoRules(), registry.Source(run_id))
    script = textwrap.dedent(f"""
        import json, sys
        for name in ("ruamel", "orjson", "dvc", "optuna", "rich"):  # not in a version's requirements
            sys.modules[name] = None
        import mlflow, pandas, pickle, cloudpickle, torch

        def refuse(event, words=()):
            if event.startswith("pickle."):
                raise SystemExit(f"unpickled: {{event}} {{words}}")

        sys.addaudithook(refuse)  # is called for every class that an unpickler looks up
        for module in (pickle, cloudpickle):
            module.load = module.loads = lambda *words, **options: refuse("pickle.load")
        torch.load = lambda *words, **options: refuse("pickle.torch")
        mlflow.set_tracking_uri("sqlite:///{tmp_path / "mlflow.db"}")
        image = open({str(images / "a.png")!r}, "rb").read()
        points = [{{"x": 70.5, "y": 20.0, "class": "dog"}}, {{"x": 10.0, "y": 10.0, "class": "cat"}}]
        student = mlflow.pyfunc.load_model("models:/wssis-student@candidate")
        labeler = mlflow.pyfunc.load_model("models:/wssis-labeler@candidate")
        import wssis
        assert "mlruns" in wssis.__file__, wssis.__file__
        try:
            labeler.predict(pandas.DataFrame({{"image": [b"no image"], "points": [points]}}))
        except mlflow.exceptions.MlflowException as error:
            assert error.message.startswith("row 0, image: expected an image"), error.message
        print(json.dumps([
            student.predict(pandas.DataFrame({{"image": [image]}})),
            student.predict(pandas.DataFrame({{"image": [image]}}), params={{"score": 1.0}}),
            student.predict(pandas.DataFrame({{"image": [image]}}), params={{"score": 0.0}}),
            labeler.predict(pandas.DataFrame({{"image": [image], "points": [points]}})),
        ]))
    """)
    (tmp_path / "elsewhere").mkdir()
    command, folder = [sys.executable, "-c", script], tmp_path / "elsewhere"
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    (found,), (none,), (everything,), (labeled,) = json.loads(done.stdout)
    assert none == []
    assert everything[: len(found)] == found
    assert len(everything) == 3 > len(found)
    assert [point["category_id"] for point in labeled] == [7, 3]
    # `wssis predict` gives the same masks.
    call = ["predict", str(images / "a.png"), "--model", "models:/wssis-student@candidate", "--out", "r.json"]
    assert main(call) == 0
    own = json.loads(Path("r.json").read_text())["annotations"]
    assert 0 < len(own) <= 3
    assert [a["segmentation"] for a in own] == [a["segmentation"] for a in found]
    assert [a["score"] for a in own] == [a["score"] for a in found]
