"""A `Deployable` as a file: ONNX, or a program of torch.export."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from wssis.errors import InputError
from wssis.inference.exportable import OUTPUTS, Deployable

EXTRA = ("onnx", "onnxscript", "onnxruntime")  # the optional packages that ONNX needs
OPSET = 20
METADATA_FILE = "wssis.json"  # in a .pt2 file
Outputs = tuple[Tensor, ...]


def require_onnx() -> None:
    """Refuse to begin without the packages of the extra `export`.

    Raises:
        InputError: one of them is missing.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise InputError(
            f"expected the optional packages of ONNX, found no {', '.join(missing)}",
            where="--onnx",
            remedy="`pip install -c constraints.txt -e '.[export]'` installs them; --torch-export needs none",
        )


def export_program(network: Deployable) -> ExportedProgram:
    """The network as a graph: batch free, size of the images fixed."""
    example = torch.zeros((2, 3, *network.size), dtype=torch.uint8, device=network.least.device)
    with quiet():
        return torch.export.export(
            network.eval(), (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
        )


def write_torch(program: ExportedProgram, path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Write a .pt2 file for `torch.export.load`; `metadata` is its file `wssis.json`."""
    buffer = io.BytesIO()  # a path would name the archive's folder after a temporary file
    with quiet():
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata)})
    Path(path).write_bytes(buffer.getvalue())


def write_onnx(program: ExportedProgram, path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Write an ONNX file with the weights in it; `metadata` are its properties, each a JSON value."""
    import onnx_ir as ir
    from onnxscript import opset20 as op

    def stable_sort(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        """torch.onnx has no sort that keeps the order of equals; ONNX Runtime's TopK does."""
        size = op.Shape(values, start=dim, end=dim + 1)
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    with quiet():
        written = torch.onnx.export(
            program,
            (),
            input_names=["images"],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            custom_translation_table={torch.ops.aten.sort.stable: stable_sort},
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    graph = written.model.graph
    for value in (*graph.inputs, *graph.outputs):
        assert value.shape is not None
        names = ("batch", "instances", "", "")
        sizes = [dim if isinstance(dim, int) else name for dim, name in zip(value.shape, names, strict=False)]
        value.shape = ir.Shape(sizes)
    written.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    written.save(str(path), external_data=False)


def open_torch(path: str | Path) -> Callable[[Tensor], Outputs]:
    """A written .pt2 file as a function of images. Torch unpickles parts: only for a file of one's own."""
    with quiet():
        return torch.export.load(str(path)).module()


def open_onnx(path: str | Path, threads: int = 0) -> Callable[[Tensor], Outputs]:
    """A written ONNX file as a function of images, with ONNX Runtime on the CPU.

    Args:
        threads: 0 leaves the number to ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(map(torch.from_numpy, session.run(None, {"images": images.numpy()})))


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn about their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
