"""A registered version's workspace again: a clone as the project was then, whose metrics come out alike.

Git has the commit, DVC's cache the data, and the version its code, dvc.yaml, params.yaml, metrics and the
dvc.lock of its registration. Code and files are taken from the version, so that changes which were not
committed at the time are restored with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines import paths
from pipelines.config.params import read_lock
from pipelines.provenance import dvc_outs
from pipelines.registry.lineage import uncached
from pipelines.registry.register import LABELER, NO_BYTECODE, ORIGIN, PACKAGES, STUDENT
from pipelines.registry.versions import Version
from wssis.errors import InputError

# The stages that give a version its metrics; their metrics files are what must come out again.
MEASURED_BY = {STUDENT: ("evaluate",), LABELER: ("pseudo", "audit")}

Say = Callable[[str], None]


def restore(version: Version, folder: Path, say: Say = print) -> None:
    """Restore the workspace of a version in a new folder and run the stages that measured it, on the CPU.

    Raises:
        InputError: the folder has files, the version was registered without its origin, git's commit or
            something in DVC's cache is lost (the folder is removed then), or other metrics come out.
    """
    origin = origin_of(version)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("expected a new folder, found files", where=folder, remedy="Name another folder")
    root = paths.project_root()
    try:
        clone(root, version.tags.get("git.commit", ""), folder)
        overlay(version, origin, folder)
        stages = list(read_lock(folder / paths.DVC_LOCK)["stages"])
        fill(root, folder, stages)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    link_images(root, folder)
    changed = run_command(["git", "status", "--porcelain", "--untracked-files=no"], folder).splitlines()
    say(f"{folder}: commit {version.tags['git.commit']}, {len(changed)} files as they were, not as committed")
    differing = json.loads(dvc(["status", "--json", *stages], folder))
    say(f"dvc status: {f'other than in dvc.lock: {sorted(differing)}' if differing else 'as in dvc.lock'}")
    measured = MEASURED_BY[version.name]
    for stage in measured:
        say(measure(stage, folder))
    _compare(version, origin, folder, uncached(measured, origin / paths.DVC_YAML), say)


def origin_of(version: Version) -> Path:
    """The folder of a version with the files that restore its workspace.

    Raises:
        InputError: it was registered without.
    """
    folder = version.files.parent / ORIGIN
    if not (folder / paths.DVC_LOCK).exists():
        raise InputError(
            "expected the dvc.lock of its registration, found none",
            where=version.uri,
            remedy="It was registered outside of `dvc repro`, or by an earlier wssis; register it again",
        )
    return folder


def clone(root: Path, commit: str, folder: Path) -> None:
    """Clone the project's repository at a commit.

    Raises:
        InputError: the commit is not there.
    """
    words = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    if not commit or subprocess.run(words, cwd=root, capture_output=True, check=False).returncode:
        raise InputError(
            f"expected the commit of the registration ({commit or 'not recorded'}), found none",
            where=root,
            remedy="Fetch it from the repository it was made in",
        )
    run_command(["git", "clone", "--quiet", "--no-checkout", str(root), str(folder.resolve())], root)
    run_command(["git", "checkout", "--quiet", "--detach", commit], folder)


def overlay(version: Version, origin: Path, folder: Path) -> None:
    """Put the version's code and files in place of those of the commit."""
    for package in PACKAGES:
        shutil.rmtree(folder / package, ignore_errors=True)
        shutil.copytree(version.folder / "code" / package, folder / package, ignore=NO_BYTECODE)
    shutil.copytree(origin, folder, dirs_exist_ok=True)


def fill(root: Path, folder: Path, stages: Sequence[str]) -> None:
    """Check out what the stages wrote from the project's cache, or from its remote where it has one.

    Raises:
        InputError: something is in neither.
    """
    cache = dvc(["cache", "dir"], root).strip()
    dvc(["config", "--local", "cache.dir", cache], folder)
    dvc(["checkout", "--quiet", "--force", "--allow-missing", *stages], folder)
    wanted = list(dvc_outs(read_lock(folder / paths.DVC_LOCK)["stages"].values()))
    if not all((folder / path).exists() for path in wanted) and dvc(["remote", "list"], folder).strip():
        dvc(["pull", "--quiet", "--force", "--allow-missing", *stages], folder)
    lost = [path for path in wanted if not (folder / path).exists()]
    if lost:
        raise InputError(
            f"expected {lost[0]}, found it neither there nor in a remote",
            where=cache,
            record=f"{len(lost)} of {len(wanted)} paths",
            remedy="`dvc gc` may have removed it; a remote (`dvc push`) keeps what versions need",
        )


def link_images(root: Path, folder: Path) -> None:
    """Link the user's images inside the project, ignored by git, so that the clone finds them too."""
    for path in (paths.PREPARED_TRAIN, paths.PREPARED_VAL):
        images = Path(json.loads((folder / path).read_text())["info"]["image_dir"])
        if not images.is_absolute() and not (folder / images).exists() and (root / images).exists():
            (folder / images).parent.mkdir(parents=True, exist_ok=True)
            (folder / images).symlink_to(root / images)


def measure(stage: str, folder: Path) -> str:
    """Run a stage in the clone, with the clone's code, on the CPU; returns what it said."""
    words = read_lock(folder / paths.DVC_YAML)["stages"][stage]["cmd"].split()
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["CUDA_VISIBLE_DEVICES"] = ""
    return run_command([sys.executable, *words[1:]], folder, env).strip()


def _compare(version: Version, origin: Path, folder: Path, files: Sequence[Path], say: Say) -> None:
    """Hold the metrics files against those of the registration.

    Raises:
        InputError: a byte differs.
    """
    for path in files:
        old, new = (origin / path).read_bytes(), (folder / path).read_bytes()
        if old != new:
            values = [" ".join(text.decode().split()) for text in (old, new)]
            raise InputError(
                f"expected {values[0]}, found {values[1]}",
                where=folder / path,
                remedy="Another machine, GPU or release of torch gives other last digits, and DVC does not "
                "see changes of your own images: docs/registry.md",
            )
        say(f"{path}: the same as registered with {version.uri}, byte for byte")


def dvc(words: Sequence[str], folder: Path) -> str:
    """The output of a dvc command."""
    return run_command([sys.executable, "-m", "dvc", *words], folder)


def run_command(words: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> str:
    """The output of a command.

    Raises:
        InputError: it ended with another code than 0; its last line is shown.
    """
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InputError(
            f"`{' '.join(Path(word).name for word in words[:6])}` ended with {done.returncode}: "
            f"{lines[-1] if lines else 'it said nothing'}",
            where=folder,
        )
    return done.stdout
