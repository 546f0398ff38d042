"""The progress channel: a real socket, gathered messages, one write for many, and what failures keep."""

import asyncio
import json
import os
import socket

import pytest

from leptond.base.clock import SystemClock
from leptond.base.errors import StartRefused
from leptond.engines.report_sockets import ReportSockets
from leptond.services import progress_receiver as module
from leptond.services.progress_receiver import MAX_ATTEMPTS, MAX_POINTS, ProgressReceiver
from leptond.store import StoreUnavailable
from leptond.store.queue import attempts
from tests.support.queue import SHIM, claim, store, submit

__all__ = ["store"]


@pytest.fixture
async def receiver(store, tmp_path):
    one = ProgressReceiver(ReportSockets([tmp_path / "jobs.sock"]), store, SystemClock())
    one.open()
    yield one
    one.close()


@pytest.fixture
async def attempt(store):
    found = await claim(store, await submit(store))
    await store.write(attempts.started, found.attempt.id, shim=SHIM, now=1.0, deadline_at=None)
    return found.attempt.id


def send(receiver, attempt, **values):
    data = values.pop("data", None) or json.dumps({"v": 1, "attempt": attempt, **values}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, str(receiver._sockets.paths[0]))


async def test_a_message_reaches_the_database(store, receiver, attempt):
    task = asyncio.create_task(receiver.run())
    written = asyncio.Event()
    store.on_commit(written.set)
    send(receiver, attempt, step=3, total=9, metrics={"loss": 1.5})
    async with asyncio.timeout(30):
        while (found := await store.read(attempts.get, attempt)).step is None:
            await written.wait()
            written.clear()
    assert (found.step, found.total_steps, found.metrics) == (3, 9, {"loss": 1.5})
    task.cancel()


async def test_many_messages_make_one_write(store, receiver, attempt):
    for step in range(100):
        send(receiver, attempt, step=step, metrics={"loss": float(step)})
        receiver._sockets.read()
    before = store.commits
    await receiver.write()
    assert store.commits == before + 1
    assert (await store.read(attempts.get, attempt)).step == 99
    assert receiver.refused == 0


async def test_a_marker_line_of_the_output_counts(store, receiver, attempt):
    send(receiver, attempt, line="::leptond step=7 loss=0.5")
    receiver._sockets.read()
    await receiver.write()
    assert (await store.read(attempts.get, attempt)).step == 7


async def test_only_a_new_step_or_checkpoint_is_progress(receiver, attempt):
    assert receiver.progressed_at(attempt) is None
    send(receiver, attempt, metrics={"loss": 1.0})
    receiver._sockets.read()
    assert receiver.progressed_at(attempt) is None
    send(receiver, attempt, step=1)
    receiver._sockets.read()
    first = receiver.progressed_at(attempt)
    send(receiver, attempt, step=1, metrics={"loss": 2.0})
    receiver._sockets.read()
    assert receiver.progressed_at(attempt) == first
    send(receiver, attempt, step=1, checkpoint={"step": 1, "at": 5.0})
    receiver._sockets.read()
    assert receiver.progressed_at(attempt) > first
    receiver.forget(attempt)
    assert receiver.progressed_at(attempt) is None


@pytest.mark.parametrize("data", [b"not json", b'{"v": 1, "attempt": "short"}', b"x" * (17 * 1024), b"[]"])
async def test_what_is_no_message_is_refused(receiver, attempt, data):
    send(receiver, attempt, data=data)
    send(receiver, attempt, step=1)
    receiver._sockets.read()
    assert receiver.refused == 1
    assert receiver.progressed_at(attempt) is not None  # the next one is taken


async def test_only_root_and_the_own_user_are_trusted(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert module._trusted([]) is False
    packed = module._CREDENTIALS.pack(1, 777, 0)
    assert module._trusted([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, packed)]) is False
    packed = module._CREDENTIALS.pack(1, 12345, 0)
    assert module._trusted([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, packed)]) is True


async def test_memory_is_bounded(receiver):
    for n in range(MAX_ATTEMPTS + 5):
        send(receiver, f"{n:032x}", step=1)
        receiver._sockets.read()
    assert len(receiver._gathered) == MAX_ATTEMPTS
    assert receiver.refused == 5
    for step in range(10 * MAX_POINTS):
        send(receiver, f"{0:032x}", step=step, metrics={"loss": 1.0})
        receiver._sockets.read()
    assert len(receiver._gathered[f"{0:032x}"].points) <= MAX_POINTS


async def test_what_cannot_be_written_is_kept(store, receiver, attempt, monkeypatch):
    send(receiver, attempt, step=1, total=5, metrics={"loss": 1.0})
    receiver._sockets.read()

    async def write(*_, **__):
        send(receiver, attempt, step=2, metrics={"loss": 2.0})  # comes in meanwhile
        receiver._sockets.read()
        raise StoreUnavailable("database is locked")

    monkeypatch.setattr(store, "write", write)
    await receiver.write()  # says so in the log, and does not raise
    monkeypatch.undo()
    assert receiver._loop._woken.is_set()
    await receiver.write()
    found = await store.read(attempts.get, attempt)
    assert (found.step, found.total_steps) == (2, 5)


async def test_the_last_messages_are_written_ahead_of_an_end(store, receiver, attempt):
    send(receiver, attempt, step=8)
    receiver.flush_soon()  # reads the socket itself
    job = await store.write(attempts.get, attempt)  # asked for later: written later
    assert job.step is None or job.step == 8
    async with asyncio.timeout(30):
        while receiver._writes:
            await asyncio.wait(receiver._writes)
    assert (await store.read(attempts.get, attempt)).step == 8


async def test_after_a_close_senders_are_refused_and_the_next_daemon_takes_over(store, receiver, attempt):
    paths = receiver._sockets.paths
    receiver.close()
    with pytest.raises(ConnectionRefusedError):
        send(receiver, attempt, step=1)
    later = ProgressReceiver(ReportSockets(paths), store, SystemClock())
    later.open()
    send(later, attempt, step=1)
    later._sockets.read()
    assert later.progressed_at(attempt) is not None
    assert paths[0].stat().st_mode & 0o077 == 0
    later.close()


async def test_a_place_that_cannot_be_used_refuses_the_start(store, tmp_path):
    with pytest.raises(StartRefused, match="too long"):
        ProgressReceiver(ReportSockets([tmp_path / ("x" * 200)]), store, SystemClock()).open()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StartRefused, match="not a socket"):
        ProgressReceiver(ReportSockets([tmp_path / "file"]), store, SystemClock()).open()
    assert (tmp_path / "file").read_text() == "precious"


async def test_writes_are_a_second_apart_unless_a_rung_is_reached(store, receiver, attempt, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL_S", 3600.0)
    task = asyncio.create_task(receiver.run())
    send(receiver, attempt, step=1)
    async with asyncio.timeout(30):
        while (await store.read(attempts.get, attempt)).step is None:
            await asyncio.sleep(0.01)
    send(receiver, attempt, step=2)
    await asyncio.sleep(0)
    receiver._sockets.read()
    assert (await store.read(attempts.get, attempt)).step == 1  # waits for the next write
    send(receiver, attempt, step=3, rungs={"3": [3, 0.5]})
    async with asyncio.timeout(30):
        while (await store.read(attempts.get, attempt)).step != 3:
            await asyncio.sleep(0.01)
    task.cancel()
