"""What the HTTP surface needs from the rest, handed to it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from leptond.base.clock import Clock
from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.base.paths import Places
from leptond.base.tokens import Tokens
from leptond.config import Settings
from leptond.gpus.base import Sample
from leptond.services.disk_guard import DiskGuard
from leptond.services.gpu_history import GpuHistory
from leptond.services.retention import Retention
from leptond.store import Store


class GpuView(Protocol):
    """How the devices are doing."""

    @property
    def backend(self) -> str:
        """Where the devices come from."""

    @property
    def note(self) -> str | None:
        """What is not as it should be, as a sentence."""

    def samples(self) -> Mapping[str, Sample]:
        """The newest sample by UUID."""

    def unhealthy(self) -> Mapping[str, str]:
        """Why a device must not be given away, by UUID."""

    @property
    def history(self) -> GpuHistory:
        """The last day by minutes."""


class Commits:
    """Wakes everybody who waits for the next commit."""

    def __init__(self, store: Store) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        store.on_commit(self.wake)

    def wake(self) -> None:
        """Ends all waits, as a commit does."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """A future that is done at the next commit. Take it before reading, await it after."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    async def wait(self, future: asyncio.Future[None], timeout_s: float) -> bool:
        """Whether `future` was done within `timeout_s` seconds."""
        done, _ = await asyncio.wait((future,), timeout=timeout_s)
        if not done:
            future.cancel()
        return bool(done)


class Context:
    """Everything that handlers use. `phase` is starting, ready or stopping; `notes` are standing facts for
    the user; `tokens` are what TCP callers must show (None: no TCP). `disk_guard` refuses submits while the
    disk is nearly full; `expand_arrays` is called when a large array was submitted."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        settings: Settings,
        places: Places,
        gpu_view: GpuView,
        started_at: float,
        phase: Callable[[], str],
        notes: list[str],
        jobs_dir: Path,
        checkpoints_dir: Path,
        tokens: Tokens | None,
        disk_guard: DiskGuard | None = None,
        expand_arrays: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.places = places
        self.gpu_view = gpu_view
        self.started_at = started_at
        self.phase = phase
        self.notes = notes
        self.jobs_dir = jobs_dir
        self.checkpoints_dir = checkpoints_dir
        self.tokens = tokens
        self.disk_guard = disk_guard
        self.expand_arrays = expand_arrays
        self.retention = Retention(store, clock)
        self.commits = Commits(store)
        self.closing = asyncio.Event()
        self.bulk = asyncio.Lock()
        """Large submits go to the writer one at a time: starts and ends of jobs find their way between."""
        self.turn_times = DurationHistogram(FAST_S)
        """Of the scheduler's looks at the queue."""
        self.page_address: str | None = None
        """HOST:PORT of the TCP listener, once there is one."""


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
