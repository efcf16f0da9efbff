"""The benchmark of serving: what it counts, and a whole run against a started server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import serve
from pipelines import paths


class Handler(BaseHTTPRequestHandler):
    """Answers `good`, refuses `bad`, and hangs up on `gone`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"gone":
            return
        answer = json.dumps({"predictions": []} if body == b"good" else {"message": "no"}).encode()
        self.send_response(200 if body == b"good" else 400)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_requests_are_sent_in_turn_and_lost_ones_counted(url: str) -> None:
    load = serve.measure(url, [b"good", b"bad", b"good", b"gone"], clients=3, requests=20)
    assert (load.clients, load.requests, load.lost) == (3, 20, 10)
    assert 0 < load.p50_ms <= load.p95_ms <= load.longest_ms
    assert load.a_second > 0
    assert "| 3       | 20       | 10   |" in serve.table([load])
    assert serve.measure(url, [b"bad"], 1, 2).lost == 2


def test_a_request_holds_an_image_and_a_point_on_each_object(project: Path) -> None:
    val = json.loads(paths.PREPARED_VAL.read_text())
    plain, pointed = ([json.loads(body) for body in serve.request_bodies(points)] for points in (False, True))
    assert len(plain) == len(pointed) == len(val["images"])
    rows = [document["dataframe_records"][0] for document in pointed]
    assert [set(document["dataframe_records"][0]) for document in plain] == [{"image"}] * len(plain)
    assert sum(len(row["points"]) for row in rows) == len(val["annotations"])


@pytest.mark.slow
def test_it_starts_a_server_and_stops_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--clients", "2", "--requests", "6", "--warm", "1", "--out", "load.json"]
    assert serve.main(["--model", "models", *words]) == 0
    [load] = json.loads(Path("load.json").read_text())["loads"]
    assert (load["requests"], load["lost"]) == (6, 0)
    assert "| 2       | 6        | 0" in capsys.readouterr().out
    assert serve.main(["--model", "models/student", *words]) == 2  # not trained here
