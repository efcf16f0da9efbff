"""`wssis serve`: a student or a labeler over HTTP, with MLflow's paths and JSON, within limits.

A version's networks and settings are read; the code in it does not run. Requests are answered one after
another. Invalid ones get an error of one line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines import paths
from pipelines.console.ports import listen
from pipelines.inference.load_models import load_predictor
from pipelines.inference.predict import decode_in_force, describe_threshold, device, open_labeler
from pipelines.registry import versions
from pipelines.serving.request import Limits, Row, parse_rows
from pipelines.serving.served_model import Model, PointLabeler, Results, Student, check_sizes
from wssis.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PATHS = "POST /invocations and GET /ping, /health, /version"
ERROR_CODES = {
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    500: "INTERNAL_ERROR",
    404: "NOT_FOUND",
}


class Endpoint:
    """`/invocations`: one request at a time reaches the model, in the order of arrival.

    The model runs in one thread of its own, so that torch has one pool of helpers and /ping still answers.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.worker = ThreadPoolExecutor(1, "model")
        self.in_hand = 0

    async def __call__(self, request: Request) -> Response:
        """Predictions for a request, or an error."""
        seconds, waiting = self.limits.seconds, self.limits.waiting
        if self.in_hand >= waiting:
            return refusal(503, f"{waiting} requests are waiting already; try again later")
        self.in_hand += 1
        deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                body = await self.read_body(request)
                content_type = request.headers.get("content-type", "")
                rows = await asyncio.to_thread(self.read, body, content_type)
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self.worker, self.predict, rows, deadline)
        except TimeoutError:
            return refusal(
                504, f"timed out after {seconds:g} s; send less, or when fewer requests are waiting"
            )
        except ClientDisconnect:
            return Response()
        except InputError as error:
            return refusal(400, str(error))
        finally:
            self.in_hand -= 1
        return JSONResponse({"predictions": results})

    async def read_body(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            InputError: it is too long. What follows is read and dropped first, since a client that is still
                sending would not read the answer; one that sends "Expect: 100-continue" is refused at once.
        """
        too_long = InputError(
            f"expected at most {self.limits.mib:g} MiB, found more",
            where="request",
            remedy="Send fewer or smaller images at a time",
        )
        if "expect" in request.headers and int(request.headers.get("content-length", 0)) > self.limits.body:
            raise too_long
        chunks: list[bytes] = []
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length <= self.limits.body:
                chunks.append(chunk)
            else:
                chunks.clear()
        if length > self.limits.body:
            raise too_long
        return b"".join(chunks)

    def read(self, body: bytes, content_type: str) -> Sequence[Row]:
        """The rows of a request, within the limits."""
        rows = parse_rows(body, content_type, self.model.kind, self.limits)
        check_sizes(rows, self.limits, self.model.resize)
        return rows

    def predict(self, rows: Sequence[Row], deadline: float) -> list[Results]:
        """COCO results of each row, until `deadline` (of `time.monotonic`)."""
        results = []
        for number, row in enumerate(rows):
            if time.monotonic() > deadline:
                raise TimeoutError
            results.append(self.model.answer(row, number))
        return results


class LocalHosts:
    """On the loopback interface, refuse requests under another host's name.

    A web site's name can resolve to this machine, and its pages could then use the model (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        app = self.app
        address = (scope.get("server") or ("",))[0]
        if scope["type"] == "http" and address in LOOPBACK and Request(scope).url.hostname not in LOOPBACK:
            app = refusal(400, f"expected the host {LOOPBACK[0]} or localhost, found another")
        await app(scope, receive, send)


def refusal(status: int, message: str) -> Response:
    """An error in MLflow's form."""
    content = {"error_code": ERROR_CODES.get(status, "BAD_REQUEST"), "message": message}
    return JSONResponse(content, status, {"Retry-After": "1"} if status == 503 else None)


async def no_such_path(request: Request, error: Exception) -> Response:
    """The answer to another path or method."""
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, f"{error.detail.lower()}; this server has {PATHS}")


async def internal_error(request: Request, error: Exception) -> Response:
    """The answer to a fault of ours; uvicorn prints the traceback."""
    return refusal(500, "internal error; the traceback is on the server's terminal")


async def healthy(request: Request) -> Response:
    """The answer once the model is loaded."""
    return Response("\n", media_type="application/json")


async def mlflow_version(request: Request) -> Response:
    """The version of MLflow, as its own server gives it."""
    return Response(version("mlflow"), media_type="application/json")


def http_server(model: Model, limits: Limits) -> uvicorn.Server:
    """A server on a model; `run([socket])` serves it."""
    routes = [
        Route("/invocations", Endpoint(model, limits).__call__, methods=["POST"]),
        Route("/ping", healthy),
        Route("/health", healthy),
        Route("/version", mlflow_version),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: no_such_path, 500: internal_error})
    app.router.redirect_slashes = False
    seconds = int(limits.seconds) + 1  # for requests in hand when the server is stopped
    config = uvicorn.Config(
        LocalHosts(app), log_level="warning", server_header=False, timeout_graceful_shutdown=seconds
    )
    return uvicorn.Server(config)


def open_model(name: str, score: float | None = None) -> Model:
    """Load a student or a labeler from its folder or by its registered name, on a GPU if there is one.

    Args:
        name: a folder or a registered model.
        score: minimum score of a student's instances; None: the model's own threshold.

    Raises:
        InputError: there is no such model, or a score is given for a labeler.
    """
    folder = versions.local_folder(name)
    if (folder / paths.RULES_FILE).exists() or (folder / "teacher").is_dir():
        if score is not None:
            raise InputError(
                "expected a student, found a labeler, which gives every point its mask",
                where=f"--score {score:g}",
                remedy="Leave out --score",
            )
        return PointLabeler(*open_labeler(folder))
    return Student(*load_predictor(folder, decode_in_force(folder), device=device(), score=score))


def serve(name: str, host: str, port: int, limits: Limits, score: float | None = None) -> None:
    """Serve a model over HTTP until interrupted.

    Args:
        name: a folder or a registered model.
        host: address to listen on.
        port: 0 takes a free one.
        limits: of a request.
        score: see `open_model`.

    Raises:
        InputError: the model cannot be used, or the address is taken.
    """
    with listen(host, port) as listener:
        model = open_model(name, score)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}/invocations"
        print(f"serve: {name} ({model.kind}) at {url}; press Ctrl-C to stop", flush=True)
        if isinstance(model, Student):
            print(f"serve: instances {describe_threshold(model.predictor.score)}", flush=True)
        if host not in LOOPBACK:
            warning = f"wssis: warning: anyone who can reach {host} can use the model; see docs/serving.md"
            print(warning, file=sys.stderr)
        http_server(model, limits).run([listener])
