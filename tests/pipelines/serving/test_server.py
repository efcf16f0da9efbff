"""A served model: what it answers, how it says no, and what it never does."""

from __future__ import annotations

import base64
import http.client
import io
import json
import resource
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.console.ports import listen
from pipelines.serving import server
from pipelines.serving.request_limits import Limits
from pipelines.serving.served_model import Model
from wssis.data.coco import Category
from wssis.errors import InputError
from wssis.settings import ResizeSettings

JSON = {"Content-Type": "application/json"}
LIMITS = Limits(images=3, megapixels=0.05, points=5, mib=1)


class Served:
    """A server in a thread of this process."""

    def __init__(self, model: Model, port: int) -> None:
        self.model, self.port = model, port

    def ask(
        self,
        body: Any = b"",
        headers: dict[str, str] = JSON,
        path: str = "/invocations",
        method: str = "POST",
    ) -> tuple[int, Any]:
        """Status and document of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.strip() else None

    def refused(self, status: int, *words: str, **request: Any) -> str:
        """The line of a request that must be refused."""
        found, document = self.ask(**request)
        assert (found, set(document)) == (status, {"error_code", "message"})
        line = document["message"]
        assert "\n" not in line
        assert "Traceback" not in line
        assert 'File "' not in line
        assert all(word in line for word in words), line
        return line


@contextmanager
def serving(model: Model, limits: Limits) -> Iterator[Served]:
    http_server = server.http_server(model, limits)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=http_server.run, args=([listener],))
        thread.start()
        try:
            yield Served(model, listener.getsockname()[1])
        finally:
            http_server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def student(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # An untrained network scores all cells alike and low.
    folder = tmp_path_factory.mktemp("served") / "student"
    shutil.copytree(models / "teacher", folder)
    decode = {"score_threshold": 0.0, "keep_threshold": 0.0, "max_detections": 3, "area_strides": []}
    (folder / "decode.json").write_text(json.dumps(decode))
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder.parent)
        model = server.open_model("student")
    with serving(model, LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def labeler(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as context:
        context.chdir(tmp_path_factory.mktemp("served"))
        model = server.open_model(str(models))
    with serving(model, LIMITS) as served:
        yield served


def picture(seed: int = 0, width: int = 40, height: int = 32, form: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_student_answers_what_it_answers_directly(student: Served) -> None:
    images = [picture(0), picture(1, 48, 40), picture(2, mode="L")]
    status, document = student.ask({"dataframe_records": [{"image": text(data)} for data in images]})
    expected = [student.model.answer({"image": data}, n) for n, data in enumerate(images)]
    assert status == 200
    assert document == {"predictions": expected}
    assert all(1 <= len(found) <= 3 for found in expected)
    assert student.ask(images[0], {"Content-Type": "image/png"}) == (200, {"predictions": expected[:1]})


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "RGB"])
def test_every_kind_of_image_reads_as_from_a_file(student: Served, tmp_path: Path, mode: str) -> None:
    from wssis.data.images import read_image

    file = tmp_path / "x.tif"
    file.write_bytes(picture(3, form="TIFF", mode=mode))
    read = read_image(tmp_path, "x.tif").permute(1, 2, 0).numpy()
    plain = io.BytesIO()
    Image.fromarray(read).save(plain, "PNG")
    (status, given), (_, expected) = (
        student.ask(data, {"Content-Type": "image/*"}) for data in (file.read_bytes(), plain.getvalue())
    )
    assert status == 200
    assert given == expected


def test_a_labeler_gives_each_point_a_mask_in_their_order(labeler: Served) -> None:
    points = [{"x": 30, "y": 20.5, "class": "dog"}, {"x": 10, "y": 10, "class": "cat"}]
    rows = [{"image": text(picture(4)), "points": points}, {"image": text(picture(5)), "points": []}]
    status, document = labeler.ask({"inputs": rows})
    assert status == 200
    direct = labeler.model.answer({"image": picture(4), "points": points}, 0)
    assert document == {"predictions": [direct, []]}
    assert [found["category_id"] for found in direct] == [7, 3]


def test_points_that_are_none_are_named(labeler: Served) -> None:
    def row(**point: Any) -> dict[str, Any]:
        good = {"x": 1, "y": 2, "class": "dog"}
        return {"dataframe_records": [{"image": text(picture()), "points": [good, good | point]}]}

    labeler.refused(400, "row 0, point 1: expected a point inside 40 x 32 px, found (40, 2)", body=row(x=40))
    labeler.refused(
        400, "row 0, point 1: expected one of cat, dog, found class '../x'", body=row(**{"class": "../x"})
    )
    labeler.refused(400, "found class '?'", body=row(**{"class": "\ud800"}))
    labeler.refused(400, "expected image, points, found image", body={"inputs": [{"image": text(picture())}]})


def test_bad_requests_are_400_with_one_line(student: Served) -> None:
    student.refused(400, "found none", body=b"{")
    student.refused(400, "expected one of the keys", body={"messages": []})
    student.refused(400, "expected image, found path", body={"inputs": [{"path": "/etc/passwd"}]})
    student.refused(400, "Content-Type", body=b"image\nx", headers={"Content-Type": "text/csv"})
    student.refused(400, "Content-Type", headers={})
    student.refused(400, "1 to 3 images, found 4", body={"inputs": [{"image": text(picture())}] * 4})
    student.refused(400, "0.05 megapixels", body={"inputs": [{"image": text(picture(0, 251, 200))}]})
    whole = picture()
    damaged = {"inputs": [{"image": text(whole)}, {"image": text(whole[: len(whole) // 2])}]}
    student.refused(400, "row 1, image: expected a whole image", body=damaged)


def test_an_image_that_padding_makes_huge_is_refused_in_little_memory(student: Served) -> None:
    """7.8 kB that are padded to 32 x 4,000,000 px once took the server to 22.8 GB."""
    file = io.BytesIO()
    Image.new("L", (3_999_999, 1)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    with serving(student.model, Limits()) as served:
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
        try:
            for form in ({"Content-Type": "image/png"}, JSON):
                body = file.getvalue() if form is not JSON else {"inputs": [{"image": text(file.getvalue())}]}
                line = served.refused(400, "at most 4 megapixels", "padded to 128", body=body, headers=form)
                assert "row 0, image" in line
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert served.ask({"inputs": [{"image": text(picture())}]})[0] == 200


def test_a_server_shows_instances_from_the_models_score_on_or_another(
    student: Served, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(models / "teacher", tmp_path / "student")
    decode = {"score_threshold": 0.0, "keep_threshold": 0.0, "max_detections": 3, "area_strides": []}
    row = {"image": picture()}
    scores = [item["score"] for item in student.model.answer(row, 0)]
    assert len(scores) == 3
    (folder / "decode.json").write_text(json.dumps(decode | {"score": scores[1]}))
    assert len(server.open_model("student").answer(row, 0)) == 2
    assert len(server.open_model("student", 0.0).answer(row, 0)) == 3
    assert len(server.open_model("student", 1.0).answer(row, 0)) == 0
    with pytest.raises(InputError, match="labeler"):
        server.open_model(str(models), 0.5)


@pytest.mark.parametrize("said", [True, False])
def test_a_body_that_is_too_long_is_refused(student: Served, said: bool) -> None:
    body: Any = b"x" * (5 * 2**20)
    request = {"body": body, "headers": JSON}
    if not said:  # in chunks, whose number nobody knows before
        request = {"body": body, "headers": JSON | {"Transfer-Encoding": "chunked"}}
        connection = http.client.HTTPConnection("127.0.0.1", student.port, timeout=60)
        connection.request("POST", "/invocations", iter([body]), JSON, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 400
        assert "at most 1 MiB" in answer.read().decode()
        connection.close()
        return
    student.refused(400, "request: expected at most 1 MiB, found more", **request)


def test_only_its_own_paths_are_there(student: Served) -> None:
    for path in ("/", "/docs", "/openapi.json", "/redoc", "/invocations/", "/..%2f..%2fetc/passwd", "//ping"):
        student.refused(404, "found another path", path=path, method="GET")
    student.refused(405, "expected POST /invocations, found GET", method="GET")
    student.refused(405, "expected GET /ping, found POST", path="/ping")
    for path in ("/ping", "/health"):
        assert student.ask(path=path, method="GET") == (200, None)


def test_a_site_that_resolves_to_this_machine_is_refused(student: Served) -> None:
    student.refused(400, "found another", path="/ping", method="GET", headers={"Host": "evil.example"})
    for host in ("localhost", f"127.0.0.1:{student.port}", "[::1]:5001"):
        assert student.ask(path="/ping", method="GET", headers={"Host": host})[0] == 200


SECRET_FORMS = (
    "{path}",
    "file://{path}",
    "file:{path}",
    "../secret.png",
    "..\\secret.png",
    "http://127.0.0.1:1/{path}",
    "data:image/png;base64,{path}",
)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of all files that this process opens from now on."""
    names: list[str] = []
    watching = True

    def hook(event: str, words: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            names.append(str(words[0]))

    sys.addaudithook(hook)  # cannot be taken away again
    yield names
    watching = False


def test_no_path_is_read_through_a_request(
    student: Served, labeler: Served, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    opened.clear()
    for form in SECRET_FORMS:
        reference = form.format(path=secret)
        for value in (
            reference,
            text(reference.encode()),
            {"b64": reference},
            [reference],
            {"path": reference},
        ):
            row = {"image": value, "points": [{"x": 1, "y": 2, "class": reference}]}
            column = {name: [item] for name, item in row.items()}
            split = {"columns": list(row), "data": [list(row.values())]}
            for document in (
                {"dataframe_records": [row]}, {"dataframe_split": split},
                {"instances": [row]}, {"inputs": [row]}, {"inputs": column},
                {"dataframe_records": reference}, {"inputs": reference},
            ):  # fmt: skip
                labeler.refused(400, body=document)
            student.refused(400, body={"dataframe_records": [{"image": value}]})
        plain = reference.encode()
        student.refused(400, body=plain, headers={"Content-Type": "image/png"})
        student.refused(400, body=b"image\n" + plain, headers={"Content-Type": "text/csv"})
        student.refused(400, body=plain, headers={"Content-Type": "application/vnd.apache.parquet"})
    good = text(picture())
    point = [{"x": 1, "y": 2, "class": str(secret)}]
    labeler.refused(400, "expected one of cat, dog", body={"inputs": [{"image": good, "points": point}]})
    status, _ = student.ask({"inputs": [{"image": good}]}, path=f"/invocations?image={secret}")
    assert status == 200
    assert opened == []


def test_200_requests_of_8_clients_are_all_answered(student: Served) -> None:
    images = [picture(seed, 32 + 4 * seed, 32) for seed in range(5)]
    expected = [student.model.answer({"image": data}, 0) for data in images]

    def client(number: int) -> list[bool]:
        return [
            student.ask(images[(number + n) % 5], {"Content-Type": "image/png"})
            == (200, {"predictions": [expected[(number + n) % 5]]})
            for n in range(25)
        ]

    with ThreadPoolExecutor(8) as clients:
        right = [answer for answers in clients.map(client, range(8)) for answer in answers]
    assert len(right) == 200
    assert all(right)


class Slow:
    """A model that takes its time, or fails."""

    kind = "student"
    categories = (Category(1, "cat"),)
    resize = ResizeSettings()

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds, self.error, self.begun = seconds, error, 0

    def answer(self, row: dict[str, Any], number: int) -> list[dict[str, Any]]:
        self.begun += 1
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return []


def test_a_fault_of_the_model_shows_on_the_terminal_and_not_in_the_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(Slow(error=RuntimeError("secret /place")), LIMITS) as served:
        line = served.refused(500, "terminal", body={"inputs": [{"image": text(picture())}]})
        assert "secret" not in line
    assert "RuntimeError: secret /place" in capfd.readouterr().err


def test_a_request_that_takes_too_long_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    model = Slow(seconds=0.4)
    rows = {"inputs": [{"image": text(picture())}] * 3}
    with serving(model, Limits(seconds=0.5)) as served:
        with ThreadPoolExecutor(3) as clients:
            waiting = [
                clients.submit(served.refused, 504, "expected to answer within 0.5 s", body=rows)
                for _ in range(3)
            ]
            for future in waiting:
                future.result()
        time.sleep(0.5)
        assert model.begun <= 3  # of nine: what came too late was not begun
        assert served.ask({"inputs": [{"image": text(picture())}]}) == (200, {"predictions": [[]]})
    assert "Traceback" not in capfd.readouterr().err


def test_a_client_that_sends_too_slowly_is_given_up() -> None:
    with (
        serving(Slow(), Limits(seconds=0.3)) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection,
    ):
        head = ("POST /invocations HTTP/1.1", "Host: localhost", "Content-Type: image/png")
        connection.sendall("\r\n".join((*head, "Content-Length: 99", "", "abc")).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 504")


def test_more_than_the_limit_are_told_to_come_again() -> None:
    with serving(Slow(seconds=0.6), Limits(waiting=2)) as served, ThreadPoolExecutor(6) as clients:
        rows = {"inputs": [{"image": text(picture())}]}
        statuses = sorted(status for status, _ in clients.map(served.ask, [rows] * 6))
        assert statuses == [200, 200, 503, 503, 503, 503]
        assert served.ask(path="/ping", method="GET") == (200, None)


def test_a_taken_port_is_told_before_the_model_is_looked_for() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"another program on port {port}"):
            server.serve("no/model", "127.0.0.1", port, Limits())
