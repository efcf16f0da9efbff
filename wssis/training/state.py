"""The state of a training on disk: a killed training resumes and ends with the same weights, bit for bit.

Tensors are in safetensors, everything else in JSON. `state.json` names the tensors that belong to it and is
replaced last, so that a kill at any moment leaves a whole state: the new one or the one before.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wssis.errors import InputError
from wssis.files import write_json, write_tensors

STATE = "state.json"
FORMAT = 1
SHARE = 0.02  # of the time of training that saving may take
BYTES_A_SECOND = 1e8  # a guess at the disk, until a state was written


class Stateful(Protocol):
    """A part of a training: network, optimizer, schedule, average, gradient scaler."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


Parts = Mapping[str, Stateful]


class TrainingStopped(Exception):
    """A training was asked to stop; what is saved is its state after `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class Resume:
    """Where a training keeps its state; make one, begin the data at `step`, and give it to `fit`.

    States are written as often as `share` of the training's time allows, whatever a state takes to write.
    With several processes every one restores; those with `writes` false write nothing, but stop as well.

    Args:
        folder: made with the first state. A state that is there is gone on from.
        share: of the time of training that saving may take.
        stop: asked after each step; true: save and raise `TrainingStopped`.
        before_save: called first, to bring elsewhere what the state counts as done.
        writes: whether this process writes states.

    Attributes:
        step: of the last state; 0 without one.
        notes: JSON values that are saved with a state and are there again after a kill.
        seconds, spent, saves: of training up to the last state, of these in saving, and how many states
            were saved; all since the training first began.
        seconds_now: of training up to the last step.

    Raises:
        InputError: the state cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        share: float = SHARE,
        stop: Callable[[], bool] = lambda: False,
        before_save: Callable[[], None] = lambda: None,
        writes: bool = True,
    ) -> None:
        self.folder, self.share, self.writes = Path(folder), share, writes
        self._stop, self._before_save = stop, before_save
        self._state = self._read()
        self.step = int(self._state.get("step", 0))
        self.seconds = float(self._state.get("seconds", 0.0))
        self.spent = float(self._state.get("spent", 0.0))
        self.saves = int(self._state.get("saves", 0))
        self.seconds_now = self.seconds
        self.notes: dict[str, Any] = self._state.get("notes", {})
        self._cost = float(self._state.get("cost", 0.0))  # of the next state, in seconds
        self._files: dict[float, str] = {}  # of snapshots that are on disk

    def restore(self, parts: Parts) -> int:
        """Bring the parts and all random numbers to the last state; returns its step, 0 without one."""
        if self.writes:
            self._tidy()
        if self.step:
            tensors = self._load(self._state["tensors"])
            for name, part in parts.items():
                part.load_state_dict(put_together(self._state["parts"][name], tensors))
                if isinstance(part, torch.optim.Optimizer):
                    lay_out_like_parameters(part)
            restore_random(put_together(self._state["random"], tensors))
        else:
            # AdamW's two moments and an average are as large as the network.
            size = sum(t.nbytes for t in parts["model"].state_dict().values())
            self._cost = 4 * size / BYTES_A_SECOND
        return self.step

    def snapshots(self) -> dict[float, dict[str, Tensor]]:
        """Weights of the snapshots that had been taken, by share of the iterations."""
        self._files = {float(share): name for share, name in self._state.get("snapshots", [])}
        return {share: self._load(name) for share, name in self._files.items()}

    def after(self, step: int, seconds: float, parts: Parts, snapshots: Mapping[float, nn.Module]) -> None:
        """To be called after each step: saves when it is time, or when asked to stop.

        Args:
            step: that was done.
            seconds: of training, since it first began.
            parts: see `restore`.
            snapshots: networks kept so far; they do not change any more.

        Raises:
            TrainingStopped: it was asked to stop; the state is saved.
            InputError: the disk is full.
        """
        stop, self.seconds_now = self._stop(), seconds
        if self.writes and (stop or self.share * seconds >= self.spent + self._cost):
            self._save(step, seconds, parts, snapshots)
        if stop:
            raise TrainingStopped(self.step)

    def _save(self, step: int, seconds: float, parts: Parts, snapshots: Mapping[float, nn.Module]) -> None:
        begun = time.perf_counter()
        if not all_finite(parts["model"].state_dict()):
            return  # the next step will tell; the last good state stays
        self._before_save()
        for share, model in snapshots.items():
            if share not in self._files:
                write_tensors(self.folder / f"snapshot-{share:g}.safetensors", model.state_dict())
                self._files[share] = f"snapshot-{share:g}.safetensors"
        tensors: dict[str, Tensor] = {}
        state = {
            "format": FORMAT,
            "step": step,
            "tensors": f"step-{step}.safetensors",
            "parts": {name: taken_apart(part.state_dict(), name, tensors) for name, part in parts.items()},
            "random": taken_apart(random_state(), "random", tensors),
            "snapshots": list(self._files.items()),
            "notes": self.notes,
        }
        write_tensors(self.folder / f"step-{step}.safetensors", tensors)
        self._cost = time.perf_counter() - begun
        self.step, self.seconds = step, seconds
        self.spent, self.saves = self.spent + self._cost, self.saves + 1
        write_json(
            self.folder / STATE,
            state | {"seconds": seconds, "spent": self.spent, "saves": self.saves, "cost": self._cost},
        )
        self._state = state
        self._tidy()

    def _tidy(self) -> None:
        """Remove what no state names: an earlier one, and what a kill left half-written."""
        named = {STATE, self._state.get("tensors"), *(name for _, name in self._state.get("snapshots", []))}
        for path in self.folder.glob("*"):
            if path.name not in named:
                path.unlink()

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self._broken(STATE, error) from error
        if not isinstance(state, dict):
            raise self._broken(STATE, TypeError(f"a {type(state).__name__}"))
        return state if state.get("format") == FORMAT else {}

    def _load(self, name: str) -> dict[str, Tensor]:
        try:
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise self._broken(name, error) from error

    def _broken(self, name: str, error: Exception) -> InputError:
        return InputError(
            f"is no state of a training ({error})",
            where=self.folder / name,
            remedy="Remove the folder; the training then starts from the beginning",
        )


def all_finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether every weight is a number."""
    return all(bool(t.isfinite().all()) for t in weights.values() if t.is_floating_point())


def taken_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, with its tensors in `tensors` under names that begin with `name`.

    Raises:
        TypeError: something in it is neither a tensor nor a plain value.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):  # keys may be numbers
        return {"dict": [[key, taken_apart(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [taken_apart(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be saved")


def put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The way back of `taken_apart`; tensors are copies."""
    if isinstance(value, list):
        return [put_together(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].clone()
    if "tuple" in value:
        return tuple(put_together(item, tensors) for item in value["tuple"])
    return {key: put_together(item, tensors) for key, item in value["dict"]}


def lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameters, as if made by the optimizer.

    Files hold them row by row; fused optimizers walk through parameter and moments alike.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def random_state() -> dict[str, Any]:
    """State of every generator that a training may draw from: torch's (CPU and GPUs), numpy's, Python's."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "python": random.getstate(),
    }


def restore_random(state: Mapping[str, Any]) -> None:
    """Set every generator as `random_state` found it."""
    torch.set_rng_state(state["torch"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
