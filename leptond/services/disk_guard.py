"""Free disk space for what must be written whatever happens.

Submits are refused while little is free, well before a write fails. If the disk fills all the same, the
ballast (a file allocated beforehand) is deleted: its space is enough to record how running jobs end. Nothing
new is started until there is space again, and then the ballast is allocated anew. No job is stopped for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from leptond.base.clock import Clock
from leptond.base.errors import StorageFull
from leptond.config import StorageSettings
from leptond.core.jobs.timespec import format_size
from leptond.services.loop import Loop

log = structlog.get_logger("leptond.disk_guard")

BALLAST = "ballast"
CACHE_S = 0.5
"""Seconds for which the measured free space holds, so that a burst of submits measures it once."""

OUTAGE_INTERVAL_S = 1.0
"""Seconds between two measurements during an outage: nothing announces that space has become free."""

NO_BALLAST_INTERVAL_S = 30.0
"""Seconds between two attempts to allocate the ballast where there was no space for it."""


def free_space(place: Path) -> int:
    """Bytes that an unprivileged user may still write on the file system of `place`; a very large number
    where it does not exist yet, so that its creator meets the error."""
    try:
        found = os.statvfs(place)
    except OSError:
        return 1 << 62
    return found.f_bavail * found.f_frsize


class DiskGuard:
    """Watches the disks of the state directory and of the jobs' directories. `measure` returns the free bytes
    of a place."""

    def __init__(
        self,
        settings: StorageSettings,
        state_dir: Path,
        clock: Clock,
        measure: Callable[[Path], int] = free_space,
    ) -> None:
        self._settings = settings
        self._ballast = state_dir / BALLAST
        self._places = (state_dir, state_dir / "jobs")
        self._clock = clock
        self._measure = measure
        self._measured: tuple[float, int] | None = None
        self._outage = False
        self._on_recovery: Callable[[], None] = lambda: None
        self._loop = Loop("disk-guard", self._step)

    @property
    def _least_bytes(self) -> int:
        return self._settings.min_free_bytes // 8

    # -- free space ------------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """Free bytes of the fuller of the disks, as of CACHE_S seconds ago at most."""
        now = self._clock.boot()
        if self._measured is None or now - self._measured[0] > CACHE_S:
            self._measured = (now, min(self._measure(place) for place in self._places))
        return self._measured[1]

    def check_accepts_jobs(self) -> None:
        """Raises StorageFull while no job may be accepted."""
        least = self._settings.min_free_bytes
        if self._outage or self.free_bytes() < least:
            raise StorageFull(
                f"the disk has {format_size(self.free_bytes())} left, and jobs are accepted from "
                f"{format_size(least)} on; nothing was stored",
                hint="make room (leptonctl purge, old checkpoints), or lower storage.min_free_bytes; "
                "jobs that run go on",
                headers={"Retry-After": "30"},
            )

    def may_start(self) -> bool:
        """Return True if there is space for the directory and the end of one more attempt."""
        return not self._outage and self.free_bytes() >= self._least_bytes

    # -- the ballast -------------------------------------------------------------------------------

    def allocate_ballast(self) -> bool:
        """Allocates the ballast if it is missing and there is space for it. Returns True if it exists."""
        size = self._settings.ballast_bytes
        if not size:
            self._ballast.unlink(missing_ok=True)
            return False
        with contextlib.suppress(OSError):
            if self._ballast.stat().st_size == size:
                return True
        if self._measure(self._ballast.parent) < size + self._least_bytes:
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
            log.warning("disk.ballast_failed", error=str(error))
            return False
        return True

    def release_ballast_if_full(self) -> None:
        """Deletes the ballast when the daemon starts on a full disk, because a start has to write."""
        if self._measure(self._ballast.parent) < self._least_bytes:
            self._outage = True
            self._release_ballast()

    def disk_full(self) -> None:
        """Begins an outage: a write found no space."""
        self._measured = None
        if not self._outage:
            log.error("disk.filled")
            self._outage = True
            self._loop.wake()
        self._release_ballast()

    def _release_ballast(self) -> None:
        with contextlib.suppress(OSError):
            self._ballast.unlink()

    async def run(self, on_recovery: Callable[[], None]) -> None:
        """Keeps the ballast allocated and ends outages; calls `on_recovery` after each. Runs until
        cancelled."""
        self._on_recovery = on_recovery
        await self._loop.run()

    async def _step(self) -> float | None:
        allocated = self.allocate_ballast() or not self._settings.ballast_bytes
        if self._outage:
            self._measured = None
            # without the ballast, the next full disk would leave nothing to delete
            if not allocated or self.free_bytes() < self._least_bytes:
                return OUTAGE_INTERVAL_S
            log.warning("disk.recovered")
            self._outage = False
            self._on_recovery()
        return None if allocated else NO_BALLAST_INTERVAL_S
