"""One seed from its first second to its last: a machine, its people, its troubles, and the daemon's own
scheduler, supervisor, reconciliation and device watch between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

import leptond.scheduling.handover
import leptond.scheduling.standby
import leptond.scheduling.supervisor
import leptond.services.progress_receiver
from leptond.config import GpuSettings, QueueSettings, Settings
from leptond.core.jobs.model import Job
from leptond.core.jobs.sources import Note
from leptond.core.scheduling.inputs import PlannerFigures, PolicyName
from leptond.core.training.progress import ProgressMessage
from leptond.daemon.assembly import assemble
from leptond.engines.report_sockets import ReportSockets
from leptond.scheduling.pass_reader import PassReader
from leptond.services.file_look import FileLook
from leptond.services.gpu_watch import GpuWatch
from leptond.store import StoreUnavailable
from leptond.store.queue import compact_arrays
from tests.simulation.checker import Checker
from tests.simulation.engine import SimulatedDevices, SimulatedEngine
from tests.simulation.faults import Swarm
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.people import MAX_LIMIT_S, People
from tests.simulation.store import Faults, SimulatedStore, database
from tests.simulation.world import Violation, World

DAY = 86400.0
GPUS, CPU_SLOTS = 8, 4
MAX_BYPASS_S = 3600.0
POLICIES: tuple[PolicyName, ...] = (
    *("auto",) * 5,
    *("fifo", "firstfit", "firstfit", "shortest", "easy", "throughput"),
)
SPANS = {(0.01, 4.0): 730, (0.03, 3.0): 227, (0.15, 1.5): 40, (1.0, 1.0): 3}
"""Days and pace of a seed, and how often they are drawn."""

SPINS = 50_000
"""Callbacks without any time in between that are too many."""

REST_LIMIT_S = 6 * DAY
"""How long the queue may take to come to rest after the last day, before that is called a violation."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a seed came to. `load` is submits a day."""

    seed: int
    days: float
    faults: list[str]
    events: int
    checks: int
    decisions: int
    claims: int
    preemptions: int
    commits: int
    jobs: int
    lives: int
    simulated_s: float
    digest: str
    violation: str | None
    tail: list[str]


class SameFiles(FileLook):
    """The jobs of a simulation name no files, so that none is looked at, nor a thread begun for it."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))

    async def changes(self, job: Job, *, started_at: float) -> list[Note]:
        """None: there are no files."""
        return []


class Life:
    """The daemon from a start to its death."""

    def __init__(self, sim: Simulation) -> None:
        self.loop = VirtualLoop(lambda: sim.world.now)
        dice = sim.world.dice(f"store/{sim.lives}")
        self.store = SimulatedStore(sim.db, sim.disk, dice, sim.checker.committed, sim.has_read)
        self.engine = SimulatedEngine(sim.machine)
        self.watch = GpuWatch(
            SimulatedDevices(sim.machine), self.store, sim.world, sim.settings.gpus.sample_s
        )
        self.stop = asyncio.Event()
        self.open = False
        self.report: Callable[[ProgressMessage], None] = lambda report: None
        self.main = self.loop.create_task(self._serve(sim))

    async def _serve(self, sim: Simulation) -> None:
        """As leptond.daemon.app.serve, without HTTP and the services beside the node."""
        store = self.store
        await self.watch.open()
        async with asyncio.TaskGroup() as parts:
            node = assemble(
                sim.settings,
                store,
                self.engine,
                sim.world,
                self.watch,
                parts,
                SameFiles(),
                report_sockets=ReportSockets([Path("/nowhere")]),
            )
            await node.settle()
            self.open = True
            self.report = node.reports.take
            await node.reconcile()
            store.on_commit(node.array_expander.wake)
            loops = node.schedule()
            sim.world.note("ready")
            await self.stop.wait()
            for task in loops:
                task.cancel()
            await node.stop_scheduling()
            self.open = False
            await node.close()


def _settings(dice: random.Random) -> Settings:
    """The policy is the seed's choice; half of the time with figures small enough that a day reaches the
    bounds which its default figures set for weeks."""
    policy = dice.choice(POLICIES)
    small = PlannerFigures(
        overdue_factor=2.0, overdue_batch_gpu_s=600.0, unknown_run_s=1800.0, class_gpu_s=600.0
    )
    return Settings(
        queue=QueueSettings(policy=policy, cpu_slots=CPU_SLOTS, max_bypass_s=MAX_BYPASS_S),
        planner=small if dice.random() < 0.5 else PlannerFigures(),
        gpus=GpuSettings(sample_s=300.0),
    )


class Simulation:
    """`days` of work (None: the seed's choice), then as long as the queue needs to come to rest. In a short
    span more comes together: `pace` times as many submits and troubles an hour as on a whole day."""

    def __init__(
        self, seed: int, days: float | None = None, *, without: frozenset[str] = frozenset()
    ) -> None:
        self.world = world = World(seed)
        span, self.pace = world.dice("span").choices(list(SPANS), list(SPANS.values()))[0]
        self.days = span if days is None else days
        if days is not None:
            self.pace = 1.0
        self.gpus = GPUS
        self.settings = _settings(world.dice("settings"))
        self.db = database()
        self.disk = Faults()
        self.checker = Checker(world, self.db, self.settings.policy(), longest_s=2 * MAX_LIMIT_S)
        self.machine = self.checker.machine = Machine(world, GPUS, self.checker.started)
        per_day = round(self.pace * world.dice("load").randint(140, 300))
        self.people = People(self, world, self.checker, per_day)
        self.life: Life | None = None
        self.lives = 0
        self.commits = 0
        self.fuse: int | None = None
        self.thaws_at = 0.0
        self.swarm = Swarm(self, world, without)
        self.checker.order.wall_jumps = "clock-jumps" in self.swarm.kinds
        self._dice = world.dice("daemon")

    # -- the daemon's life ---------------------------------------------------------------------------

    def start(self) -> None:
        """The service manager starts it."""
        if self.life is None:
            self.lives += 1
            self.world.note("start")
            self.life = Life(self)
            self.checker.up_since = self.world.now
            self.swarm.after_start()

    def crash(self, away_s: float | None = None) -> None:
        """kill -9, and a new one after a while."""
        life, self.life = self.life, None
        self.fuse = None
        self.thaws_at = 0.0
        if life is None:
            return
        self.world.note("crash")
        self._end(life)
        self.world.after(away_s if away_s is not None else self._dice.uniform(1.0, 3.0), self.start)

    def _end(self, life: Life) -> None:
        life.store.dead = life.engine.dead = True
        life.open = False
        self.commits += life.store.commits
        self.checker.down()
        _abandon(life)
        self.machine.daemon_died(life.engine)
        self.people.daemon_died()

    def terminate(self) -> None:
        """SIGTERM."""
        if self.life is not None:
            self.life.stop.set()

    def reboot(self, away_s: float) -> None:
        """Power is lost."""
        self.crash(away_s)
        self.machine.reboot()

    def freeze(self, for_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if self.life is not None:
            self.thaws_at = self.world.now + for_s
            self.world.after(for_s, self.world.note, "thaw")

    def door(self) -> SimulatedStore | None:
        """What requests go to, while somebody answers."""
        return self.life.store if self.life is not None and self.life.open else None

    def run_in_daemon(self, work: Coroutine[Any, Any, None]) -> None:
        """A request is being handled."""
        assert self.life is not None
        self.life.loop.create_task(work)

    def has_read(self, query: Any) -> None:
        """Counts the decisions of the scheduler, and notes when it last read the queue."""
        if getattr(query, "__func__", None) is PassReader.read:
            self.checker.decisions += 1
            self.checker.looked_at = self.world.now

    # -- time ----------------------------------------------------------------------------------------

    def _work(self, life: Life) -> None:
        """Lets the daemon do what it can do now."""
        loop = life.loop
        loop.wake()
        asyncio._set_running_loop(loop)
        try:
            steps = 0
            while loop.step():
                steps += 1
                if steps % 200 == 0:
                    self.world.now += 1e-6  # work takes time; else a wait of one rounding error is for ever
                if steps > SPINS:
                    raise Violation(f"the daemon is busy for ever: {_stacks(loop)}")
                if self.fuse is not None:
                    self.fuse -= 1
                    if self.fuse <= 0:
                        asyncio._set_running_loop(None)
                        self.crash()
                        return
        finally:
            asyncio._set_running_loop(None)
        if life.main.done():
            self._stopped(life)

    def _stopped(self, life: Life) -> None:
        error = None if life.main.cancelled() else life.main.exception()
        self.world.note(f"the daemon ended: {error!r}")
        if error is not None and not (self.disk.fail and _is_unavailable(error)):
            raise Violation(f"the daemon ended by itself: {_words(error)}")
        self.life = None
        self.fuse = None
        self._end(life)
        self.world.after(self._dice.uniform(1.0, 3.0), self.start)

    def until(self, end: float) -> None:
        """Time goes on to `end`."""
        world = self.world
        while True:
            life = self.life
            frozen = world.now < self.thaws_at
            if life is not None and not frozen:
                self._work(life)
                life = self.life
            if _errors:
                raise Violation(f"the daemon logged: {_errors.pop()}")
            next_world = world.next_at()
            next_loop = life.loop.next_at() if life is not None and not frozen else None
            if next_loop is not None and (next_world is None or next_loop < next_world):
                if next_loop > end:
                    break
                world.now = max(world.now, next_loop)
            elif next_world is not None and next_world <= end:
                world.happen()
            else:
                break
        world.now = max(world.now, end)

    def _hourly(self) -> None:
        self.checker.look_at_cancels()
        self.world.after(600.0, self._hourly)

    def _play(self) -> None:
        self.start()
        self._hourly()
        self.until(self.days * DAY)
        self.people.working = False
        self.swarm.stop()
        self.thaws_at = 0.0
        self.checker.room_changed_at = self.world.now
        self.world.note("evening")
        end = self.world.now + REST_LIMIT_S
        while self.world.now < end:
            if self.life is None:
                self.start()
            self.people.tidy()
            self.until(self.world.now + 1800.0)
            ended = all(state in _TERMINAL for state in self.checker.state.values())
            if ended and not self.machine.shims and not self.db.execute("SELECT 1 FROM folds").fetchone():
                break
        self.checker.at_rest()

    def run(self) -> Result:
        """The whole of it."""
        violation = None
        with _surroundings(self.world):
            try:
                self._play()
            except Violation as found:
                violation = str(found)
            except Exception as found:
                if "stopped after" not in str(found):
                    raise
                violation = str(found)
            finally:
                if self.life is not None:
                    life, self.life = self.life, None
                    self.commits += life.store.commits
                    life.store.dead = life.engine.dead = True
                    _abandon(life)
            if violation is None:
                for row in self.db.execute("SELECT id, state, attempt, class, gpu_ms FROM jobs ORDER BY id"):
                    self.world.note(str(tuple(row)))
            self.db.close()
        checker = self.checker
        return Result(
            seed=self.world.seed,
            days=self.days,
            faults=self.swarm.kinds,
            events=self.world.events,
            checks=checker.checks,
            decisions=checker.decisions,
            claims=checker.claims,
            preemptions=checker.preemptions,
            commits=self.commits,
            jobs=len(checker.state),
            lives=self.lives,
            simulated_s=self.world.now,
            digest=self.world.digest(),
            violation=violation,
            tail=list(self.world.tail) if violation else [],
        )


_TERMINAL = frozenset({"succeeded", "failed", "timed_out", "cancelled", "lost"})
_errors: list[str] = []


def _stacks(loop: VirtualLoop) -> str:
    """What the daemon's tasks are at."""
    found = {
        f"{frame.f_code.co_name}:{frame.f_lineno}"
        for task in asyncio.all_tasks(loop)
        for frame in task.get_stack()
    }
    return ", ".join(sorted(found))


def _abandon(life: Life) -> None:
    """What a killed daemon seems to log while its coroutines are taken apart, it never did."""
    heard = list(_errors)
    life.loop.abandon()
    _errors[:] = heard


def _is_unavailable(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_unavailable(one) for one in error.exceptions)
    return isinstance(error, StoreUnavailable)


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(one) for one in error.exceptions)
    return repr(error)


def _hear(_: Any, name: str, event: dict[str, Any]) -> Any:
    """The daemon's log: what it cannot explain itself is a violation."""
    if name in ("exception", "critical") or "exc_info" in event:
        import sys

        _errors.append(f"{event.get('event')} {sys.exc_info()[1]!r} {event}")
    raise structlog.DropEvent


class _Tokens:
    """Attempt ids from the seed."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def token_hex(self, size: int) -> str:
        return f"{self._dice.getrandbits(size * 8):0{size * 2}x}"


@contextlib.contextmanager
def _surroundings(world: World) -> Iterator[None]:
    """What the daemon takes from the world besides its arguments comes from the simulation, and its log is
    listened to."""
    before = structlog.get_config()
    _errors.clear()
    structlog.configure(
        processors=[_hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    clock = SimpleNamespace(monotonic=lambda: world.now)
    instead = [
        (leptond.scheduling.handover, "secrets", _Tokens(world.dice("attempt ids"))),
        (leptond.scheduling.standby, "secrets", _Tokens(world.dice("deck ids"))),
        (leptond.scheduling.supervisor, "random", world.dice("rolls")),
        (leptond.scheduling.supervisor, "time", clock),
        (leptond.services.progress_receiver, "time", clock),
    ]
    # few enough that the arrays of the simulation are folded, and more than can run at a time
    instead += [
        (compact_arrays, name, value)
        for name, value in (("OVER", 3), ("AT_ONCE", 1), ("LOW", 12), ("HIGH", 14))
    ]
    originals = [(module, name, getattr(module, name)) for module, name, _ in instead]
    for module, name, value in instead:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in originals:
            setattr(module, name, value)
        structlog.configure(**before)
