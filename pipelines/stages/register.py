"""register: student and labeler as new versions in MLflow's registry, unless they are there already."""

import json
import sys

from pipelines import paths, registry
from pipelines.params import rules_in_force
from pipelines.provenance import dvc_inputs, git_state
from pipelines.stage import Stage, run
from wssis.files import write_json


def register(stage: Stage) -> None:
    """Write models/registered.json: the versions; empty in a queued experiment, which registers nothing."""
    if paths.in_queued_experiment() or stage.tracker.run_id is None:
        write_json(paths.REGISTERED, {})
        stage.say(
            "nothing is registered from a queued experiment; `dvc exp apply` it and run "
            "`dvc repro --single-item --force register`"
        )
        return
    params = stage.params
    rules = rules_in_force(params)
    tags = json.loads(paths.METRICS_SUMMARY.read_text()) | json.loads(paths.METRICS_PSEUDO.read_text())
    tags |= {f"dvc/{path}": md5 for path, md5 in dvc_inputs(stage.name).items()}
    tags["git.commit"], tags["git.dirty"] = git_state()
    run_id = stage.tracker.run_id
    versions = {
        registry.STUDENT: registry.register_student(paths.STUDENT, params.evaluate.decode, run_id, tags),
        registry.LABELER: registry.register_labeler(paths.TEACHER, paths.REFINER, rules, run_id, tags),
    }
    write_json(paths.REGISTERED, versions, indent=2)
    stage.tracker.tags({f"registered/{name}": number for name, number in versions.items()})
    for name, number in versions.items():
        stage.say(f"models:/{name}@{registry.ALIAS} is version {number}")


if __name__ == "__main__":
    sys.exit(run("register", register, ("evaluate", "pseudo", "tune")))
