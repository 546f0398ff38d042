"""The engine of this machine with real shims, for the tests of its parts."""

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from leptond.base.clock import kernel_boot_id
from leptond.base.paths import Places
from leptond.config import EngineSettings, Settings
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import Identity, JobSpec
from leptond.engines.base import Given
from leptond.engines.local import LocalEngine
from leptond.engines.report_sockets import ReportSockets
from leptond.store.queue import jobs
from tests.support.store import open_new_store

SETTINGS = Settings(engine=EngineSettings(warm=False, containment="descendants", linger_s=0.1))
NOTHING = Given(gpus=[], claimed_at=0.0, claimed_boot=0.0)


@dataclass
class Claimed:
    """What the engine reads of an attempt."""

    id: str
    shim: Identity | None
    job_id: int = 1
    number: int = 1
    pid: int | None = None
    boot_id: str = kernel_boot_id()
    claimed_boot: float = time.clock_gettime(time.CLOCK_BOOTTIME)


SCRIPTS: dict[str, bytes] = {}


async def find_script(sha256: str) -> bytes | None:
    return SCRIPTS.get(sha256)


@contextlib.asynccontextmanager
async def engine_of(place: Path, settings: Settings = SETTINGS):
    places = Places(
        mode="user",
        config_file=place / "config",
        state_dir=place,
        socket=place / "leptond.sock",
        token_file=place / "token",
    )
    engine = LocalEngine(settings, places, "lineage", find_script, ReportSockets(places.report_sockets))
    engine.open()
    try:
        yield engine
    finally:
        engine.close()
        await asyncio.sleep(0)


@pytest.fixture
async def store(tmp_path):
    async with open_new_store(tmp_path / "leptond.db") as one:
        yield one


async def submit(store, *argv: str, **spec):
    """A job that has not been tried."""
    admitted = admit(JobSpec(argv=list(argv), **spec), gpus=0, home="/", defaults=Defaults())
    await store.write(jobs.submit, [admitted], user="ada", now=1.0, max_pending=10)
    return await store.read(jobs.find, "1")


async def at_gate(engine: LocalEngine, job) -> Claimed:
    attempt_id = secrets.token_hex(16)
    return Claimed(id=attempt_id, shim=await engine.prepare(job, attempt_id))


def standby(place: Path) -> list[str]:
    return [path.name for path in (place / "jobs" / ".deck").iterdir()]
