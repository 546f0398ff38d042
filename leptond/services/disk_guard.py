"""Room on the disk: enough is kept for what must be written whatever happens.

Submits are refused while little is free, well before anything fails. Should the disk fill all the same, the
ballast (a file that was allocated beforehand) is dropped: what it held is enough to record how running jobs
end. Nothing new is started until there is room again, and then the ballast is laid out anew. No job is
stopped for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from leptond.base.errors import StorageFull
from leptond.config import StorageSettings
from leptond.core.jobs.timespec import format_size

log = structlog.get_logger("leptond.room")

BALLAST = "ballast"
LOOK_S = 0.5
"""How long a look at the disks counts: a burst of submits asks once."""

OUTAGE_LOOK_S = 1.0
"""How often it is looked whether there is room again; only during an outage."""

NO_BALLAST_LOOK_S = 30.0
"""How often it is looked whether there is room for the ballast, where there was none for it."""


class DiskGuard:
    """The room on the disks of the state directory and of the jobs' directories."""

    def __init__(self, settings: StorageSettings, state_dir: Path) -> None:
        self._settings = settings
        self._ballast = state_dir / BALLAST
        self._places = (state_dir, state_dir / "jobs")
        self._seen: tuple[float, int] | None = None
        self._outage = asyncio.Event()

    # -- asking ------------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """Bytes that are free on the fuller of the disks, as of half a second ago at most."""
        now = time.monotonic()
        if self._seen is None or now - self._seen[0] > LOOK_S:
            self._seen = (now, min(_free(place) for place in self._places))
        return self._seen[1]

    def check_accepts_jobs(self) -> None:
        """Raises StorageFull when no job may be accepted now."""
        least = self._settings.min_free_bytes
        if self._outage.is_set() or self.free_bytes() < least:
            raise StorageFull(
                f"the disk has {format_size(self.free_bytes())} left, and jobs are accepted from "
                f"{format_size(least)} on; nothing was stored",
                hint="make room (leptonctl purge, old checkpoints), or lower storage.min_free_bytes; "
                "jobs that run go on",
                headers={"Retry-After": "30"},
            )

    def may_start(self) -> bool:
        """Whether an attempt may be started: it needs room for its directory and its end."""
        return not self._outage.is_set() and self.free_bytes() >= self._settings.min_free_bytes // 8

    # -- the ballast -------------------------------------------------------------------------------

    def allocate_ballast(self) -> bool:
        """Allocates the ballast where it is not there and there is room for it; whether it is there."""
        size = self._settings.ballast_bytes
        if not size:
            self._ballast.unlink(missing_ok=True)
            return False
        with contextlib.suppress(OSError):
            if self._ballast.stat().st_size == size:
                return True
        if _free(self._ballast.parent) < size + self._settings.min_free_bytes // 8:
            return False
        aside = self._ballast.with_name(f".{BALLAST}.tmp")
        try:
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
            aside.rename(self._ballast)
        except OSError as error:
            aside.unlink(missing_ok=True)
            log.warning("no ballast could be laid out", error=str(error))
            return False
        return True

    def release_ballast_if_full(self) -> None:
        """Drops the ballast when a start finds the disk full: it has to write to begin with."""
        if _free(self._ballast.parent) < self._settings.min_free_bytes // 8:
            self._outage.set()
            self._release_ballast()

    def disk_full(self) -> None:
        """A write found no room."""
        self._seen = None
        if not self._outage.is_set():
            log.error("the disk is full: the ballast is dropped, nothing starts until there is room")
            self._outage.set()
        self._release_ballast()

    def _release_ballast(self) -> None:
        with contextlib.suppress(OSError):
            self._ballast.unlink()

    async def run(self, better: Callable[[], None]) -> None:
        """Keeps the ballast laid out and waits for outages and their end; calls `better` then. Until
        cancelled."""
        while True:
            there = self.allocate_ballast() or not self._settings.ballast_bytes
            if not self._outage.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if there else NO_BALLAST_LOOK_S):
                        await self._outage.wait()
                continue
            self._seen = None
            # without the ballast the next full disk would find nothing to drop
            if there and self.free_bytes() >= self._settings.min_free_bytes // 8:
                log.warning("there is room again")
                self._outage.clear()
                better()
            else:
                await asyncio.sleep(OUTAGE_LOOK_S)  # room comes back without telling anybody


def _free(place: Path) -> int:
    try:
        seen = os.statvfs(place)
    except OSError:
        return 1 << 62  # not there yet: whoever makes it will meet the error
    return seen.f_bavail * seen.f_frsize
