"""A store for unit tests: a queue with two GPUs, and the steps of a job's life."""

import secrets
import sqlite3

import pytest

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Identity, JobSpec
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.scheduling.planner import Start
from leptond.store.queue import attempts, gpus, jobs
from tests.support.store import empty_database, open_new_store

SHIM = Identity(boot_id="boot", pid=1, start_ticks=1)


def empty_queue() -> sqlite3.Connection:
    """A database in memory with an empty queue and two GPUs."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(empty_database())
    db.row_factory = sqlite3.Row
    gpus.sync(db, two_gpus(), 1.0)
    return db


def two_gpus() -> list[gpus.Found]:
    """The devices of the queue, ``GPU-0`` and ``GPU-1``."""
    return [gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(2)]


@pytest.fixture
def db():
    """A queue in memory, for functions that need no store."""
    one = empty_queue()
    yield one
    one.close()


@pytest.fixture
async def store(tmp_path):
    async with open_new_store(tmp_path / "leptond.db") as one:
        await one.write(gpus.sync, two_gpus(), 1.0)
        yield one


def add(db, *, user="ana", now=1.0, **spec):
    """Submit one spec; the id of the (first) job."""
    admitted = admit(JobSpec(argv=["true"], **spec), gpus=2, home="/", defaults=Defaults())
    stored, _ = jobs.submit(db, [admitted], user=user, now=now, max_pending=100_000)
    return stored[0].id


def lease(db, job, *uuids, now=1.0):
    """Claim these GPUs for a job."""
    return attempts.claim(
        db,
        Start(id=job, gpus=uuids),
        attempt_id=secrets.token_hex(16),
        now=now,
        boot=now,
        boot_id="boot",
    )


def end(db, attempt_id, exit_code=0, *, now=2.0):
    """Finish an attempt that ran to its end."""
    return attempts.finish(
        db,
        attempt_id,
        verdict=classify(Evidence(exit_code=exit_code, run_s=100)),
        record=ExitRecord(attempt_id=attempt_id, boot_id="boot", exit_code=exit_code, run_s=100),
        now=now,
        boot=now,
        boot_id="boot",
        roll=0.0,
    )


async def submit(store, **spec):
    admitted = admit(JobSpec(argv=["true"], **spec), gpus=2, home="/", defaults=Defaults())
    stored, _ = await store.write(jobs.submit, [admitted], user="ana", now=1.0, max_pending=1000)
    return stored[0].ids[0]


async def claim(store, job, *uuids, boot=1.0):
    return await store.write(
        attempts.claim,
        Start(id=job, gpus=uuids),
        attempt_id=secrets.token_hex(16),
        now=1.0,
        boot=boot,
        boot_id="boot",
    )


async def finish(store, attempt_id, exit_code, boot=2.0, now=2.0):
    return await store.write(
        attempts.finish,
        attempt_id,
        verdict=classify(Evidence(exit_code=exit_code, run_s=100)),
        record=ExitRecord(attempt_id=attempt_id, boot_id="boot", exit_code=exit_code, run_s=100),
        now=now,
        boot=boot,
        boot_id="boot",
        roll=0.0,
    )
