"""The spine: what is started, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from leptond import __version__
from leptond.api.http.context import Context
from leptond.api.server import Api
from leptond.base.clock import Clock, SystemClock
from leptond.base.errors import StartRefused
from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.base.locks import MachineLocks, check_hard_links, machine_locks, prepare_state_dir, state_lock
from leptond.base.paths import Places
from leptond.base.tokens import load_tokens
from leptond.config import Settings
from leptond.daemon.systemd import notify, watchdog_interval_s
from leptond.engines.local import LocalEngine
from leptond.gpus import open_backend
from leptond.recovery.reconcile import reconcile, settle
from leptond.recovery.restored_database import catch_up, guard
from leptond.scheduling.array_expander import Unfolder
from leptond.scheduling.scheduler import Scheduler
from leptond.scheduling.standby import Deck
from leptond.scheduling.supervisor import Supervisor
from leptond.services.disk_guard import DiskGuard
from leptond.services.gpu_watch import GpuWatch
from leptond.services.ledger_rollup import LedgerRollup
from leptond.services.maintenance import Maintenance
from leptond.services.output_copies import OutputCopies
from leptond.services.progress_receiver import ProgressReceiver
from leptond.services.retention import Retention
from leptond.services.webhooks import Webhooks
from leptond.store import DATABASE, SQLITE_VERSION, Store, open_store
from leptond.store.database.examine import forget_looks
from leptond.store.database.migrate import wal_reset_fault
from leptond.store.queue import fair_share, order_keys

log = structlog.get_logger("leptond.daemon")


SWITCH_S = 0.0005
"""How long the database's threads may hold up the loop (the interpreter's default is 5 ms, more than a
hand-over takes)."""


@dataclass
class Phase:
    """How far the daemon is: starting, ready, stopping."""

    name: str = "starting"


async def serve(settings: Settings, places: Places) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Running jobs go on without it. Raises StartRefused,
    alone or in an ExceptionGroup."""
    clock = SystemClock()
    sys.setswitchinterval(SWITCH_S)
    phase = Phase()
    stop = _stop_signals()
    prepare_state_dir(places.state_dir)
    with state_lock(places.state_dir):
        guard(places.state_dir)
        forget_looks(places.state_dir)
        check_hard_links(places.state_dir / DATABASE)
        disk_guard = DiskGuard(settings.storage, places.state_dir, clock)
        disk_guard.release_ballast_if_full()
        async with (
            open_store(places.state_dir / DATABASE) as store,
            _machine_locks(store, places) as locks,
            _open_gpus(settings, store, clock, locks) as watch,
            _open_engine(settings, places, store.lineage) as engine,
            asyncio.TaskGroup() as parts,
        ):
            store.broken.add_done_callback(_die)
            store.on_full(disk_guard.disk_full)
            reports = ProgressReceiver(places.report_socket, store, clock)
            supervisor = Supervisor(store, engine, clock, parts, reports, watch.usage)
            unfolder = Unfolder(store, clock)
            pass_times = DurationHistogram(FAST_S)
            retention = Retention(store, clock)
            context = _context(
                settings,
                places,
                store,
                clock,
                watch,
                engine,
                phase,
                retention,
                pass_times,
                disk_guard,
                unfolder,
            )
            api = Api(context)
            # before anything is answered: numbers that jobs on this machine have must not be given out
            await catch_up(store, clock)
            await settle(store, engine, supervisor, clock)
            await api.start()
            reports.open()
            half_life_s = settings.shares.half_life_s
            await store.write(fair_share.configure, half_life_s, now=clock.wall())
            adopted = await reconcile(store, engine, supervisor, clock)
            await store.write(order_keys.adopt, settings.policy())
            # nothing is scheduled before this line
            hooks = Webhooks(settings.webhooks.hooks, store, clock)
            deck = Deck(engine, clock, parts, settings.engine.on_deck)
            scheduler = Scheduler(
                store,
                supervisor,
                engine,
                clock,
                settings,
                watch.unhealthy,
                deck,
                disk_guard.may_start,
                pass_times,
            )
            watch.on_change(scheduler.wake)
            maintenance = Maintenance(settings, store, clock, retention)
            loops = [
                parts.create_task(OutputCopies(store, engine.jobs_dir).run(), name="output-copies"),
                parts.create_task(scheduler.run(), name="scheduler"),
                parts.create_task(watch.run(), name="gpu-watch"),
                parts.create_task(reports.run(), name="progress-receiver"),
                parts.create_task(hooks.run(), name="webhooks"),
                parts.create_task(_watchdog(store), name="watchdog"),
                parts.create_task(disk_guard.run(scheduler.wake), name="disk-guard"),
                parts.create_task(maintenance.run(), name="maintenance"),
                parts.create_task(unfolder.run(), name="unfolder"),
                parts.create_task(
                    LedgerRollup(store, clock, settings.cost.detail_days).run(), name="ledger-rollup"
                ),
            ]
            phase.name = "ready"
            notify("READY=1\nSTATUS=scheduling")
            log.info(
                "ready",
                version=__version__,
                mode=places.mode,
                socket=str(places.socket),
                listen=settings.http.listen or None,
                backend=watch.backend,
                containment=engine.containment,
                adopted=adopted,
            )
            await stop.wait()
            phase.name = "stopping"
            notify("STOPPING=1")
            log.info("stopping; running jobs go on")
            for task in loops:
                task.cancel()
            await scheduler.write_notes()
            await deck.clear()
            await api.stop()
            supervisor.close()
            reports.close()
            await reports.write()


def _die(broken: asyncio.Future[StartRefused]) -> None:
    """The storage has failed: the process ends at once, because closing the database would write into a file
    that is damaged or no longer to be trusted. Jobs go on."""
    if not broken.cancelled():
        why = broken.result()
        notify(f"STOPPING=1\nSTATUS={why}")
        print(f"leptond: {why}", file=sys.stderr, flush=True)  # noqa: T201 - the last word of the process
        os._exit(why.exit_code)


def _context(
    settings: Settings,
    places: Places,
    store: Store,
    clock: Clock,
    watch: GpuWatch,
    engine: LocalEngine,
    phase: Phase,
    retention: Retention,
    pass_times: DurationHistogram,
    disk_guard: DiskGuard,
    unfolder: Unfolder,
) -> Context:
    notes = _notes(places)
    for note in notes:
        log.warning(note)
    return Context(
        store=store,
        clock=clock,
        settings=settings,
        places=places,
        gpu_view=watch,
        started_at=clock.wall(),
        phase=lambda: phase.name,
        notes=notes,
        jobs_dir=engine.jobs_dir,
        checkpoints_dir=engine.checkpoints_dir,
        retention=retention,
        pass_times=pass_times,
        disk_guard=disk_guard,
        expand_arrays=unfolder.wake,
        tokens=load_tokens(places.token_file) if settings.http.listen else None,
    )


def _notes(places: Places) -> list[str]:
    """What the user should know from the start."""
    found = []
    if wal_reset_fault():
        found.append(
            f"SQLite {SQLITE_VERSION} can lose commits when two programs write the same database "
            "(fixed in 3.51.3): open the queue's database with nothing but leptond while it runs"
        )
    if places.mode == "system":
        found.append(
            "every job runs as the daemon's own user: users of this queue are not protected from each other"
        )
    return found


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def _machine_locks(store: Store, places: Places) -> AsyncIterator[MachineLocks]:
    with machine_locks(store.lineage, places.state_dir) as locks:
        yield locks


@contextlib.asynccontextmanager
async def _open_gpus(
    settings: Settings, store: Store, clock: Clock, locks: MachineLocks
) -> AsyncIterator[GpuWatch]:
    backend = open_backend(settings.gpus, on_note=lambda note: log.warning(note))
    watch = GpuWatch(backend, store, clock, settings.gpus.sample_s, settings.cost.rates(), locks)
    try:
        await watch.open()
        yield watch
    finally:
        await watch.close()


@contextlib.asynccontextmanager
async def _open_engine(settings: Settings, places: Places, lineage: str) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(settings, places, lineage)
    engine.open()
    try:
        yield engine
    finally:
        engine.close()


async def _watchdog(store: Store) -> None:
    """Tells the service manager that the loop turns and the database answers."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        await store.ping()
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
