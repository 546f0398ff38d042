"""The daemon from its start to its end: what is opened, in which order, and what runs meanwhile. The parts
that schedule are put together in assembly.py."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from leptond import __version__
from leptond.api.http.context import Context
from leptond.api.http.identity import own_user
from leptond.api.server import Api
from leptond.base import socket_places
from leptond.base.clock import Clock, SystemClock
from leptond.base.errors import StartRefused
from leptond.base.locks import MachineLocks, check_hard_links, machine_locks, prepare_state_dir, state_lock
from leptond.base.paths import Places, usable_sockets
from leptond.base.tokens import load_tokens
from leptond.config import Settings
from leptond.core.access import run_as
from leptond.core.access.roles import Role
from leptond.daemon.activation import CREDENTIAL, by_path, credential, take_sockets
from leptond.daemon.announcement import Started, announcement
from leptond.daemon.assembly import Node, assemble
from leptond.daemon.systemd import notify, watchdog_interval_s
from leptond.engines.accounts import check_rights, open_places
from leptond.engines.local import LocalEngine
from leptond.engines.report_sockets import ReportSockets
from leptond.gpus import open_backend
from leptond.recovery.account_mode import settle_accounts
from leptond.recovery.copied_state import check_place, former_places
from leptond.recovery.restored_database import catch_up, guard
from leptond.services.disk_guard import DiskGuard
from leptond.services.file_look import FileLook
from leptond.services.gpu_usage import GpuUsage
from leptond.services.gpu_watch import GpuWatch
from leptond.services.ledger_rollup import LedgerRollup
from leptond.services.maintenance import Maintenance
from leptond.services.output_copies import OutputCopies
from leptond.services.retention import Retention
from leptond.services.sign_in import Person
from leptond.services.socket_watch import SocketWatch
from leptond.services.tokens import TokenRegistry
from leptond.services.webhooks import Webhooks
from leptond.store import DATABASE, Store, open_store
from leptond.store.database.examine import forget_looks
from leptond.store.queue import gpus, scripts

log = structlog.get_logger("leptond.daemon")


SWITCH_S = 0.0005
"""Longest time that the database's threads may hold up the loop (the interpreter's default is 5 ms, more than
a hand-over takes)."""

COLLECT_AT = (20_000, 50, 100)
"""Thresholds of the cycle collector's generations (the interpreter's default is 700, 10, 10)."""


@dataclass
class Phase:
    """The daemon's phase: starting, ready, stopping."""

    name: str = "starting"


async def serve(settings: Settings, places: Places) -> None:
    """Run the daemon until SIGTERM or SIGINT. Running jobs go on without it. Raises StartRefused,
    alone or in an ExceptionGroup."""
    clock = SystemClock()
    sys.setswitchinterval(SWITCH_S)
    stop = _stop_signals()
    handed_over = take_sockets(os.environ)
    check_rights(settings.accounts)
    prepare_state_dir(places.state_dir)
    if settings.accounts.multi_user:
        open_places(places.state_dir)
    with state_lock(places.state_dir):
        places = usable_sockets(places)
        inherited = by_path(handed_over, places.sockets)
        guard(places.state_dir)
        check_place(places.state_dir)
        forget_looks(places.state_dir)
        check_hard_links(places.state_dir / DATABASE)
        disk_guard = DiskGuard(settings.storage, places.state_dir, clock)
        disk_guard.release_ballast_if_full()
        report_sockets = ReportSockets(places.report_sockets, multi_user=settings.accounts.multi_user)
        async with (
            open_store(places.state_dir / DATABASE) as store,
            _machine_locks(store, places) as locks,
            _open_gpus(settings, store, clock, locks) as watch,
            _open_engine(settings, places, store, report_sockets) as engine,
            asyncio.TaskGroup() as parts,
        ):
            store.broken.add_done_callback(_die)
            store.on_full(disk_guard.disk_full)
            node = assemble(
                settings,
                store,
                engine,
                clock,
                watch,
                parts,
                FileLook(places.state_dir, multi_user=settings.accounts.multi_user),
                report_sockets=report_sockets,
                has_space=disk_guard.may_start,
            )
            _spare_the_collector()
            await _run(node, engine, places, disk_guard, report_sockets, inherited, stop)


def _spare_the_collector() -> None:
    """Take what the start has made out of Python's cycle collector, and let it look less often. A large batch
    makes ten thousands of objects without cycles; looking through all there are, again and again, took a
    quarter of its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)


async def _run(
    node: Node,
    engine: LocalEngine,
    places: Places,
    disk_guard: DiskGuard,
    report_sockets: ReportSockets,
    inherited: Mapping[Path, socket.socket],
    stop: asyncio.Event,
) -> None:
    """The life of an opened daemon, until `stop`."""
    phase = Phase()
    context = _context(node, engine, places, phase, disk_guard)
    api = Api(context, inherited=inherited)
    # before anything is answered: numbers that jobs on this machine have must not be given out
    await catch_up(node.store, node.clock)
    multi_user = node.settings.accounts.multi_user
    await settle_accounts(node.store, places.state_dir, multi_user=multi_user)
    await node.settle()
    await context.registry.load()
    await api.start()
    node.reports.open()
    adopted = await node.reconcile()
    sockets = SocketWatch(lambda: [*api.listeners, *report_sockets.listening])
    loops = [
        *node.schedule(),
        *_services(node, engine, disk_guard, context),
        node.group.create_task(sockets.run(), name="socket-watch"),
    ]
    phase.name = "ready"
    notify("READY=1\nSTATUS=scheduling")
    log.info(
        "daemon.ready",
        version=__version__,
        mode=places.mode,
        socket=str(places.socket),
        listen=node.settings.http.listen or None,
        backend=node.watch.backend,
        containment=engine.containment,
        accounts=node.settings.accounts.mode,
        adopted=adopted,
    )
    if sys.stdout.isatty():
        await _announce(node, context)
    await stop.wait()
    phase.name = "stopping"
    notify("STOPPING=1")
    log.info("daemon.stopping")  # running jobs go on
    for task in loops:
        task.cancel()
    await node.stop_scheduling()
    await api.stop()
    await node.close()


async def _announce(node: Node, context: Context) -> None:
    """Tell the person at the terminal where the page is, and what to type next."""
    present = await node.store.read(lambda db: gpus.known(db, present_only=True))
    url = context.page_url()
    me = Person(user=own_user(), uid=os.geteuid(), role=Role.ADMIN)
    started = Started(
        version=__version__,
        gpus=len(present),
        simulated=node.watch.backend == "simulated",
        socket=str(context.places.socket),
        found_by_itself=str(context.places.socket) in socket_places.to_look_at(os.environ),
        page=f"{url}/#login={context.sign_in.make(me)}" if url is not None else None,
        config_file=str(context.places.config_file),
    )
    sys.stdout.write(announcement(started))
    sys.stdout.flush()


def _services(
    node: Node, engine: LocalEngine, disk_guard: DiskGuard, context: Context
) -> list[asyncio.Task[None]]:
    """The loops beside the scheduling, each a task of the group."""
    settings, store, clock = node.settings, node.store, node.clock
    loops = {
        "output-copies": OutputCopies(store, engine.jobs_dir, clock, settings.accounts).run(),
        "webhooks": Webhooks(settings.webhooks.hooks, store, clock).run(),
        "watchdog": _watchdog(store),
        "standby-renewal": node.standby.renew(node.successions.take_back, node.wakeup.changed),
        "disk-guard": disk_guard.run(node.wakeup.changed),
        "maintenance": Maintenance(settings, store, clock, context.retention).run(),
        "tokens": context.registry.run(),
        "ledger-rollup": LedgerRollup(store, clock, settings.cost.detail_days).run(),
    }
    return [node.group.create_task(loop, name=name) for name, loop in loops.items()]


def _die(broken: asyncio.Future[StartRefused]) -> None:
    """End the process at once when the storage has failed, because closing the database would write into a
    file that is damaged or no longer to be trusted. Jobs go on."""
    if not broken.cancelled():
        why = broken.result()
        notify(f"STOPPING=1\nSTATUS={why}")
        print(f"leptond: {why}", file=sys.stderr, flush=True)  # noqa: T201 - the last word of the process
        os._exit(why.exit_code)


def _context(node: Node, engine: LocalEngine, places: Places, phase: Phase, disk_guard: DiskGuard) -> Context:
    notes = _notes(places, node.settings)
    for note in notes:
        log.warning("daemon.note", note=note)
    return Context(
        store=node.store,
        clock=node.clock,
        settings=node.settings,
        places=places,
        gpu_view=node.watch,
        started_at=node.clock.wall(),
        phase=lambda: phase.name,
        notes=notes,
        jobs_dir=engine.jobs_dir,
        checkpoints_dir=engine.checkpoints_dir,
        disk_guard=disk_guard,
        expand_arrays=node.array_expander.wake,
        warm_environments=engine.warm_environments,
        retention=Retention(node.store, node.clock),
        pass_times=node.pass_times,
        file_look=node.file_look,
        tokens=load_tokens(places.token_file, _given_token) if node.settings.http.listen else None,
        registry=TokenRegistry(node.store, node.clock),
    )


def _given_token(suffix: str) -> Path | None:
    return credential(os.environ, CREDENTIAL + suffix)


def _notes(places: Places, settings: Settings) -> list[str]:
    """Return what the user should know from the start."""
    if places.mode == "system" and not settings.accounts.multi_user:
        return [run_as.protection(settings.accounts, os.geteuid())]
    return []


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
    usage = GpuUsage(settings.gpus.sample_s)
    backend = open_backend(
        settings.gpus, on_note=lambda note: log.warning("gpus.note", note=note), held=usage.held_gpus
    )
    watch = GpuWatch(backend, store, clock, settings.gpus.sample_s, settings.cost, locks, usage)
    try:
        await watch.open()
        yield watch
    finally:
        await watch.close()


@contextlib.asynccontextmanager
async def _open_engine(
    settings: Settings, places: Places, store: Store, report_sockets: ReportSockets
) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(
        settings,
        places,
        store.lineage,
        lambda sha256: store.read(scripts.content, sha256),
        report_sockets,
        former=former_places(places.state_dir),
    )
    engine.open()
    try:
        yield engine
    finally:
        engine.close()


async def _watchdog(store: Store) -> None:
    """Notify the service manager that the event loop runs and the database answers."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        await store.ping()
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
