"""Every artifact of the pipeline, named once, relative to the workspace (the folder a stage runs in).

The workspace of `dvc repro` is the project; that of a queued experiment is a copy of it under
`.dvc/tmp/exps/`. What outlives both (the MLflow store, a person's own data) lies in `project_root()`.
A cell of `wssis compare` is a small workspace inside one of them, in which stages find the same paths.
"""

from __future__ import annotations

from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
PRESETS = Path("presets")
CODE = Path("code.json")  # digests of the code behind each stage

# prepare
PREPARED = Path("data/prepared")
PREPARED_TRAIN = Path("data/prepared/train.json")
PREPARED_VAL = Path("data/prepared/val.json")
PREPARED_VAL_LABELS = Path("data/prepared/val_labels.json")
PREPARED_TRAIN_IMAGES = Path("data/prepared/train")
PREPARED_VAL_IMAGES = Path("data/prepared/val")

# split
STRONG = Path("data/splits/strong.json")
HOLDOUT = Path("data/splits/holdout.json")
POINTS = Path("data/splits/points.json")
LEDGER = Path("data/splits/ledger.json")
DRAWN = Path("data/splits/drawn.json")
WEAK_TRUTH = Path("data/truth/weak.json")

# teacher, refiner, student, strong_only
TEACHER = Path("models/teacher")
TEACHER_EARLY = Path("models/teacher_early")
TEACHER_LATE = Path("models/teacher_late")
REFINER = Path("models/refiner")
STUDENT = Path("models/student")
STRONG_ONLY = Path("models/strong_only")
# dvc.yaml lists the files of these two folders one by one, because the stage evaluate adds decode.json.
STUDENT_WEIGHTS = Path("models/student/weights.safetensors")
STUDENT_META = Path("models/student/model.json")
STUDENT_DECODE = Path("models/student/decode.json")
STRONG_ONLY_WEIGHTS = Path("models/strong_only/weights.safetensors")
STRONG_ONLY_META = Path("models/strong_only/model.json")
STRONG_ONLY_DECODE = Path("models/strong_only/decode.json")

# rough, tune_refiner, tune_pseudo, pseudo
ROUGH_EARLY = Path("data/rough/early.json")
ROUGH_LATE = Path("data/rough/late.json")
TUNED_REFINER = Path("tuned/refiner.yaml")
TUNED_PSEUDO = Path("tuned/pseudo.yaml")
LABELS = Path("data/pseudo/labels.json")
PROPOSED = Path("data/pseudo/proposed.json")
PROPOSED_ROUGH = Path("data/pseudo/proposed_rough.json")

# audit, evaluate
GALLERY = Path("data/audit/gallery.json")
METRICS_PSEUDO = Path("metrics/pseudo.json")
METRICS_TEACHER = Path("metrics/teacher.json")
METRICS_STRONG_ONLY = Path("metrics/strong_only.json")
METRICS_STUDENT = Path("metrics/student.json")
METRICS_DETECTIONS = Path("metrics/detections.json")
METRICS_SUMMARY = Path("metrics/summary.json")

# plots: tables that `dvc plots` draws, and pictures
PLOT_TEACHER = Path("plots/teacher.csv")
PLOT_REFINER = Path("plots/refiner.csv")
PLOT_STUDENT = Path("plots/student.csv")
PLOT_STRONG_ONLY = Path("plots/strong_only.csv")
PLOT_TUNE_REFINER = Path("plots/tune_refiner.csv")
PLOT_TUNE_PSEUDO = Path("plots/tune_pseudo.csv")
PLOT_PSEUDO = Path("plots/pseudo.csv")
PLOT_CLASSES = Path("plots/classes.csv")
PICTURE_WORST_LABELS = Path("plots/worst_labels.png")
PICTURE_CONFIDENCE = Path("plots/confidence.png")
PICTURE_PREDICTIONS = Path("plots/predictions.png")

# register, report
REGISTERED = Path("models/registered.json")
REPORT = Path("report")
REPORT_HTML = REPORT / "index.html"
REPORT_SUMMARY = REPORT / "summary.md"
REPORT_EXAMPLE = REPORT / "example.png"

# import: a person's data, where no other folder was named
IMPORTED = Path("data/mine")
INSTANCES = "instances.json"  # in a folder that `wssis import` wrote

# compare: a cell for each fraction of strong images and seed, and what it came to
COMPARE_YAML = Path("compare/dvc.yaml")
COMPARE_CELLS = Path("compare/work")
COMPARE_MEASURED = Path("compare/measured")
COMPARE_RESULTS = Path("compare/results.json")
COMPARE_AP = Path("compare/ap.csv")
COMPARE_THRESHOLDS = Path("compare/thresholds.csv")
COMPARE_DOC = Path("docs/compare.md")
COMPARE_BY_FRACTION = Path("docs/images/compare_fraction.png")
COMPARE_BY_HOURS = Path("docs/images/compare_hours.png")
COMPARE_SWEEP = Path("docs/images/compare_thresholds.png")

# in a cell, beside what the pipeline's own stages write there: a file or folder a row
ROW_LABELS = Path("data/labels")
ROW_MODELS = Path("models/rows")
ROW_PLOTS = Path("plots/rows")
THRESHOLDS = Path("tuned/thresholds.json")

# in the folder of a model, beside its networks; the latter where it is registered
DECODE_FILE = "decode.json"
RULES_FILE = "rules.json"

# outside of every workspace: below project_root()
STORE = Path("mlflow.db")
MLRUNS = Path("mlruns")
PROMOTIONS = Path("mlruns/promotions.jsonl")
SCRATCH = Path(".scratch")
OPTUNA_JOURNAL = SCRATCH / "optuna.journal"


def cell(folder: Path | None = None) -> str:
    """Name of the cell of `wssis compare` that a folder (the current one) is, "" if it is none."""
    folder = (folder or Path.cwd()).resolve()
    return folder.name if folder.parts[-3:-1] == COMPARE_CELLS.parts else ""


def dvc_workspace(folder: Path | None = None) -> Path:
    """The folder that DVC's paths start from: the current one, or that which holds the cell."""
    folder = (folder or Path.cwd()).resolve()
    return folder.parents[2] if cell(folder) else folder


def measured_file(name: str) -> Path:
    """A file with measurements of the current cell, which the table of `wssis compare` reads."""
    return dvc_workspace() / COMPARE_MEASURED / cell() / name


def project_root(workspace: Path | None = None) -> Path:
    """The project's own folder, also from the workspace of a queued or temporary experiment.

    `workspace` is the current folder unless given; the result is absolute.
    """
    folder = dvc_workspace(workspace)
    for parent in (folder, *folder.parents):
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return folder


def in_queued_experiment(workspace: Path | None = None) -> bool:
    """True in the workspace copy that DVC makes for a queued or temporary experiment."""
    folder = dvc_workspace(workspace)
    return project_root(folder) != folder


def source(path: str | Path) -> Path:
    """A path that params name: absolute as it is, otherwise in the workspace or else in the project.

    A queued experiment's workspace holds only what git and DVC know, so that a folder beside the
    project (`../data`) or ignored in it is looked for where the project is.
    """
    path = Path(path)
    if path.is_absolute() or path.exists():
        return path
    return project_root() / path
