"""Copies of output at a path of the user's: a link while the attempt runs, then a file with all attempts."""

import asyncio
import threading

import pytest

from leptond.base.clock import SystemClock
from leptond.core.jobs.sources import Note
from leptond.services import output_copies as module
from leptond.services.output_copies import OutputCopies
from leptond.store.database import events
from leptond.store.queue import attempts, lists
from tests.support.queue import SHIM, claim, finish, store, submit

__all__ = ["store"]


@pytest.fixture
async def copies(store, tmp_path):
    one = OutputCopies(store, tmp_path / "state" / "jobs", SystemClock())
    await one._step()  # events from here on count
    return one


async def running(store, job):
    """The id of an attempt of `job` that runs."""
    found = await claim(store, job)
    await store.write(attempts.started, found.attempt.id, shim=SHIM, now=1.0, deadline_at=None)
    return found.attempt.id


def print_output(tmp_path, job, attempt, data):
    directory = tmp_path / "state" / "jobs" / str(job) / str(attempt)
    directory.mkdir(parents=True)
    (directory / "output.log").write_bytes(data)


async def test_a_running_attempt_has_a_link_and_an_ended_one_a_file(store, copies, tmp_path):
    path = tmp_path / "out-%j.txt"
    job = await submit(store, output=str(path), retries=1)
    shown = tmp_path / f"out-{job}.txt"
    print_output(tmp_path, job, 1, b"first\n")
    attempt = await running(store, job)
    assert await copies._step() is None
    assert shown.is_symlink()
    assert shown.read_bytes() == b"first\n"
    await finish(store, attempt, 1)
    await copies._step()
    assert not shown.is_symlink()
    assert shown.read_bytes() == b"first\n"


async def test_the_file_has_the_output_of_all_attempts(store, copies, tmp_path):
    path = tmp_path / "out.txt"
    job = await submit(store, output=str(path), retries=3, retry_delay_s=0.0)
    print_output(tmp_path, job, 1, b"first\n")
    print_output(tmp_path, job, 2, b"second\n")
    await finish(store, await running(store, job), 1)
    found = await claim(store, job, boot=1e9)
    await store.write(attempts.started, found.attempt.id, shim=SHIM, now=1.0, deadline_at=None)
    await finish(store, found.attempt.id, 0)
    await copies._step()
    assert path.read_bytes() == b"first\nsecond\n"
    assert sorted(one.name for one in tmp_path.glob("*out*")) == ["out.txt"]  # nothing is left aside


async def test_a_later_daemon_goes_on_where_it_stopped(store, copies, tmp_path):
    job = await submit(store, output=str(tmp_path / "out.txt"))
    print_output(tmp_path, job, 1, b"x")
    await running(store, job)
    await copies._step()
    (tmp_path / "out.txt").unlink()
    later = OutputCopies(store, tmp_path / "state" / "jobs", SystemClock())
    await later._step()
    assert not (tmp_path / "out.txt").exists()  # this event is done with


async def test_many_events_are_read_in_parts(store, copies, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 2)
    for n in range(3):
        job = await submit(store, output=str(tmp_path / f"{n}.txt"))
        print_output(tmp_path, job, 1, b"x")
        await running(store, job)
    steps = 0
    while await copies._step() == 0.0:
        steps += 1
    assert steps >= 1
    assert [(tmp_path / f"{n}.txt").is_symlink() for n in range(3)] == [True] * 3


async def test_a_missing_directory_is_made(store, copies, tmp_path):
    job = await submit(store, output=str(tmp_path / "new" / "%j" / "out.txt"))
    print_output(tmp_path, job, 1, b"x")
    await finish(store, await running(store, job), 0)
    await copies._step()
    assert (tmp_path / "new" / str(job) / "out.txt").read_bytes() == b"x"


async def test_a_path_that_cannot_be_written_is_said_and_passed(store, copies, tmp_path, capsys):
    (tmp_path / "file").touch()
    bad = await submit(store, output=str(tmp_path / "file" / "out.txt"))
    good = await submit(store, output=str(tmp_path / "out.txt"))
    for job in (bad, good):
        print_output(tmp_path, job, 1, b"x")
        await running(store, job)
    await copies._step()
    assert (tmp_path / "out.txt").is_symlink()
    assert "output_copy.failed" in capsys.readouterr().out
    (attempt,) = (await store.read(lists.attempts_of, [bad]))[bad]
    text = f"its output could not be put at {tmp_path}/file/out.txt: Not a directory"
    assert attempt.notes == [Note(kind="output-failed", text=text)]
    (said,) = await store.read(events.after, 0, limit=10, kinds=["job.output_failed"])
    assert (said.job_id, said.attempt, said.data) == (bad, 1, {"text": text})


async def test_a_disk_that_hangs_holds_up_only_copies(store, copies, tmp_path, monkeypatch, capsys):
    hang = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(module.output_file, "link", lambda *_, **__: hang.wait(60))
    for _ in range(2):
        await running(store, await submit(store, output=str(tmp_path / "out.txt")))
    async with asyncio.timeout(30):
        await copies._step()
    text = capsys.readouterr().out
    assert "the disk does not answer within" in text
    assert "the disk of an earlier copy does not answer" in text
    hang.set()
    copies._thread.join()


async def test_a_commit_wakes_it(store, copies, tmp_path):
    task = asyncio.create_task(copies.run())
    job = await submit(store, output=str(tmp_path / "out.txt"))
    print_output(tmp_path, job, 1, b"x")
    await running(store, job)
    async with asyncio.timeout(30):
        while not (tmp_path / "out.txt").is_symlink():
            await asyncio.sleep(0.01)
    task.cancel()
