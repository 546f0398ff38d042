"""Looks at the files that jobs name: at the submit, whether they are there and as what, and after a start,
whether they have been changed in between. A disk that does not answer holds up neither."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import structlog

from leptond.base import accounts
from leptond.base.accounts import Account
from leptond.core.admission.admission import Admitted
from leptond.core.jobs import sources
from leptond.core.jobs.model import Job
from leptond.core.jobs.sources import Note, SourceFile
from leptond.services.source_files import look_at
from leptond.services.submit_look import Recent, Seen, SubmitLook

log = structlog.get_logger("leptond.file_look")

PATIENCE_S = 2.0
"""Longest wait for the disks of one request."""

MOST_USERS = 64
"""Users for whom it is remembered what was fine a moment ago."""

T = TypeVar("T")


class FileLook:
    """Looks in a thread of its own. What is asked for while it looks waits, and is looked at together: under
    load a thread is woken once for many. No output may go below `state_dir`. With `multi_user` it looks with
    the rights of the account that it looks for."""

    def __init__(self, state_dir: Path, *, multi_user: bool = False) -> None:
        self._state_dir = state_dir
        self._multi_user = multi_user
        self._waiting: list[_Asked] = []
        self._began_at: float | None = None
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._recent: dict[str, Recent] = {}

    async def at_submit(
        self,
        admitted: Sequence[Admitted],
        *,
        user: str,
        uid: int | None = None,
        path: str,
        in_batch: bool,
        unsaid: Sequence[bool] | None = None,
    ) -> list[Seen]:
        """Look at what each spec of `user` (whose account is `uid`) names; `path` is the PATH of a job that
        sets none; `unsaid`: which of them may be trainings that forgot their GPU. Raises Invalid for the
        first that can never start; in a batch the pointer names it."""
        asked = unsaid if unsaid is not None else [False] * len(admitted)
        recent = self._recent_of(user if self._multi_user else "")
        look = SubmitLook(path, self._state_dir, user, recent, as_user=self._multi_user)
        if look.all_known(admitted, unsaid=asked):
            return [Seen(warnings=[])] * len(admitted)
        try:
            work = functools.partial(look.look, admitted, unsaid=asked, in_batch=in_batch)
            return await self._run(work, uid, user)
        except accounts.NoAccount as error:
            return [Seen(warnings=[f"its files could not be looked at: {error}"])] * len(admitted)
        except TimeoutError:
            log.warning("file_look.no_answer", patience_s=PATIENCE_S)
            word = f"its files could not be looked at: a disk did not answer within {PATIENCE_S:.0f} s"
            return [Seen(warnings=[word])] * len(admitted)

    async def changes(self, job: Job, *, started_at: float) -> list[Note]:
        """Return a note for each file of the job's command that was changed between its submit and
        `started_at`."""
        before = sources.decode(job.sources)
        try:
            work = functools.partial(_changes, before, job.submitted_at, started_at)
            return await self._run(work, job.uid, job.user)
        except accounts.NoAccount:
            return []  # its start says so
        except TimeoutError:
            log.warning("file_look.no_answer", patience_s=PATIENCE_S, job=job.id)
            return []

    async def script_warnings(self, job: Job) -> list[str]:
        """Return a word about a job that is to run again, where the script that it has a copy of is another
        one by now."""
        if job.script_sha256 is None:
            return []
        path = str(Path(job.spec.cwd or "/", job.spec.argv[0]))
        try:
            now = await self._run(lambda: look_at(path), job.uid, job.user)
        except (TimeoutError, accounts.NoAccount):
            return []
        if now is None or now.sha256 == job.script_sha256:
            return []
        return [
            f"it runs the script as it was submitted; {path} has been changed since: submit that to run it"
        ]

    def _recent_of(self, user: str) -> Recent:
        if user not in self._recent:
            if len(self._recent) >= MOST_USERS:
                self._recent.clear()
            self._recent[user] = Recent()
        return self._recent[user]

    async def _run(self, work: Callable[[], T], uid: int | None, user: str) -> T:
        """Call `work` in a daemon thread, for the account `user`: a hung disk must not delay the end of the
        process. Raises what it raises, TimeoutError and NoAccount."""
        loop = asyncio.get_running_loop()
        if self._began_at is not None and loop.time() > self._began_at + PATIENCE_S:
            raise TimeoutError  # it still waits for a disk
        done: asyncio.Future[T] = loop.create_future()

        def run() -> Callable[[], None]:
            try:
                with accounts.acting_as(self._account(uid, user)):
                    found = work()
                return functools.partial(_result, done, found)
            except Exception as error:
                return functools.partial(_failure, done, error)

        self._waiting.append(_Asked(done, run))
        self._begin(loop)
        async with asyncio.timeout(PATIENCE_S):
            return await done

    def _account(self, uid: int | None, user: str) -> Account | None:
        """Return the account with whose rights files are looked at; None for the daemon's own. Raises
        NoAccount."""
        if not self._multi_user:
            return None
        if uid is None:
            raise accounts.NoAccount("its submitter has no account on this machine")
        return accounts.find(uid, user)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what waits to the thread, unless it is at work."""
        asked = [one for one in self._waiting if not one.done.done()]  # others have given up
        if self._began_at is not None or not asked:
            return
        self._waiting = []
        self._began_at = loop.time()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="file-look", daemon=True)
            self._thread.start()

        def look() -> None:
            found = [one.run() for one in asked]
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._finish, loop, found)

        self._work.put(look)

    def _finish(self, loop: asyncio.AbstractEventLoop, found: Sequence[Callable[[], None]]) -> None:
        self._began_at = None
        for tell in found:
            tell()
        self._begin(loop)

    def _serve(self) -> None:
        while True:
            self._work.get()()


class _Asked(NamedTuple):
    """A look that waits for its turn: `run` returns what tells its outcome to `done`."""

    done: asyncio.Future[Any]
    run: Callable[[], Callable[[], None]]


def _result(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)


def _failure(done: asyncio.Future[T], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def _changes(before: Sequence[SourceFile], submitted_at: float, started_at: float) -> list[Note]:
    found = []
    for one in before:
        now = look_at(one.path, one)
        if now is None:
            continue  # gone, or unreadable: if the command needed it, its end says so
        change = sources.change_of(one, now, submitted_at=submitted_at, started_at=started_at)
        if change is not None:
            when = _in_words(change.at, started_at) if change.at is not None else None
            found.append(Note(kind="source-changed", text=sources.sentence(change, when)))
    return found


def _in_words(at: float, now: float) -> str:
    """Return a time of the machine's own zone, with its day where that is another one than that of `now`."""
    moment, other = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return moment.strftime("%H:%M:%S" if moment.date() == other.date() else "%Y-%m-%d %H:%M:%S")
