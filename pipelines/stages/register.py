"""register: student and labeler as new versions in MLflow's registry, unless they are there already."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines import paths
from pipelines.config.params import rules_in_force
from pipelines.provenance import dvc_inputs
from pipelines.registry import lineage
from pipelines.registry import register as registry
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.tracking.store import open_store
from wssis.files import write_json


def register(stage: StageContext) -> Outcome | None:
    """Write models/registered.json: the versions; empty in a queued experiment, which registers nothing."""
    if paths.in_queued_experiment() or stage.run_id is None:
        write_json(paths.REGISTERED, {})
        stage.say(
            "nothing is registered from a queued experiment; `dvc exp apply` it and run "
            "`dvc repro --single-item --force register`"
        )
        return None
    params = stage.params
    rules = rules_in_force(params)
    summary = json.loads(paths.METRICS_SUMMARY.read_text())
    labels = json.loads(paths.METRICS_PSEUDO.read_text())
    labels |= {key: summary[key] for key in ("label_hours", "full_label_hours")}
    labels[lineage.VAL_DIGEST] = lineage.val_digest(paths.PREPARED_VAL)
    tags = lineage.facts() | {f"dvc/{path}": md5 for path, md5 in dvc_inputs(stage.name).items()}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / registry.ORIGIN
        lineage.collect(stage.name, files)
        tags |= lineage.runs(open_store(), params, files)
        # A labeler is the same whatever a student learnt from its labels.
        labeler = registry.Source(stage.run_id, labels, tags, files)
        student = replace(labeler, measured=summary | labels)
        versions = {
            registry.STUDENT: registry.register_student(paths.STUDENT, params.evaluate.decode, student),
            registry.LABELER: registry.register_labeler(paths.TEACHER, paths.REFINER, rules, labeler),
        }
    write_json(paths.REGISTERED, versions, indent=2)
    for name, number in versions.items():
        stage.say(f"models:/{name}@{registry.ALIAS} is version {number}")
    return Outcome(tags={f"registered/{name}": number for name, number in versions.items()})


if __name__ == "__main__":
    sys.exit(run("register", register, ("evaluate", "pseudo", "tune_pseudo")))
