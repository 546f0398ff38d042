"""The assembly of a node that schedules. The daemon (app.py) adds HTTP and the services beside
it; the simulation (tests/simulation) puts a virtual clock, store and engine below it.

Everything gets its collaborators here, by its constructor. The way of a start: :class:`Wakeup` ->
:class:`Scheduler` -> :class:`Supervisor` -> engine; the way of an end: engine -> :class:`Supervisor` ->
:class:`HandOver` -> the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from leptond.base.clock import Clock
from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.config import Settings
from leptond.engines.base import Engine
from leptond.engines.report_sockets import ReportSockets
from leptond.recovery.reconcile import reconcile, settle
from leptond.scheduling.array_expander import ArrayExpander
from leptond.scheduling.handover import HandOver
from leptond.scheduling.idle_notes import IdleNotes
from leptond.scheduling.pass_reader import PassReader
from leptond.scheduling.scheduler import Scheduler
from leptond.scheduling.standby import Standby
from leptond.scheduling.start_permit import StartPermit
from leptond.scheduling.successions import Successions
from leptond.scheduling.supervisor import Supervisor
from leptond.scheduling.wakeup import Wakeup
from leptond.services.file_look import FileLook
from leptond.services.gpu_watch import GpuWatch
from leptond.services.progress_receiver import ProgressReceiver
from leptond.store import Store
from leptond.store.queue import fair_share, order_keys


@dataclass(frozen=True, kw_only=True)
class Node:
    """The parts of a node that schedules, in the order of its life: :meth:`settle`, :meth:`reconcile`,
    :meth:`schedule`, :meth:`stop_scheduling`, :meth:`close`. `pass_times` takes how long the scheduling
    passes take, in seconds."""

    settings: Settings
    store: Store
    engine: Engine
    clock: Clock
    group: asyncio.TaskGroup
    watch: GpuWatch
    reports: ProgressReceiver
    wakeup: Wakeup
    notes: IdleNotes
    standby: Standby
    handover: HandOver
    successions: Successions
    supervisor: Supervisor
    scheduler: Scheduler
    array_expander: ArrayExpander
    pass_times: DurationHistogram
    file_look: FileLook

    async def settle(self) -> None:
        """Claim what an earlier daemon has started and could not claim. Before anything is answered."""
        await settle(self.store, self.engine, self.supervisor, self.clock)

    async def reconcile(self) -> int:
        """Make the database agree with the machine and the settings. Returns how many running attempts were
        adopted."""
        half_life_s = self.settings.shares.half_life_s
        await self.store.write(fair_share.configure, half_life_s, now=self.clock.wall())
        adopted = await reconcile(self.store, self.engine, self.supervisor, self.clock)
        await self.store.write(order_keys.adopt, self.settings.policy())
        return adopted

    def schedule(self) -> list[asyncio.Task[None]]:
        """Begin to schedule; nothing starts before. Returns the loops, each a task of the group."""
        self.handover.open()
        self.store.on_change(self.wakeup.committed)
        self.watch.on_change(self.wakeup.changed)
        return [
            self.group.create_task(self.scheduler.run(), name="scheduler"),
            self.group.create_task(self.watch.run(), name="gpu-watch"),
            self.group.create_task(self.reports.run(), name="progress-receiver"),
            self.group.create_task(self.array_expander.run(), name="array-expander"),
        ]

    async def stop_scheduling(self) -> None:
        """After the end of the loops: write what is noted, take back and discard what is prepared. Running
        jobs go on."""
        await self.notes.write()
        await self.successions.close()
        await self.standby.clear()

    async def close(self) -> None:
        """Stop following attempts; what they have reported is written."""
        self.successions.abandon()
        self.supervisor.close()
        self.reports.close()
        await self.reports.write()


def assemble(
    settings: Settings,
    store: Store,
    engine: Engine,
    clock: Clock,
    watch: GpuWatch,
    group: asyncio.TaskGroup,
    file_look: FileLook,
    *,
    report_sockets: ReportSockets,
    has_space: Callable[[], bool] = lambda: True,
) -> Node:
    """Put a node together whose tasks run in `group`. `report_sockets`: where jobs report their progress;
    `has_space` returns True while the disk has free space for what jobs write."""
    wakeup = Wakeup(clock)
    notes = IdleNotes(store, clock)
    permit = StartPermit(engine, clock, has_space)
    standby = Standby(engine, clock, group, settings.engine.standby, wakeup.prepared)
    successions = Successions(store, engine, clock, standby, group, wakeup.changed)
    store.on_given(successions.barred)
    handover = HandOver(store, clock, settings, watch.unhealthy, standby, successions, permit, notes)
    reports = ProgressReceiver(report_sockets, store, clock)
    supervisor = Supervisor(
        store, engine, clock, group, reports, watch.usage, standby, handover, permit, file_look, watch.faults
    )
    pass_times = DurationHistogram(FAST_S)
    reader = PassReader(clock, settings, watch.unhealthy, standby.places)
    scheduler = Scheduler(
        store, clock, wakeup, reader, standby, handover, successions, supervisor, permit, notes, pass_times
    )
    return Node(
        settings=settings,
        store=store,
        engine=engine,
        clock=clock,
        group=group,
        watch=watch,
        reports=reports,
        wakeup=wakeup,
        notes=notes,
        standby=standby,
        handover=handover,
        successions=successions,
        supervisor=supervisor,
        scheduler=scheduler,
        array_expander=ArrayExpander(store, clock),
        pass_times=pass_times,
        file_look=file_look,
    )
