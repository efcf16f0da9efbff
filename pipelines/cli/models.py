"""Commands about models: using, registering, promoting and serving them."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice

from pipelines.cli.app import Count, ModelName, Port, Positive, Share, Whole, app
from pipelines.serving.request import Limits

FORMAT = Group("Format", validator=LimitedChoice(1, 1))


@app.command
def predict(
    images: list[str],
    /,
    *,
    model: str,
    out: str,
    points: str | None = None,
    draw: str | None = None,
    score: Share | None = None,
) -> None:
    """Find the instances in images, or the masks of points in them.

    Args:
        images: image files or folders.
        model: a folder such as models/student, or a registered model such as models:/wssis-student@candidate;
            with --points the folder models, or the labeler.
        out: COCO JSON to write.
        points: a file (.csv, .json) of points, each of which gets a mask.
        draw: folder for drawings, a PNG an image.
        score: minimum score of an instance, 0 to 1; default: the threshold that the pipeline chose.
    """
    from pipelines.inference.predict import predict_images

    predict_images(images, model, points, out, draw, score)


@app.command
def evaluate(*, model: str, images: str, annotations: str, out: str) -> None:
    """Measure the mask AP of a model on annotated images.

    Args:
        model: a folder such as models/student, or a registered model such as models:/wssis-student@candidate.
        images: folder of the images.
        annotations: COCO instance JSON.
        out: metrics to write.
    """
    from pipelines.inference.predict import evaluate_model

    evaluate_model(model, images, annotations, out)


@app.command
def export(
    *,
    model: str,
    onnx: Annotated[bool, Parameter(group=FORMAT)] = False,
    torch_export: Annotated[bool, Parameter(group=FORMAT)] = False,
    size: tuple[Count, Count] | None = None,
    out: str | None = None,
    images: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
) -> None:
    """Write a student with its decoding as one file, ONNX or torch.export.

    Args:
        model: a folder such as models/student, or a registered model such as models:/wssis-student@candidate.
        onnx: an .onnx file.
        torch_export: a .pt2 file.
        size: height and width of the images in pixels; default: the commonest of --images.
        out: default student.onnx, student.pt2.
        images: files to test the result on; default: the project's validation images.
    """
    from pipelines.inference.export import export_model

    export_model(model, "onnx" if onnx else "torch-export", size, out, images)


@app.command
def models() -> None:
    """List registered versions: aliases, metrics, data, label hours."""
    from pipelines.promotion.list_versions import list_models

    list_models()


@app.command
def promote(
    version: Whole | None = None,
    /,
    *,
    to: Literal["production"] = "production",
    model: ModelName = "wssis-student",
    why: str = "",
    force: bool = False,
) -> None:
    """Put a registered version into production if it passes the checks.

    Args:
        version: its number; default: the alias candidate.
        to: the alias to move.
        why: reason, recorded with the promotion.
        force: promote whatever the checks say; needs --why.
    """
    from pipelines.config.params import load_sections
    from pipelines.promotion import promote as promotion

    promotion.promote(model, version, load_sections("promote").promote, why=why, force=force)


@app.command
def rollback(*, model: ModelName = "wssis-student", why: str = "") -> None:
    """Swap the version in production and the one before it.

    Args:
        why: reason, recorded.
    """
    from pipelines.promotion import promote as promotion

    promotion.rollback(model, why=why)


@app.command
def trace(model: str, /, *, checkout: str | None = None) -> None:
    """Show what a registered version was made from, or make all of it again.

    Args:
        model: such as models:/wssis-student@production.
        checkout: new folder to restore it in and measure it again, on the CPU.
    """
    from pipelines.registry.trace import trace as trace_version

    trace_version(model, checkout)


@app.command
def serve(
    *,
    model: str,
    host: str = "127.0.0.1",
    port: Port = 5001,
    max_images: Count = Limits.images,
    max_megapixels: Positive = Limits.megapixels,
    max_mib: Positive = Limits.mib,
    max_points: Count = Limits.points,
    max_seconds: Positive = Limits.seconds,
    score: Share | None = None,
) -> None:
    """Answer images over HTTP with a student or a labeler.

    Args:
        model: a folder such as models/student, or a registered model such as models:/wssis-student@candidate;
            or the folder models, or the labeler.
        host: address to listen on.
        max_images: images a request.
        max_megapixels: size of an image.
        max_mib: size of a request.
        max_points: points a request, for a labeler.
        max_seconds: time to answer a request, waiting included.
        score: minimum score of an instance, 0 to 1; default: the threshold that the pipeline chose.
    """
    from pipelines.serving.server import serve as serve_model

    limits = Limits(max_mib, max_images, max_megapixels, max_points, max_seconds)
    serve_model(model, host, port, limits, score)
