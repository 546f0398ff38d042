"""The way of an attempt to its gate, and back."""

import errno
import itertools
import socket

import pytest
from msgspec.structs import replace

from leptond.engines import prepare, procs
from leptond.engines.base import SpawnFailed
from tests.unit.engines.local import (
    NOTHING,
    SCRIPTS,
    SETTINGS,
    at_gate,
    engine_of,
    standby,
    store,
    submit,
)

__all__ = ["store"]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('#!/bin/sh -e\necho "$1 ${0##*/}"\n', "x y a b.sh\n"),
        ("echo é $LEPTOND_SCRIPT", "é /w/a b.sh\n"),
    ],
)
async def test_a_script_runs_from_a_copy_in_the_attempts_directory(tmp_path, store, text, printed):
    job = await submit(store, "/w/a b.sh", "x y", script=text)
    SCRIPTS[job.script_sha256] = text.encode()
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        await engine.started(attempt.id)
        end = await engine.ended(job, attempt)
        assert (end.record.exec_error, end.record.exit_code) == (None, 0)
        engine.ack_end(attempt.id)
        assert (engine.directory(attempt) / "output.log").read_text() == printed
        copy = engine.directory(attempt) / "script" / "a b.sh"
    assert copy.read_text() == text
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o700, 0o700)


async def test_a_script_that_is_lost_is_no_fault_of_the_machine(tmp_path, store):
    job = await submit(store, "/w/a.sh", script="echo lost\n")
    async with engine_of(tmp_path) as engine:
        with pytest.raises(SpawnFailed, match=r"the copy of its script /w/a\.sh is lost") as failure:
            await at_gate(engine, job)
    assert failure.value.number == errno.ENOENT
    assert standby(tmp_path) == []


async def test_what_is_discarded_leaves_nothing_and_never_ran(tmp_path, store):
    job = await submit(store, "touch", str(tmp_path / "ran"))
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
        await engine.discard(attempt.id)
        assert not engine.is_prepared(attempt.id)
        assert (standby(tmp_path), procs.pin(attempt.shim)) == ([], None)
    assert not (tmp_path / "ran").exists()


async def test_the_next_daemon_removes_what_was_in_standby(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        attempt = await at_gate(engine, job)
    async with engine_of(tmp_path) as engine:
        assert await engine.taken(attempt.id, 1, 1, attempt.shim) is None
        await engine.clear_standby(set())
        assert (standby(tmp_path), procs.pin(attempt.shim)) == ([], None)


async def test_a_shim_that_cannot_get_ready_says_why(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        (tmp_path / "jobs" / "1").write_text("in the way of the job's directory")
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        assert await engine.started(attempt.id) is None
        end = await engine.ended(job, attempt)
        assert end.record.exec_error.startswith("cannot start: ")
        engine.ack_end(attempt.id)


async def test_a_full_disk_is_said_with_its_number(tmp_path, store, monkeypatch):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        assert await engine.check_writable() == ""
        (tmp_path / "jobs" / ".deck").rmdir()
        (tmp_path / "jobs" / ".deck").write_text("in the way")
        with pytest.raises(SpawnFailed, match="Not a directory") as failure:
            await at_gate(engine, job)
        assert failure.value.number == errno.ENOTDIR
        (tmp_path / "jobs" / ".probe").write_text("in the way")
        assert "Not a directory" in await engine.check_writable()


async def test_a_script_that_was_damaged_is_not_run(tmp_path, store):
    job = await submit(store, "/w/a.sh", script="echo whole\n")
    SCRIPTS[job.script_sha256] = b"echo other\n"
    async with engine_of(tmp_path) as engine:
        with pytest.raises(SpawnFailed, match="is lost: submit it again"):
            await at_gate(engine, job)


async def test_no_two_attempts_get_the_same_port(tmp_path, store, monkeypatch):
    """There are two ports, and another program has one of them at first."""
    job = await submit(store, "true")
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        two = [taken.getsockname()[1], other.getsockname()[1]]
        turns = itertools.cycle(two)
        monkeypatch.setattr(prepare.random, "randrange", lambda *_: next(turns))
        async with engine_of(tmp_path) as engine:
            with pytest.raises(SpawnFailed, match="no free port"):
                await at_gate(engine, job)
            other.close()
            first = await at_gate(engine, job)
            with pytest.raises(SpawnFailed, match="no free port"):
                await at_gate(engine, job)
            assert standby(tmp_path) == [first.id], "what failed has left nothing"
            await engine.discard(first.id)
            await engine.discard((await at_gate(engine, job)).id)


async def test_a_shim_that_is_not_ready_in_time_is_ended(tmp_path, store):
    job = await submit(store, "true")
    hasty = replace(SETTINGS, engine=replace(SETTINGS.engine, start_timeout_s=1e-6))
    async with engine_of(tmp_path, hasty) as engine:
        with pytest.raises(SpawnFailed, match="did not get ready"):
            await at_gate(engine, job)
        assert standby(tmp_path) == []


async def test_what_the_daemon_has_claimed_stays_when_standby_is_cleared(tmp_path, store):
    job = await submit(store, "true")
    async with engine_of(tmp_path) as engine:
        kept, other = await at_gate(engine, job), await at_gate(engine, job)
        assert sorted(standby(tmp_path)) == sorted([kept.id, other.id])
    async with engine_of(tmp_path) as engine:
        await engine.clear_standby({kept.id})
        assert standby(tmp_path) == [kept.id]
        await engine.clear_standby(set())
        assert standby(tmp_path) == []
