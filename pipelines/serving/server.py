"""`wssis serve`: MLflow's scoring server on a student or a labeler, behind a guard that knows its limits.

MLflow's server alone answers a fault of a model with its traceback, echoes what it was sent, and takes
bodies of any size. The guard reads the body, refuses what is wrong with 400 and one line, and passes on what
is left in one form. Of a registered version only the networks are read: its code is not run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pandas as pd
import uvicorn
from mlflow.models import Model as Description
from mlflow.pyfunc import PyFuncModel, scoring_server
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines import paths
from pipelines.console.ports import listen
from pipelines.inference.load_models import load_predictor
from pipelines.inference.predict import decode_in_force, device, open_labeler, shown_from
from pipelines.registry import register
from pipelines.serving.request import read_rows
from pipelines.serving.request_limits import Limits
from pipelines.serving.served_model import Model, PointLabeler, Results, Student
from wssis.errors import InputError

METHODS = {"/invocations": "POST", "/ping": "GET", "/health": "GET", "/version": "GET"}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Call:
    """A request on its way through MLflow's server; the model notes here what went wrong."""

    deadline: float  # of time.monotonic()
    status: int = 500
    problem: str = "expected an answer of the model, found a fault: the server's terminal says which"


CALL: ContextVar[Call] = ContextVar("CALL")


class OneAtATime:
    """A model as MLflow's server calls it, from many threads: one request at a time, none after its time.

    All work is done in one thread: the order of arrival is kept, and torch has one pool of helpers.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.worker = model, ThreadPoolExecutor(1, "model")

    def predict(self, table: pd.DataFrame, params: Any = None) -> list[Results]:
        """The answer to each row of a table.

        Raises:
            TimeoutError: it came too late. (A row once begun is not broken off, but nothing waits for it.)
        """
        call = CALL.get()
        rows: list[Any] = table.to_dict("records")
        future = self.worker.submit(self.answers, rows, call)
        try:
            return future.result(max(0.0, call.deadline - time.monotonic()))
        except TimeoutError:
            future.cancel()
            raise

    def answers(self, rows: list[Any], call: Call) -> list[Results]:
        """The answer to each row; what went wrong is noted in `call`."""
        results = []
        try:
            for number, row in enumerate(rows):
                if time.monotonic() > call.deadline:
                    raise TimeoutError
                results.append(self.model.answer(row, number))
        except InputError as error:
            call.status, call.problem = 400, str(error)
            raise
        except TimeoutError:
            raise
        except Exception:
            traceback.print_exc()
            raise
        return results


class Guard:
    """In front of MLflow's server: limits, and one line for everything that is refused.

    Args:
        app: MLflow's.
        limits: of a request.
        model: what the requests are for.
    """

    def __init__(self, app: ASGIApp, limits: Limits, model: Model) -> None:
        self.app, self.limits, self.model = app, limits, model
        self.in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = Call(time.monotonic() + self.limits.seconds)
        CALL.set(call)
        self.in_hand += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                response = await self.respond(Request(scope, receive), call)
        except ClientDisconnect:
            return
        except TimeoutError:
            response = refusal(
                504,
                f"expected to answer within {self.limits.seconds:g} s, which did not suffice: "
                "send less, or wait until fewer ask",
            )
        finally:
            self.in_hand -= 1
        await response(scope, receive, send)

    async def respond(self, request: Request, call: Call) -> Response:
        """MLflow's answer, or a refusal."""
        path, method = request.url.path, request.method
        server = request.scope.get("server") or ("",)
        if server[0] in LOOPBACK and request.url.hostname not in LOOPBACK:
            # The name of a site that has itself resolved to this machine, so that its pages could ask.
            return refusal(400, f"expected the host {LOOPBACK[0]} or localhost, found another")
        if path not in METHODS:
            return refusal(404, f"expected one of {', '.join(METHODS)}, found another path")
        if method != METHODS[path]:
            return refusal(405, f"expected {METHODS[path]} {path}, found {method}")
        if method == "GET":
            return await self.passed_on(request, b"")
        if self.in_hand > self.limits.waiting:
            return refusal(503, f"{self.limits.waiting} requests wait already; ask again later")
        try:
            body = await self.body(request)
            content_type = request.headers.get("content-type", "")
            given = body, content_type, self.model.kind == "labeler", self.limits, self.model.resize
            rows = await asyncio.to_thread(read_rows, *given)
        except InputError as error:
            return refusal(400, str(error))
        try:
            response = await self.passed_on(request, json.dumps({"dataframe_records": rows}).encode())
        except Exception:
            traceback.print_exc()
            return refusal(call.status, call.problem)
        return response if response.status_code == 200 else refusal(call.status, call.problem)

    async def body(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            InputError: too long. What follows is thrown away first: a client that still sends would not read
                the answer. One that asks before it sends ("Expect") is told at once.
        """
        said = request.headers.get("content-length", "0")
        if int(said) > self.limits.body and "expect" in request.headers:
            raise self.too_long()
        chunks: list[bytes] = []
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length <= self.limits.body:
                chunks.append(chunk)
            else:
                chunks.clear()
        if length > self.limits.body:
            raise self.too_long()
        return b"".join(chunks)

    def too_long(self) -> InputError:
        """Why a body is refused."""
        return InputError(
            f"expected at most {self.limits.mib:g} MiB, found more",
            where="request",
            remedy="Send fewer or smaller images at a time",
        )

    async def passed_on(self, request: Request, body: bytes) -> Response:
        """What MLflow's server answers to the same request with another body."""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope = {**request.scope, "headers": headers, "query_string": b""}
        messages: list[Message] = []
        given = False

        async def receive() -> Message:
            nonlocal given
            if given:
                return await request.receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in messages)
        return Response(content, messages[0]["status"], media_type="application/json")


def refusal(status: int, sentence: str) -> Response:
    """An error in MLflow's form."""
    codes = {400: "BAD_REQUEST", 404: "NOT_FOUND", 405: "BAD_REQUEST", 503: "TEMPORARILY_UNAVAILABLE"}
    codes |= {504: "DEADLINE_EXCEEDED"}
    document = {"error_code": codes.get(status, "INTERNAL_ERROR"), "message": sentence}
    headers = {"Retry-After": "1"} if status == 503 else None
    content = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    return Response(content, status, headers, media_type="application/json")


def http_server(model: Model, limits: Limits) -> uvicorn.Server:
    """MLflow's scoring server on a model, guarded; `run([socket])` serves it."""
    # The guard's own time runs out first and says so in a sentence.
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(int(limits.seconds) + 60)
    description = Description(signature=register.signature(model.kind))
    served = PyFuncModel(description, OneAtATime(model))
    app = Guard(scoring_server.init(served), limits, model)
    seconds = int(limits.seconds) + 1  # for those who wait when the server is told to stop
    config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=seconds)
    return uvicorn.Server(config)


def open_model(name: str, score: float | None = None) -> Model:
    """A student or a labeler by its folder or registered name, on the first GPU where there is one.

    Args:
        name: a folder or a registered model.
        score: minimum score of a student's instances; None: the model's own threshold.

    Raises:
        InputError: there is none, or a score is given for a labeler.
    """
    folder = register.local_folder(name)
    if (folder / paths.RULES_FILE).exists() or (folder / "teacher").is_dir():
        if score is not None:
            raise InputError(
                "expected a student, found a labeler: every point gets its mask",
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
        InputError: the model cannot be used, or the address cannot be listened on.
    """
    listener = listen(host, port)
    with listener:
        model = open_model(name, score)
        port = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        print(
            f"serve: {name} ({model.kind}) at http://{shown}:{port}/invocations; Ctrl-C ends it", flush=True
        )
        if isinstance(model, Student):
            print(f"serve: instances {shown_from(model.predictor.score)}", flush=True)
        if host not in LOOPBACK:
            print(
                f"wssis: warning: whoever reaches {host} can use the model; see docs/serving.md",
                file=sys.stderr,
            )
        http_server(model, limits).run([listener])
