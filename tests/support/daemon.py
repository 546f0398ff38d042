"""A real daemon for tests: a subprocess on its own state directory, spoken to over its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tests.support.store import put_state
from tests.support.template import Child, shared

TOP = Path(__file__).parents[2]
PYTHON = sys.executable
TERMINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}
PATIENCE_S = 60.0
"""How long anything may take on a busy machine before a test calls it broken."""


class Answer:
    """Status, headers and body of a response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = dict(response.getheaders())
        self.data = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float = PATIENCE_S) -> None:
        super().__init__("leptond", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """`start`, `kill`, `terminate`; between them, requests. It is forked from a process that has its imports
    behind it, or, if it is to be `executed`, an interpreter of its own: where that is what a test is about,
    where its resources are measured, or where it is not the code of this checkout."""

    def __init__(
        self, state_dir: Path, *options: str, env: dict[str, str] | None = None, executed: bool = False
    ) -> None:
        self.executed = executed
        self.state_dir = state_dir
        self.socket = state_dir / "leptond.sock"
        self.options = options
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(state_dir.parent),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP),
            # a second of the processor for every daemon whose jobs are in Python
            "LEPTOND_ENGINE__WARM": "false",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | Child | None = None
        self.log = state_dir.parent / "daemon.log"

    def start(self) -> Daemon:
        """Starts it and waits until it schedules."""
        self.launch()
        return self.ready()

    def launch(self) -> None:
        """Starts it, and does not wait."""
        self.state_dir.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = self._launch(log)

    def ready(self) -> Daemon:
        """Waits until it schedules."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/readyz").status == 200:
                    return self
            time.sleep(0.02)  # there is no event before the socket exists
        raise AssertionError(f"the daemon does not get ready:\n{self.tail()}")

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes] | Child:
        command = ["run", "--state-dir", str(self.state_dir), *self.options]
        if not (self.executed or "LD_PRELOAD" in self.env or self.env["PYTHONPATH"] != str(TOP)):
            if not self.state_dir.exists():
                put_state(self.state_dir)
            return shared().run(command, self.env, self.log)
        return subprocess.Popen(
            [PYTHON, "-m", "leptond", *command],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,  # a Ctrl-C is for the tests, not for what they look after
        )

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process = None

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.process = None
        return code

    def restart(self) -> None:
        """As a service manager does it."""
        assert self.terminate() == 0
        self.start()

    def close(self) -> None:
        """Ends it and whatever its jobs left."""
        if self.process is None:
            with contextlib.suppress(AssertionError):
                self.start()
        with contextlib.suppress(Exception):
            for job in self.get("/v1/jobs?order=queue&limit=1000").json["items"]:
                self.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 0})
            for job in self.get("/v1/jobs?state=starting,running,stopping&limit=1000").json["items"]:
                self.finished(job["id"])
        if self.process is not None:
            self.terminate()

    # -- requests ----------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = UnixConnection(self.socket)
        try:
            return self.over(connection, method, path, body, headers)
        finally:
            connection.close()

    @staticmethod
    def over(
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on `connection`."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, body=data, headers={**all_headers, **(headers or {})})
        return Answer(connection.getresponse())

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request(
            "POST", path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )

    def submit(self, *argv: str, **spec: Any) -> int:
        """The id of a new job."""
        answer = self.post("/v1/jobs", {"argv": list(argv), **spec})
        assert answer.status == 201, answer.data
        return int(answer.json["id"])

    def job(self, job_id: int) -> dict[str, Any]:
        """The job as it is now."""
        answer = self.get(f"/v1/jobs/{job_id}")
        assert answer.status == 200, answer.data
        found: dict[str, Any] = answer.json
        return found

    def finished(self, job_id: int) -> dict[str, Any]:
        """The job when it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.get(f"/v1/jobs/{job_id}?wait_s=20").json
            if found["state"] in TERMINAL:
                return found
        raise AssertionError(f"job {job_id} does not end: {found}")

    def reached(self, job_id: int, *states: str) -> dict[str, Any]:
        """The job when it is in one of `states`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = self.job(job_id)
            if found["state"] in states:
                return found
            assert found["state"] not in TERMINAL, found
            time.sleep(0.02)
        raise AssertionError(f"job {job_id} does not get {states}: {found}")

    def pid(self, job_id: int) -> int:
        """The pid of the newest attempt, as soon as it is noted: a moment after its first output."""
        return int(until(lambda: self.job(job_id)["attempts"][-1]["pid"], "its pid"))

    def output(self, job_id: int, attempt: int | None = None) -> str:
        """What the job printed."""
        more = f"?attempt={attempt}" if attempt is not None else ""
        return self.get(f"/v1/jobs/{job_id}/log{more}").data.decode()

    def printed(self, job_id: int, text: str) -> str:
        """The output, once `text` is in it."""
        deadline = time.monotonic() + PATIENCE_S
        out = ""
        while time.monotonic() < deadline:
            out = self.output(job_id)
            if text in out:
                return out
            time.sleep(0.02)
        raise AssertionError(f"job {job_id} does not print {text!r}: {out!r}; {self.job(job_id)}")


def gone(pid: int, within_s: float = PATIENCE_S) -> bool:
    """Whether a process has ended, or does so within that time."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], within_s)[0])
    finally:
        os.close(pidfd)


def alive_with_cookie(attempt_ids: set[str], cookie: bytes = b"LEPTOND_ATTEMPT_ID") -> dict[int, str]:
    """Processes that carry the cookie of one of these attempts, from /proc."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for item in Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0"):
                name, _, value = item.partition(b"=")
                if name == cookie and value.decode() in attempt_ids:
                    state = Path(f"/proc/{entry.name}/stat").read_text().rpartition(")")[2].split()[0]
                    if state not in "ZX":
                        found[int(entry.name)] = value.decode()
    return found


def until(true: Callable[[], Any], what: str = "") -> Any:
    """The first true value of `true()`, looked at again and again: for facts that announce themselves to
    nobody."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"it does not come true: {what}")


def parent_of(pid: int) -> int:
    """The pid of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
