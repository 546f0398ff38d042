"""Copies of jobs' output at paths that users chose (``submit --output``).

While an attempt runs, the path is a link to its output, so that it can be followed; when it has ended, a file
takes its place, with the output of all attempts so far. What was there before is kept (output_file.py). The
disk of that path may hang or be full, which holds up nothing but these copies."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from msgspec import UnsetType

from leptond.base import accounts
from leptond.base.accounts import Account
from leptond.base.clock import Clock
from leptond.core.access.run_as import AccountSettings
from leptond.core.jobs.model import Job
from leptond.core.jobs.output_path import expand
from leptond.core.jobs.sources import Note
from leptond.services import output_file
from leptond.services.loop import Loop
from leptond.store import Store
from leptond.store.queue import notes
from leptond.store.upkeep import output_copies

log = structlog.get_logger("leptond.output_copies")

GATHER_S = 0.25
"""Seconds between a commit and the reading of its events: many commits make one read."""

PATIENCE_S = 60.0
"""Longest time that one copy may take before the next is due."""

LIMIT = 200
"""Most events read at once."""


class OutputCopies:
    """Follows the events of jobs and makes the links and copies that they call for, in multi-user mode as
    the account of each job."""

    def __init__(
        self, store: Store, jobs_dir: Path, clock: Clock, settings: AccountSettings | None = None
    ) -> None:
        self._store = store
        self._settings = settings if settings is not None else AccountSettings()
        self._jobs_dir = jobs_dir
        self._clock = clock
        self._position: int | None = None
        self._thread: threading.Thread | None = None
        self._loop = Loop("output-copies", self._step, gather_s=GATHER_S)
        store.on_commit(self._loop.wake)

    async def run(self) -> None:
        """Run until cancelled."""
        await self._loop.run()

    async def _step(self) -> float | None:
        if self._position is None:
            self._position = await self._store.write(output_copies.position)
        due, newest, more = await self._store.read(output_copies.after, self._position, limit=LIMIT)
        for one in due:
            await self._carry_out(one)
        if due:
            await self._store.write(output_copies.passed, newest)
        self._position = newest
        return 0.0 if more else None

    async def _carry_out(self, one: output_copies.Due) -> None:
        job = one.job
        path = Path(
            expand(
                job.spec.output or "",
                job_id=job.id,
                array_id=job.array_id,
                array_index=job.array_index,
                name=job.name,
                user=job.user,
            )
        )
        directory = self._jobs_dir / str(job.id)
        work = output_file.write if one.over else output_file.link
        mode: str | UnsetType | None = job.spec.open_mode
        truncate = mode == "truncate"
        try:
            await self._in_thread(
                lambda: work(
                    path,
                    directory,
                    one.attempt,
                    truncate=truncate,
                    user=job.user,
                    account=self._account(job),
                    umask=int(self._settings.umask, 8) if self._settings.multi_user else None,
                )
            )
        except (OSError, TimeoutError, output_file.OutputRefused) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            why = why or f"the disk does not answer within {PATIENCE_S:.0f} s"
            log.warning("output_copy.failed", job=job.ref, path=str(path), error=str(error) or why)
            note = Note(kind="output-failed", text=f"its output could not be put at {path}: {why}")
            now = self._clock.wall()
            await self._store.write(
                lambda db: notes.add(db, job.id, one.attempt, [note], now=now), wakes_scheduler=False
            )

    def _account(self, job: Job) -> Account | None:
        """Return the account whose rights count at a job's path. Raises OutputRefused."""
        if not self._settings.multi_user:
            return None
        if job.uid is None:
            raise output_file.OutputRefused("its submitter is not known")
        try:
            return accounts.find(job.uid, job.user)
        except accounts.NoAccount as error:
            raise output_file.OutputRefused(str(error)) from None

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """Run `work` in a daemon thread and wait for it at most PATIENCE_S seconds: it may hang on a dead
        file server, and must not delay the daemon's end. Raises what it raises, and TimeoutError."""
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("the disk of an earlier copy does not answer")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def run() -> None:
            failure: Exception | None = None
            try:
                work()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_set_result, done, failure)

        self._thread = threading.Thread(target=run, name="output-copies", daemon=True)
        self._thread.start()
        async with asyncio.timeout(PATIENCE_S):
            failure = await done
        self._thread.join(1.0)
        if failure is not None:
            raise failure


def _set_result(done: asyncio.Future[Exception | None], failure: Exception | None) -> None:
    if not done.done():  # the wait has timed out
        done.set_result(failure)
