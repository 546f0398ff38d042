"""Limits of memory: by cgroups of v1 where root has them, else by looks at the processes."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from leptond.attempt_files import layout
from leptond.config import EngineSettings, Settings
from leptond.core.outcome.classify import OWN_LIMIT, classify
from leptond.core.outcome.evidence import Evidence
from leptond.engines import cgroup, cgroup_v1
from leptond.engines.cgroup import Bounds, Cgroups
from tests.unit.engines.local import NOTHING, at_gate, engine_of, store, submit

__all__ = ["store"]

MIB = 1024**2
LIMIT = 96 * MIB
V1 = cgroup_v1.own_places()
NEEDS_V1 = pytest.mark.skipif("memory" not in V1, reason="needs root, and the memory controller of cgroup v1")
LEAK = "x = []\nwhile True: x.append(bytearray(4 << 20)); x[-1][::4096] = b'x' * len(x[-1][::4096])"
WATCHED = Settings(engine=EngineSettings(containment="descendants"))


async def end_of(place, store, code: str, settings: Settings = WATCHED, **spec):
    """The attempt of a program, its end and its output."""
    job = await submit(store, sys.executable, "-c", code, **spec)
    async with engine_of(place, settings) as engine:
        attempt = await at_gate(engine, job)
        engine.go(attempt.id, NOTHING)
        await engine.started(attempt.id)
        end = await engine.ended(job, attempt)
        output = (engine.directory(attempt) / layout.OUTPUT).read_text()
        engine.ack_end(attempt.id)
        return attempt, end, output


def verdict(record):
    return classify(
        Evidence(
            exit_code=record.exit_code,
            signal=record.signal,
            oom_kills=record.oom_kills,
            over_memory_bytes=record.over_memory_bytes,
            peak_mem_bytes=record.peak_mem_bytes,
            mem_bytes=LIMIT,
        )
    )


async def test_a_leak_is_ended_at_its_limit_where_nothing_bounds_it(tmp_path, store):
    _, end, _ = await end_of(tmp_path, store, LEAK, mem_bytes=LIMIT)
    found = verdict(end.record)
    assert (found.cause, found.rule, found.is_own) == ("oom-host", OWN_LIMIT, True)
    assert "more than its limit of 96 MiB" in found.explanation
    assert end.record.peak_mem_bytes == end.record.over_memory_bytes > LIMIT
    assert end.record.killed


async def test_memory_that_forks_share_counts_once(tmp_path, store):
    code = (
        "import os, time\nx = bytearray(60 << 20); x[::4096] = b'x' * len(x[::4096])\n"
        "kids = [pid for _ in range(4) if (pid := os.fork()) or time.sleep(1.5) or os._exit(0)]\n"
        "for pid in kids: os.waitpid(pid, 0)"
    )
    _, end, _ = await end_of(tmp_path, store, code, mem_bytes=LIMIT)
    assert (end.record.exit_code, end.record.over_memory_bytes) == (0, 0)
    assert 60 * MIB < end.record.peak_mem_bytes < LIMIT


async def test_a_job_without_a_limit_is_not_looked_at(tmp_path, store):
    _, end, _ = await end_of(tmp_path, store, "x = bytearray(60 << 20)")
    assert (end.record.exit_code, end.record.peak_mem_bytes) == (0, 0)


@NEEDS_V1
async def test_the_kernel_ends_a_leak_at_its_limit(tmp_path, store):
    attempt, end, _ = await end_of(tmp_path, store, LEAK, Settings(), mem_bytes=LIMIT, cpus=2)
    found = verdict(end.record)
    assert (found.cause, found.rule) == ("oom-host", OWN_LIMIT)
    assert found.explanation == "killed by the kernel: its memory limit of 96 MiB was reached (peak 96 MiB)"
    assert (end.record.signal, end.record.oom_kills > 0) == (9, True)
    assert not cgroup_v1.Controllers(V1).names(f"{cgroup.PREFIX}{attempt.id}")


@NEEDS_V1
async def test_the_command_is_in_the_groups_from_its_first_instruction(tmp_path, store):
    code = (
        "print(open('/proc/self/cgroup').read())\nx = bytearray(40 << 20); x[::4096] = b'x' * len(x[::4096])"
    )
    attempt, end, text = await end_of(tmp_path, store, code, Settings(), mem_bytes=LIMIT, cpus=3)
    for controller in ("memory", "pids", "cpu"):
        line = next(line for line in text.splitlines() if f":{controller}:" in line)
        assert line.endswith(f"/{cgroup.PREFIX}{attempt.id}")
    assert 40 * MIB < end.record.peak_mem_bytes < LIMIT
    assert end.record.oom_kills == 0


@NEEDS_V1
def test_groups_have_the_limits_and_go():
    name = secrets.token_hex(16)
    cgroups = Cgroups(None, cgroup_v1.Controllers(V1))
    group = cgroups.create(name, Bounds(mem_bytes=LIMIT, cpus=3))
    try:
        assert group.bounded
        assert name in cgroups.attempts()
        found = {Path(path).parts[4]: Path(path) for path in group.more}
        assert (found["memory"] / "memory.limit_in_bytes").read_text().strip() == str(LIMIT)
        assert (found["cpu"] / "cpu.shares").read_text().strip() == "3072"
        assert (found["pids"] / "pids.max").read_text().strip() == str(cgroup.MAX_PROCESSES)
    finally:
        cgroups.remove(name)
    assert name not in cgroups.attempts()
    assert cgroups.create(name).more == [], "no group for a job without wishes"


@NEEDS_V1
def test_a_group_that_cannot_be_made_leaves_nothing(tmp_path):
    name = f"leptond-{secrets.token_hex(16)}"
    controllers = cgroup_v1.Controllers(V1)
    with pytest.raises(OSError, match=r"\w"):
        controllers.create(name, {"pids": {"pids.max": 10}, "memory": {"memory.limit_in_bytes": -7}})
    assert not controllers.names(name)


def test_v2_has_values_for_each_controller(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids")
    cgroups = Cgroups(tmp_path)
    cgroups.open()
    assert cgroups.bounds_memory == "cgroup v2"
    group = cgroups.create("7" * 32, Bounds(mem_bytes=1000 * MIB, cpus=4))
    assert group.bounded
    found = {path.name: path.read_text() for path in Path(group.path).iterdir()}
    assert found == {
        "pids.max": "32768",
        "memory.max": str(1000 * MIB),
        "memory.high": str(900 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.weight": "400",
    }
    plain = Path(cgroups.create("8" * 32).path)
    assert [path.name for path in plain.iterdir()] == ["pids.max"]
