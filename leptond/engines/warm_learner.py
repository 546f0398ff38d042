"""Looks at what jobs that started warm import in their first seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from leptond.config import EngineSettings
from leptond.core import warm_learning
from leptond.engines import import_record
from leptond.engines.warm_kept import Environment, Kept
from leptond.engines.warm_records import WarmRecords

log = structlog.get_logger("leptond.engine")

LOOK_AFTER_S = (0.5, 1.5, 4.0, 10.0, 25.0)
"""The times after the start of a job at which its imports are looked at."""
QUIET_LOOKS = 5
"""Jobs in a row without news, after which only every `RARELY`-th is looked at."""
RARELY = 20
ENDS_S = 1.0
"""The time that a job has to end after its modules could not be read: then they were about to go."""
RENEW_AFTER_S = 1.0
"""The time from the end of a look at a job to the making of a process with what it has shown."""
RENEW_PAUSE_S = 60.0
"""The time from one such process to the next."""


class Learner:
    """Looks at jobs, notes in `records` what they import, and calls `renew` when a warm process could have
    more."""

    def __init__(
        self, settings: EngineSettings, records: WarmRecords, renew: Callable[[Environment], None]
    ) -> None:
        self._settings = settings
        self._records = records
        self._renew = renew
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()

    def look_at(self, environment: Environment, kept: Kept, command: tuple[str, str], pid: int) -> None:
        """Look at a job from now on: at one of an environment at a time."""
        if not self._settings.warm_learn or environment.looks or kept.layout is None:
            return
        if environment.quiet_looks >= QUIET_LOOKS and environment.quiet_looks % RARELY:
            environment.quiet_looks += 1
            return
        environment.looks.add(pid)
        task = asyncio.get_running_loop().create_task(
            self._look(environment, kept, command, pid), name="warm-look"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, environment: Environment, kept: Kept, command: tuple[str, str], pid: int) -> None:
        assert kept.layout is not None
        names: list[str] = []
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            environment.looks.discard(pid)
            return
        try:
            before = 0.0
            for after_s in LOOK_AFTER_S:
                if await _ends_within(pidfd, after_s - before):
                    break
                before = after_s
                found = await asyncio.to_thread(import_record.modules_of, pid, kept.layout)
                names = [name for name in found if name not in kept.live]
                environment.unseen = ""
        except import_record.Unreadable as why:
            # one that was seen before, or ends, tells nothing of what the system allows
            if not names and not await _ends_within(pidfd, ENDS_S):
                environment.unseen = str(why)
        finally:
            os.close(pidfd)
            environment.looks.discard(pid)
        await self._learn(environment, command, names)

    async def _learn(self, environment: Environment, command: tuple[str, str], names: list[str]) -> None:
        hidden = await asyncio.to_thread(_own_modules, command)
        learned, news = warm_learning.with_imports(self._records.get(environment.python), names, hidden)
        environment.quiet_looks = 0 if news else environment.quiet_looks + 1
        if news:
            self._records.put(environment.python, learned)
            self._renew_later(environment)

    def _renew_later(self, environment: Environment) -> None:
        if environment.renew_timer is not None:
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time() + RENEW_AFTER_S, environment.renewed_at + RENEW_PAUSE_S)

        def renew() -> None:
            environment.renew_timer = None
            environment.renewed_at = loop.time()
            self._renew(environment)

        environment.renew_timer = loop.call_at(due, renew)
        self._timers.add(environment.renew_timer)

    def close(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        for timer in self._timers:
            timer.cancel()


async def _ends_within(pidfd: int, limit_s: float) -> bool:
    """Return True if the process ends within this time."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
    return True


def _own_modules(command: tuple[str, str]) -> set[str]:
    """Return the top-level names that the directories of a command have modules of."""
    cwd, target = command
    found: set[str] = set()
    for directory in {Path(cwd), (Path(cwd) / target).parent if target.endswith(".py") else Path(cwd)}:
        try:
            entries = [(entry.name, _is_package(entry)) for entry in directory.resolve().iterdir()]
        except OSError:
            continue  # it is gone, or the job's alone
        found |= warm_learning.own_modules(entries)
    return found


def _is_package(entry: Path) -> bool:
    return "." not in entry.name and (entry / "__init__.py").exists()
