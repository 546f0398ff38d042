"""Everything that HTTP handlers use, in one value made at the start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from leptond.api.http.identity import Identities
from leptond.api.http.waits import Ends, EventTail
from leptond.api.http.wrong_secrets import WrongSecrets
from leptond.base.clock import Clock
from leptond.base.histogram import DurationHistogram
from leptond.base.paths import Places
from leptond.base.tokens import Tokens
from leptond.config import Settings
from leptond.core.warm_learning import WarmEnvironment
from leptond.gpus.base import Sample
from leptond.services.admission import CurrentFacts
from leptond.services.audit import Audit
from leptond.services.disk_guard import DiskGuard
from leptond.services.file_look import FileLook
from leptond.services.gpu_history import GpuHistory
from leptond.services.retention import Retention
from leptond.services.sign_in import SignInLinks
from leptond.services.tokens import TokenRegistry
from leptond.store import Store
from leptond.store.planning.outlook import Forecasts


class GpuView(Protocol):
    """The state of the devices, as :class:`leptond.services.gpu_watch.GpuWatch` has it."""

    @property
    def backend(self) -> str:
        """Name of the backend."""

    @property
    def note(self) -> str | None:
        """Fault of the backend as a whole, as a sentence; None: it works."""

    def samples(self) -> Mapping[str, Sample]:
        """Newest sample by UUID."""

    def unhealthy(self) -> Mapping[str, str]:
        """Reason why a device must not be leased, by UUID."""

    @property
    def history(self) -> GpuHistory:
        """The last day by minutes."""


class Commits:
    """Wakes all waits for the next commit."""

    def __init__(self, store: Store) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        store.on_commit(self.wake)

    def wake(self) -> None:
        """End all waits, as a commit does."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """Return a future that is done at the next commit. Take it before reading, await it after."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    async def wait(self, future: asyncio.Future[None], timeout_s: float) -> bool:
        """Return True if `future` was done within `timeout_s` seconds; else cancel it."""
        done, _ = await asyncio.wait((future,), timeout=timeout_s)
        if not done:
            future.cancel()
        return bool(done)


class Context:
    """Collaborators of the handlers. `phase` returns starting, ready or stopping; `notes` are standing facts
    for the user; `tokens` open the TCP listener (None: no TCP); `pass_times` are durations of scheduling
    passes; `file_look` looks at the files that jobs name; `registry` has the tokens of persons;
    `disk_guard` refuses submits while the disk is nearly full;
    `warm_environments` returns those of jobs that may start warm; `expand_arrays` is called when a large
    array was submitted."""

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
        retention: Retention,
        pass_times: DurationHistogram,
        file_look: FileLook,
        registry: TokenRegistry | None = None,
        disk_guard: DiskGuard | None = None,
        warm_environments: Callable[[], list[WarmEnvironment]] = list,
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
        self.warm_environments = warm_environments
        self.retention = retention
        self.pass_times = pass_times
        self.file_look = file_look
        self.admission_facts = CurrentFacts(store, settings)
        self.registry = registry if registry is not None else TokenRegistry(store, clock)
        self.identities = Identities(store, settings.access, places.socket, tokens, self.registry)
        self.sign_in = SignInLinks(clock)
        self.audit = Audit(store, clock)
        self.wrong_secrets = WrongSecrets()
        self.commits = Commits(store)
        self.ends = Ends(store)
        self.event_tail = EventTail(store)
        self.closing = asyncio.Event()
        self.forecasts = Forecasts()
        self.bulk = asyncio.Lock()
        """Held by a large submit, so that starts and ends of jobs are written between two of them."""
        self.page_address: str | None = None
        """HOST:PORT of the TCP listener, noted by the server once its port is known."""
        self.page_port: int | None = None

    def page_url(self) -> str | None:
        """Return the address of the page, without a slash at its end; None while TCP is off."""
        http = self.settings.http
        if self.page_address is None:
            return None
        if http.behind_tls_proxy and http.allowed_hosts:
            return f"https://{http.allowed_hosts[0]}"
        return f"{'https' if http.tls_cert else 'http'}://{self.page_address}"


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
