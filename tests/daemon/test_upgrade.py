"""A daemon of 0.4.0 is replaced by this one, in place, while it has jobs in every kind of state.

The code of 0.4.0 comes from the history of the checkout. It stands in one directory, which is exchanged
between the two daemons as an upgrade by pip does it: what runs on of 0.4.0 finds other files."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, gone, until

TOP = Path(__file__).parents[2]
RELEASE = "874257dd4523"
"""The commit of 0.4.0."""
TREES = ("leptond", "migrations", "systemd")
NOTE = 'echo "$LEPTOND_JOB_ID.$LEPTOND_ATTEMPT" >> starts; '
"""Every job notes that it has begun."""
MEMBERS = 150
"""Of an array: so many that they are stored as one row."""
WAIT = "while [ ! -e {} ]; do sleep 0.05; done; "
WARM = """
import os, sys, time
with open("starts", "a") as file:
    print(os.environ["LEPTOND_JOB_ID"], os.environ["LEPTOND_ATTEMPT"], sep=".", file=file)
print("up", flush=True)
while len(sys.argv) > 1 and not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
sys.exit(4)
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trees of 0.4.0."""
    git = ["git", "-C", str(TOP)]
    known = subprocess.run(
        [*git, "cat-file", "-e", f"{RELEASE}^{{commit}}"], stderr=subprocess.DEVNULL, check=False
    )
    if known.returncode:
        pytest.skip(f"the checkout's history does not have 0.4.0 ({RELEASE})")
    packed = subprocess.run([*git, "archive", RELEASE, *TREES], stdout=subprocess.PIPE, check=True).stdout
    place = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(place, filter="data")
    return place


def install(trees: Path, code: Path) -> None:
    """Puts a version in the place of another one."""
    for name in TREES:
        shutil.rmtree(code / name, ignore_errors=True)
        shutil.copytree(trees / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))


CLIENT = """
import sys
from leptond import Client, __version__

with Client() as lept:
    one = lept.job(int(sys.argv[1]))
    print(__version__, one.state, one.spec.gpus, len(list(lept.jobs())), lept.status().version)
    print(lept.wait(one.id, timeout_s=60).exit_code)
"""
"""What a notebook that imported 0.4.0 asks of the daemon that has replaced it."""


def test_a_client_of_the_release_reads_the_answers(release: Path, shared_daemon: Daemon) -> None:
    job = shared_daemon.submit("/bin/sh", "-c", "exit 7", contact="ana@example.org", project="p")
    shared_daemon.finished(job)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(job)],
        env={**os.environ, "PYTHONPATH": str(release), "LEPTOND_HOST": f"unix://{shared_daemon.socket}"},
        cwd=release,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:3] == ["failed", "0"]
    assert done.stdout.splitlines()[1] == "7"
    assert shared_daemon.job(job)["contact"] == "ana@example.org"


@pytest.fixture
def daemon(tmp_path: Path, release: Path) -> Iterator[Daemon]:
    """The running daemon of 0.4.0, with two GPUs."""
    code = tmp_path / "code"
    install(release, code)
    daemon = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "2",
        env={
            "PYTHONPATH": str(code),
            "PYTHONSAFEPATH": "1",  # not this checkout, where the tests run
            "PYTHONDONTWRITEBYTECODE": "1",
            "LEPTOND_QUEUE__CPU_SLOTS": "4",
            "LEPTOND_ENGINE__WARM": "true",
            "LEPTOND_ENGINE__WARM_IMPORTS": '["colorsys"]',
        },
    )
    daemon.start()
    yield daemon
    daemon.close()


def processes(text: str) -> set[int]:
    """The processes whose command line has `text`."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line:
                found.add(int(entry.name))
    return found


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_release_with_jobs_is_upgraded_in_place(daemon: Daemon, tmp_path: Path, end: str) -> None:
    work = tmp_path / "work"
    work.mkdir()

    def submit(name: str, script: str, **spec: Any) -> int:
        return daemon.submit("/bin/sh", "-c", NOTE + script, name=name, cwd=str(work), **spec)

    runs = submit("runs", f"echo up; {WAIT.format('go')} echo over; exit 5", gpus=1)
    ends = submit("ends", f"echo up; {WAIT.format('away')} echo gone; exit 3", gpus=1)
    next_one = submit("next", "echo ran", gpus=2)
    stops = submit("stops", f"trap '' TERM; echo up; {WAIT.format('go')} exit 0", grace_s=600)
    for job in (runs, ends, stops):
        daemon.printed(job, "up")
    retried = submit("retried", '[ "$LEPTOND_ATTEMPT" = 2 ]', retries=1, retry_delay_s=600)
    until(lambda: daemon.job(retried)["reason"] == "Backoff", "a back-off")
    array = submit("array", "exit 0", array=f"0-{MEMBERS - 1}", after_any=[str(runs)])
    held = submit("held", "exit 0", hold=True)
    warm_jobs = _warm(daemon, work)
    warm = warm_jobs[-1]
    assert daemon.post(f"/v1/jobs/{stops}/cancel").status < 300
    daemon.reached(stops, "stopping")
    for job in (runs, ends, stops, warm):
        daemon.pid(job)
    before = {job: daemon.job(job) for job in (runs, ends, stops, warm)}
    old = processes(f"{tmp_path}/code/")
    assert old, "the daemon's helpers can be told by their command lines"

    getattr(daemon, end)()
    (work / "away").touch()
    assert gone(before[ends]["attempts"][0]["pid"])
    install(TOP, tmp_path / "code")
    daemon.start()

    for job in (runs, stops, warm):
        now = daemon.job(job)
        assert now["state"] == before[job]["state"]
        assert _lasting(now) == _lasting(before[job])
    assert daemon.finished(ends)["exit_code"] == 3
    assert daemon.output(ends) == "up\ngone\n"
    assert daemon.job(held)["state"] == "pending"
    daemon.post(f"/v1/jobs/{retried}/retry")
    assert daemon.finished(retried)["state"] == "succeeded"
    (work / "go").touch()
    assert daemon.finished(runs)["exit_code"] == 5
    assert daemon.output(runs) == "up\nover\n"
    assert daemon.finished(stops)["state"] == "cancelled"
    assert daemon.finished(warm)["exit_code"] == 4
    assert daemon.finished(next_one)["state"] == "succeeded"
    daemon.post(f"/v1/jobs/{held}/release")
    members = range(array, array + MEMBERS)
    for job in (held, *members):
        assert daemon.finished(job)["state"] == "succeeded"

    once = {runs, ends, next_one, stops, held, *members, *warm_jobs}
    begun = sorted((work / "starts").read_text().split())
    assert begun == sorted([f"{retried}.1", f"{retried}.2", *(f"{job}.1" for job in once)])
    until(lambda: not old & processes(f"{tmp_path}/code/"), "the processes of 0.4.0 end")


def _lasting(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The attempts, but for what grows while they run; the release before knows no notes and no memory."""
    grows = {"gpu_seconds": None, "notes": [], "peak_mem_bytes": None}
    return [{**attempt, **grows} for attempt in job["attempts"]]


def _warm(daemon: Daemon, work: Path) -> list[int]:
    """Jobs of one command, of which the last runs and has started warm."""
    jobs: list[int] = []

    def started_warm() -> bool:
        jobs.append(daemon.submit(sys.executable, "-c", WARM, cwd=str(work)))
        return bool(daemon.finished(jobs[-1])["attempts"][0]["start"] == "warm")

    until(started_warm, "a warm start")
    jobs.append(daemon.submit(sys.executable, "-c", WARM, "go", cwd=str(work)))
    daemon.printed(jobs[-1], "up")
    assert daemon.job(jobs[-1])["attempts"][0]["start"] == "warm"
    return jobs
