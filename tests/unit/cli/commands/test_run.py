"""`leptonctl run`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.cli.commands import run as run_module
from leptond.cli.commands.run import waits_at
from leptond.core.jobs.model import Reason, State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import ENDS, SUBMITTED_AT, Stub, ended, make_job, sse, submitted


@pytest.mark.parametrize(("job", "code"), ENDS)
def test_run_shows_the_output_and_leaves_with_the_jobs_code(cli: Cli, stub: Stub, job, code):
    stub.on("POST", "/v1/jobs", submitted())
    stub.on("GET", "/v1/jobs/47", job)
    stub.on(
        "GET",
        "/v1/jobs/47/log/stream",
        sse(("log.attempt", {"number": 1}, "1:0"), ("log.chunk", {"text": "hi\n"}, "1:3"), ("end", {})),
    )
    result = cli("run", "-g", "1", "--", "true")
    assert (result.code, result.out) == (code, "hi\n")


def test_run_with_json_keeps_standard_output_for_the_job(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", submitted())
    stub.on("GET", "/v1/jobs/47", ended(State.SUCCEEDED, exit_code=0))
    stub.on("GET", "/v1/jobs/47/log/stream", sse(("log.chunk", {"text": "hi\n"}, "1:3"), ("end", {})))
    result = cli("run", "--json", "true")
    assert json.loads(result.out)["state"] == "succeeded"
    assert "hi\n" in result.err


def test_run_of_a_job_that_can_never_start_ends(cli: Cli, stub: Stub):
    stub.job(id=12)
    stub.on("POST", "/v1/jobs", submitted())
    stub.on(
        "GET", "/v1/jobs/47", make_job(reason=Reason.DEPENDENCY), make_job(reason=Reason.DEPENDENCY_NEVER)
    )
    result = cli("run", "-d", "12", "true")
    assert result.code == 1
    assert "can never start" in result.err


def test_run_of_an_array_is_a_usage_error(cli: Cli, stub: Stub):
    assert cli("run", "--array", "0-3", "true").code == 2


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_lets_go_and_twice_cancels(cli: Cli, stub: Stub, monkeypatch, twice):
    stub.on("POST", "/v1/jobs", submitted())
    stub.on("POST", "/v1/jobs/47/cancel", make_job(state=State.STOPPING, started_at=SUBMITTED_AT))
    monkeypatch.setattr(run_module, "stream_events", lambda *_: signal.raise_signal(signal.SIGINT))
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if twice:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run_module, "sleep", sleep)
    result = cli("run", "true")
    assert result.code == 130
    assert "leptonctl logs -f 47" in result.err
    assert slept == [2.0]
    assert len(stub.of("POST", "/v1/jobs/47/cancel")) == int(twice)
    assert ("is being cancelled" in result.err) is twice


# -- what is piped in ----------------------------------------------------------------------------------


def pipe(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def test_what_waits_at_an_input(tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(b"abc")
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    at_end = os.open(file, os.O_RDONLY)
    os.lseek(at_end, 0, os.SEEK_END)
    found = [
        (pipe(b"data"), True),
        (pipe(b""), False),
        (os.open(file, os.O_RDONLY), True),
        (at_end, False),
        (os.open(os.devnull, os.O_RDONLY), False),
        (os.dup(ours.fileno()), True),
    ]
    for fd, waits in found:
        assert waits_at(fd) is waits
        os.close(fd)
    assert not waits_at(found[0][0])  # closed
    ours.close()
    theirs.close()


@pytest.mark.parametrize("line", ["printf data | ", "< data ", ": | ", "< /dev/null "])
def test_input_that_is_not_passed_on_is_said_once(stub: Stub, home: Path, line: str):
    stub.on("POST", "/v1/jobs", submitted())
    stub.on("GET", "/v1/jobs/47", ended(State.SUCCEEDED, exit_code=0))
    stub.on("GET", "/v1/jobs/47/log/stream", sse(("log.chunk", {"text": "hi\n"}, "1:3"), ("end", {})))
    (home / "data").write_text("data")
    before, behind = (line, "") if line.endswith("| ") else ("", line)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{before} {sys.executable} -m leptond.cli run -- cat {behind}"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.count("standard input is not passed on")
    assert said == (1 if "data" in line else 0)
