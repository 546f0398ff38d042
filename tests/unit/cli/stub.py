"""A stand-in for the daemon: an HTTP server on a Unix socket that gives prepared answers, built from the
API's own types, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from leptond import schema
from leptond.api.views import bodies
from leptond.core.jobs.model import FailureClass, JobSpec, Reason, State

SUBMITTED_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
RUNNING = {
    "state": State.RUNNING,
    "started_at": SUBMITTED_AT,
    "gpu_indices": [0, 1],
    "gpus": 2,
    "time_limit_s": 3600.0,
    "attempt": 1,
}
"""The fields of a job that runs on two GPUs, for :func:`make_job`."""


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """A prepared answer. `pieces` are sent as they are, and then the connection closes; `broken` closes
    it without an answer."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] | None = None
    broken: bool = False


class Stub:
    """`on` prepares answers, `asked` is what came in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Asked] = []
        self._answers: dict[tuple[str, str], list[Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        # a test's directory may be too long for a socket's address: bind through the open directory
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self._server = _Server(f"/proc/self/fd/{directory}/{path.name}", _handler(self))
        finally:
            os.close(directory)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def on(self, method: str, path: str, *answers: Any) -> None:
        """The answers to a request, in turn; the last one stays. An answer is a body, an Answer, or a
        function of Asked that makes one."""
        self._answers[method, path] = list(answers)

    def job(self, **changes: Any) -> schema.Job:
        """Prepares a job under its id and its ref."""
        job = make_job(**changes)
        for name in {str(job.id), job.ref}:
            self.on("GET", f"/v1/jobs/{name}", job)
        return job

    def of(self, method: str, path: str) -> list[Asked]:
        """What was asked there."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        prepared = self._answers.get((asked.method, asked.path))
        if not prepared:
            return problem(404, f"there is nothing at {asked.method} {asked.path}")
        found = prepared.pop(0) if len(prepared) > 1 else prepared[0]
        if isinstance(found, Callable):  # type: ignore[arg-type]
            found = found(asked)
        return found if isinstance(found, Answer) else Answer(found)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error here."""


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                method=self.command,
                path=parts.path,
                query={name: values[-1] for name, values in parse_qs(parts.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
                body=msgspec.json.decode(raw) if raw else None,
            )
            answer = stub.answer(asked)
            if answer.broken:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            if "Date" not in answer.headers:
                self.send_header("Date", self.date_time_string())
            if answer.pieces is not None:
                self.close_connection = True
                for name, value in {"Connection": "close", **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in answer.pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                return
            body = b"" if answer.body is None else msgspec.json.encode(answer.body)
            for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def problem(status: int, detail: str, **more: Any) -> Answer:
    """An error as the API gives it."""
    body = schema.Problem(type="/problems/some", title="Some problem", status=status, detail=detail, **more)
    return Answer(body, status=status, headers={"Content-Type": "application/problem+json"})


def plain(value: object) -> Any:
    """A value of the API as its JSON reads."""
    return msgspec.json.decode(msgspec.json.encode(value))


def make_job(**changes: Any) -> schema.Job:
    """A pending job; `changes` are fields of schema.Job."""
    number = changes.get("id", 47)
    given = {
        "id": number,
        "ref": str(number),
        "name": "train.py",
        "user": "ana",
        "project": None,
        "labels": {},
        "state": State.PENDING,
        "reason": Reason.RESOURCES if changes.get("state", State.PENDING) is State.PENDING else None,
        "reason_detail": "needs 4 GPUs, 1 free"
        if changes.get("state", State.PENDING) is State.PENDING
        else None,
        "priority": 0,
        "gpus": 1,
        "submitted_at": SUBMITTED_AT,
        "checkpoint_dir": f"/state/checkpoints/{number}",
        "version": 3,
        "spec": JobSpec(argv=["/usr/bin/python3", "train.py"], cwd="/home/ana", gpus=1),
    }
    job = schema.Job(**{**given, **changes})
    job.resubmit = bodies.resubmit(job)
    return job


def ended(state: State, **changes: Any) -> schema.Job:
    """A job that has ended."""
    cause = FailureClass.OK if state is State.SUCCEEDED else FailureClass.USER
    given = {"state": state, "started_at": SUBMITTED_AT, "ended_at": SUBMITTED_AT, "run_s": 4.5, "attempt": 1}
    return make_job(**{**given, "class_": cause, "explanation": "how it ended", **changes})


def make_gpu(index: int = 0, **changes: Any) -> schema.Gpu:
    """A free GPU."""
    given = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA H100",
        "simulated": False,
        "present": True,
        "memory_total_bytes": 80 << 30,
        "memory_used_bytes": 1 << 30,
        "utilization": 0.5,
        "temperature_c": 41.0,
        "power_w": 300.4,
        "drained": False,
        "schedulable": True,
    }
    return schema.Gpu(**{**given, **changes})


def make_status(**changes: Any) -> schema.Status:
    """An idle daemon with one GPU."""
    given = {
        "version": "0.1.0",
        "pid": 4121,
        "mode": "user",
        "state": "ready",
        "started_at": SUBMITTED_AT,
        "counts": dict.fromkeys(State, 0),
        "held": 0,
        "gpus": [make_gpu()],
        "gpu_backend": "nvml",
        "gpu_note": None,
        "cpu_slots": schema.Slots(total=8, used=1),
        "running": [],
        "next": [],
        "failed_recently": [],
        "oldest_wait_s": None,
        "warnings": [],
        "notes": [],
    }
    return schema.Status(**{**given, **changes})


def submitted(number: int = 47, **changes: Any) -> Answer:
    """The answer to a submit."""
    body = schema.Submitted(id=number, ids=[number], name="train.py", state=State.PENDING)
    return Answer(msgspec.structs.replace(body, **changes), status=201)


def page(*jobs: schema.Job, cursor: str | None = None) -> schema.JobPage:
    return schema.JobPage(items=list(jobs), next_cursor=cursor)


def sse(*events: tuple[str, Any] | tuple[str, Any, str]) -> Answer:
    """A stream of events, (type, data) or (type, data, id), that ends with the connection."""
    pieces = []
    for kind, data, *number in events:
        head = f"id: {number[0]}\n" if number else ""
        pieces.append(f"{head}event: {kind}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode())
    return Answer(pieces=pieces, headers={"Content-Type": "text/event-stream"})


ENDS = [
    (ended(State.SUCCEEDED, exit_code=0), 0),
    (ended(State.FAILED, exit_code=7), 7),
    (ended(State.FAILED, exit_code=255), 255),
    (ended(State.FAILED, signal="SIGKILL"), 128 + signal.SIGKILL),
    (ended(State.FAILED, signal="SIG34"), 128 + 34),
    (ended(State.FAILED, class_=FailureClass.CONFIG, explanation="cannot execute"), 1),
    (ended(State.TIMED_OUT, signal="SIGTERM", class_=FailureClass.TIMEOUT), 124),
    (ended(State.CANCELLED, signal="SIGTERM", class_=FailureClass.CANCELLED), 130),
    (ended(State.LOST, class_=FailureClass.INFRA_NODE), 1),
    (make_job(reason=Reason.DEPENDENCY_NEVER, reason_detail="job 12 failed"), 1),
]
"""Jobs that `run` and `wait` wait for no longer, each with the exit code that they leave with."""
