"""A served model: predictions, refusals, limits, and that no request opens a file."""

from __future__ import annotations

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

import pytest
from PIL import Image

from pipelines.console.ports import listen
from pipelines.serving import server
from pipelines.serving.request import LabelerRow, Limits, StudentRow
from pipelines.serving.served_model import Model
from tests.pipelines.serving.servers import base64_text, image_file
from wssis.data.images import read_image
from wssis.errors import InputError
from wssis.settings import ResizeSettings

JSON = {"Content-Type": "application/json"}
IMAGE = {"Content-Type": "image/png"}
LIMITS = Limits(images=3, megapixels=0.05, points=5, mib=1)
ONE_IMAGE = {"inputs": [{"image": base64_text(image_file())}]}


class Client:
    """A client of a server that runs in a thread of this process."""

    def __init__(self, model: Model, port: int) -> None:
        self.model, self.port = model, port

    def send(
        self,
        body: Any = b"",
        headers: dict[str, str] = JSON,
        path: str = "/invocations",
        method: str = "POST",
    ) -> tuple[int, Any]:
        """Status and document of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if not isinstance(body, bytes | list):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text.strip() else None

    def refused(self, status: int, words: str, **request: Any) -> None:
        """Send a request and check that it gives an error of one line."""
        found, document = self.send(**request)
        assert (found, set(document)) == (status, {"error_code", "message"})
        line = document["message"]
        assert "\n" not in line
        assert "Traceback" not in line
        assert 'File "' not in line
        assert words in line


@contextmanager
def serving(model: Model, limits: Limits) -> Iterator[Client]:
    http_server = server.http_server(model, limits)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=http_server.run, args=([listener],))
        thread.start()
        try:
            yield Client(model, listener.getsockname()[1])
        finally:
            http_server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def student(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    # An untrained network scores all cells alike and low.
    folder = tmp_path_factory.mktemp("served") / "student"
    shutil.copytree(models / "teacher", folder)
    decode = {"score_threshold": 0.0, "keep_threshold": 0.0, "max_detections": 3, "area_strides": []}
    (folder / "decode.json").write_text(json.dumps(decode))
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder.parent)
        model = server.open_model("student")
    with serving(model, LIMITS) as client:
        yield client


@pytest.fixture(scope="module")
def labeler(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as context:
        context.chdir(tmp_path_factory.mktemp("served"))
        model = server.open_model(str(models))
    with serving(model, LIMITS) as client:
        yield client


def test_a_student_answers_over_http_as_in_python(student: Client) -> None:
    images = [image_file(0), image_file(1, (48, 40)), image_file(2, mode="L")]
    status, document = student.send({"dataframe_records": [{"image": base64_text(i)} for i in images]})
    expected = [student.model.answer(StudentRow(image=data), n) for n, data in enumerate(images)]
    assert status == 200
    assert document == {"predictions": expected}
    assert all(1 <= len(found) <= 3 for found in expected)
    assert student.send(images[0], IMAGE) == (200, {"predictions": expected[:1]})


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "RGB"])
def test_images_are_read_as_from_files(student: Client, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "x.tif"
    file.write_bytes(image_file(3, form="TIFF", mode=mode))
    plain = io.BytesIO()
    Image.fromarray(read_image(tmp_path, "x.tif").permute(1, 2, 0).numpy()).save(plain, "PNG")
    (status, given), (_, expected) = (student.send(x, IMAGE) for x in (file.read_bytes(), plain.getvalue()))
    assert status == 200
    assert given == expected


def test_a_labeler_gives_a_mask_per_point_in_order(labeler: Client) -> None:
    points = [{"x": 30, "y": 20.5, "class": "dog"}, {"x": 10, "y": 10, "class": "cat"}]
    rows = [{"image": base64_text(image_file(4)), "points": points}, ONE_IMAGE["inputs"][0] | {"points": []}]
    status, document = labeler.send({"inputs": rows})
    direct = labeler.model.answer(LabelerRow.model_validate(rows[0]), 0)
    assert (status, document) == (200, {"predictions": [direct, []]})
    assert [found["category_id"] for found in direct] == [7, 3]


def test_invalid_points_are_named(labeler: Client) -> None:
    good = {"x": 1, "y": 2, "class": "dog"}
    for change, words in (
        ({"x": 40}, "row 0, point 1: expected a point inside 40 x 32 px, found (40, 2)"),
        ({"class": "../x"}, "row 0, point 1: expected one of cat, dog, found class '../x'"),
        ({"y": "2"}, "row 0, point 1, y: Input should be a valid number"),
    ):
        row = ONE_IMAGE["inputs"][0] | {"points": [good, good | change]}
        labeler.refused(400, words, body={"dataframe_records": [row]})
    labeler.refused(400, "row 0, points: Field required", body=ONE_IMAGE)


def test_invalid_requests_are_400_with_one_line(student: Client) -> None:
    student.refused(400, "Invalid JSON", body=b"{")
    student.refused(400, "expected one of the keys", body={})
    student.refused(400, "row 0, image: Field required", body={"inputs": [{"path": "/etc/passwd"}]})
    student.refused(400, "Content-Type", body=b"image\nx", headers={"Content-Type": "text/csv"})
    student.refused(400, "Content-Type", headers={})
    student.refused(400, "1 to 3 images, found more", body={"inputs": ONE_IMAGE["inputs"] * 4})
    student.refused(400, "0.05 megapixels", body=image_file(0, (251, 200)), headers=IMAGE)
    damaged = ONE_IMAGE["inputs"] + [{"image": base64_text(image_file()[:1000])}]
    student.refused(400, "row 1, image: expected a whole image", body={"inputs": damaged})


def test_an_image_whose_padding_is_huge_is_refused_in_little_memory(student: Client) -> None:
    """7.8 kB that are padded to 32 x 4,000,000 px once took the server to 22.8 GB."""
    file = io.BytesIO()
    Image.new("L", (3_999_999, 1)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    with serving(student.model, Limits()) as client:
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
        try:
            words = "row 0, image: expected an image of at most 4 megapixels"
            client.refused(400, words, body=file.getvalue(), headers=IMAGE)
            client.refused(400, words, body={"inputs": [{"image": base64_text(file.getvalue())}]})
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        assert client.send(ONE_IMAGE)[0] == 200


def test_the_score_threshold_is_the_models_own_or_an_option(
    student: Client, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(models / "teacher", tmp_path / "student")
    decode = {"score_threshold": 0.0, "keep_threshold": 0.0, "max_detections": 3, "area_strides": []}
    row = StudentRow(image=image_file())
    scores = [item["score"] for item in student.model.answer(row, 0)]
    assert len(scores) == 3
    (folder / "decode.json").write_text(json.dumps(decode | {"score": scores[1]}))
    found = [len(server.open_model("student", score).answer(row, 0)) for score in (None, 0.0, 1.0)]
    assert found == [2, 3, 0]
    with pytest.raises(InputError, match="labeler"):
        server.open_model(str(models), 0.5)


@pytest.mark.parametrize("body", [b"x" * (5 << 20), [b"x" * (5 << 20)]], ids=["whole", "chunked"])
def test_a_body_that_is_too_long_is_refused(student: Client, body: Any) -> None:
    student.refused(400, "request: expected at most 1 MiB, found more", body=body)


def test_there_are_no_other_paths(student: Client) -> None:
    for path in ("/", "/docs", "/openapi.json", "/invocations/", "/..%2f..%2fetc/passwd", "//ping"):
        student.refused(404, "this server has POST /invocations", path=path, method="GET")
    student.refused(405, "this server has POST /invocations", method="GET")
    student.refused(405, "this server has POST /invocations", path="/ping")
    for path in ("/ping", "/health"):
        assert student.send(path=path, method="GET") == (200, None)
    connection = http.client.HTTPConnection("127.0.0.1", student.port, timeout=60)
    connection.request("GET", "/version")
    assert connection.getresponse().read().startswith(b"3.")
    connection.close()


def test_a_site_that_resolves_to_this_machine_is_refused(student: Client) -> None:
    student.refused(400, "found another", path="/ping", method="GET", headers={"Host": "evil.example"})
    for host in ("localhost", f"127.0.0.1:{student.port}", "[::1]:5001"):
        assert student.send(path="/ping", method="GET", headers={"Host": host})[0] == 200


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Names of all files that this process opens from now on."""
    names: list[str] = []
    watching = True

    def hook(event: str, words: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            names.append(str(words[0]))

    sys.addaudithook(hook)  # cannot be removed
    yield names
    watching = False


def test_no_request_opens_a_file(
    student: Client, labeler: Client, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    secret = tmp_path / "secret.png"
    secret.write_bytes(image_file())
    opened.clear()
    for form in ("{}", "file://{}", "../secret.png", "http://127.0.0.1:1/{}", "data:image/png;base64,{}"):
        reference = form.format(secret)
        for value in (reference, base64_text(reference.encode()), {"b64": reference}, [reference]):
            row = {"image": value, "points": [{"x": 1, "y": 2, "class": reference}]}
            for document in (
                {"dataframe_records": [row]},
                {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
                {"inputs": {name: [item] for name, item in row.items()}},
                {"inputs": reference},
            ):
                labeler.refused(400, "", body=document)
            student.refused(400, "", body={"instances": [{"image": value}]})
        student.refused(400, "", body=reference.encode(), headers=IMAGE)
        student.refused(400, "", body=reference.encode(), headers={"Content-Type": "text/csv"})
    row = ONE_IMAGE["inputs"][0] | {"points": [{"x": 1, "y": 2, "class": str(secret)}]}
    labeler.refused(400, "expected one of cat, dog", body={"inputs": [row]})
    assert student.send(ONE_IMAGE, path=f"/invocations?image={secret}")[0] == 200
    assert opened == []


def test_all_requests_of_8_clients_at_once_are_answered(student: Client) -> None:
    images = [image_file(seed, (32 + 4 * seed, 32)) for seed in range(5)]
    expected = [{"predictions": [student.model.answer(StudentRow(image=data), 0)]} for data in images]
    order = [n % 5 for n in range(80)]
    with ThreadPoolExecutor(8) as clients:
        responses = list(clients.map(lambda n: student.send(images[n], IMAGE), order))
    assert responses == [(200, expected[n]) for n in order]


class Slow:
    """A model that takes its time, or fails."""

    kind = "student"
    resize = ResizeSettings()

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds, self.error, self.begun = seconds, error, 0

    def answer(self, row: Any, number: int) -> list[dict[str, Any]]:
        self.begun += 1
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return []


def test_a_fault_of_the_model_is_on_the_terminal_only(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(Slow(error=RuntimeError("secret /place")), LIMITS) as client:
        status, document = client.send(ONE_IMAGE)
    assert (status, document["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in document["message"]
    assert "RuntimeError: secret /place" in capfd.readouterr().err


def test_requests_time_out(capfd: pytest.CaptureFixture[str]) -> None:
    model = Slow(seconds=0.4)
    with serving(model, Limits(seconds=0.5)) as client:
        with ThreadPoolExecutor(3) as clients:
            rows = {"inputs": ONE_IMAGE["inputs"] * 3}
            waiting = [clients.submit(client.refused, 504, "timed out after 0.5 s", body=rows) for _ in "123"]
            for future in waiting:
                future.result()
        time.sleep(0.5)
        assert model.begun <= 3  # of nine: an image is not begun after the deadline
        assert client.send(ONE_IMAGE) == (200, {"predictions": [[]]})
    assert "Traceback" not in capfd.readouterr().err


def test_a_client_that_sends_too_slowly_times_out() -> None:
    with (
        serving(Slow(), Limits(seconds=0.3)) as client,
        socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection,
    ):
        head = ("POST /invocations HTTP/1.1", "Host: localhost", "Content-Type: image/png")
        connection.sendall("\r\n".join((*head, "Content-Length: 99", "", "abc")).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 504")


def test_requests_above_the_waiting_limit_are_503() -> None:
    with serving(Slow(seconds=0.6), Limits(waiting=2)) as client, ThreadPoolExecutor(6) as clients:
        statuses = sorted(status for status, _ in clients.map(client.send, [ONE_IMAGE] * 6))
        assert statuses == [200, 200, 503, 503, 503, 503]
        assert client.send(path="/ping", method="GET") == (200, None)


def test_a_taken_port_is_reported_before_the_model_loads() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=str(port)):
            server.serve("no/model", "127.0.0.1", port, Limits())
