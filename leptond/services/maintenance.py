"""Upkeep of the daemon's own files: regular backups of the database, and the purge of what retention no
longer keeps."""

from __future__ import annotations

import asyncio
import shutil
import threading

import structlog

from leptond.base.clock import Clock
from leptond.config import Settings
from leptond.services.loop import Loop
from leptond.services.retention import Retention
from leptond.store import Store
from leptond.store.database import backup

log = structlog.get_logger("leptond.maintenance")

QUIET_START_S = 60.0
"""Seconds after the start in which nothing is done, because a restart has more urgent work."""

INTERVAL_S = 3600.0
"""Seconds between two purges, and most between two checks whether a backup is due."""


class Maintenance:
    """Backups every `storage.backup_every_s` seconds (0: none), and a purge every hour."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, retention: Retention) -> None:
        self._settings = settings.storage
        self._limits = settings.retention
        self._checkpoints = settings.retention.checkpoints
        self._store = store
        self._clock = clock
        self._retention = retention
        every_s = self._settings.backup_every_s
        self._loops = [Loop("purge", self._purge, first_s=QUIET_START_S, retry_s=INTERVAL_S)]
        if every_s:
            self._loops.append(
                Loop(
                    "backup",
                    self._backup,
                    first_s=min(QUIET_START_S, every_s),
                    retry_s=min(INTERVAL_S, every_s),
                )
            )

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(loop.run(), name=loop.name)

    async def _purge(self) -> float:
        await self._retention.leftovers()
        await self._retention.purge(self._limits, checkpoints=self._checkpoints, by="retention")
        return INTERVAL_S

    async def _backup(self) -> float:
        """Takes a backup if one is due, and returns the seconds until the next check."""
        every_s = self._settings.backup_every_s
        state_dir = self._store.path.parent
        taken = await asyncio.to_thread(backup.kept, state_dir)
        now = self._clock.wall()
        # an age below zero: the clock was set back, so nothing is known about the age
        if taken and 0 <= now - taken[0].taken_at < every_s:
            return min(every_s - (now - taken[0].taken_at), INTERVAL_S)
        one = await keep_backup(self._store, now, self._settings.backup_keep)
        log.info("backup.taken", name=one.name, bytes=one.bytes)
        return min(every_s, INTERVAL_S)


async def keep_backup(store: Store, now: float, count: int) -> backup.Backup:
    """Takes a backup into the state directory and deletes all but the newest `count`. Raises OSError,
    StoreError."""
    state_dir = store.path.parent
    stop = threading.Event()

    def work() -> backup.Backup:
        need = 2 * store.path.stat().st_size
        if shutil.disk_usage(state_dir).free < need:
            raise OSError(28, f"less than {need} bytes are free in {state_dir}")
        one = backup.keep(state_dir, store.path, now=now, stop=stop)
        backup.forget_old(state_dir, count)
        return one

    try:
        return await asyncio.to_thread(work)
    finally:
        stop.set()
