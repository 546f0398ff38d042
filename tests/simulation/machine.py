"""The machine below the daemon: shims, the commands that they run, the exit records on its disk, its GPUs.
A model of leptond/engines/shim and of the kernel. It goes on whatever becomes of the daemon."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from leptond.core.jobs.model import ExitRecord, Identity, Job, LeasedGpu
from leptond.core.scheduling.standby import ended_well
from leptond.engines.base import Given, Taken
from leptond.engines.shim.attempt import BOOK_S
from tests.simulation.world import Timer, World

CLOCK_TICKS = 100

LINGER_S, KILL_TIMEOUT_S = 2.0, 60.0

WORDS = {
    "gpu-lost": "RuntimeError: CUDA error: GPU is lost\n",
    "cuda-oom": "torch.OutOfMemoryError: CUDA out of memory.\n",
    "cuda-fault": "CUDA error: an illegal memory access was encountered\n",
}


class Command:
    """The processes of one attempt: what they will do, and what became of them. The truth that the
    database is held against."""

    def __init__(self, shim: Shim, given: Given, dice: random.Random) -> None:
        _, kind, seconds = shim.job.spec.argv
        self.job_id, self.attempt_id, self.number = shim.job.id, shim.attempt_id, shim.number
        self.gpus = tuple(gpu.uuid for gpu in given.gpus)
        self.kind = kind
        self.alive = True
        self.began = 0.0
        self.main_done = False
        self.killed = False
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.words = ""
        self.end: Timer | None = None
        self.lasts_s: float | None = float(seconds) * dice.uniform(0.8, 1.2)
        self.will: tuple[int | None, int | None] = (0, None)
        match kind:
            case "fail":
                self.will = (1 + dice.randrange(100), None)
            case "flaky":
                self.will = (0 if self.number > 2 else 3, None)
            case "usage":
                self.will, self.lasts_s = (2, None), dice.uniform(0.1, 3.0)
            case "segfault":
                self.will = (None, 11)
            case "killed":
                self.will = (None, 9) if dice.random() < 0.5 else (0, None)
            case "later":
                self.will = (75, None) if dice.random() < 0.6 else (0, None)
            case "gpu-lost" | "cuda-oom" | "cuda-fault":
                if dice.random() < 0.6:
                    self.will, self.words = (1, None), WORDS[kind]
            case "hang" | "stubborn" | "unkillable":
                self.lasts_s = None
        self.ignores_term = kind in ("stubborn", "unkillable")
        self.leaves_s = dice.uniform(0.5, 20.0) if kind == "leftover" else 0.0
        self.reacts_s = dice.uniform(0.01, 5.0)


class Shim:
    """One supervising process."""

    def __init__(self, job: Job, attempt_id: str, identity: Identity, owner: object) -> None:
        self.job, self.attempt_id = job, attempt_id
        self.number = job.attempt + 1
        self.given: Given | None = None  # known with GO
        self.id = identity
        self.owner = owner
        self.state = "new"  # new, gate, running, gone
        self.gate_open = True
        self.go = False
        self.command: Command | None = None
        self.started_at = 0.0
        self.started_boot = 0.0
        self.started_now = 0.0
        self.run_s = 0.0
        self.asked: tuple[str, float] | None = None  # a stop.json that came before the command began
        self.stop_reason: str | None = None
        self.stop_sent: float | None = None
        self.kill_at: float | None = None
        self.timers: dict[str, Timer] = {}
        self.waiters: list[Callable[[], None]] = []
        self.unkillable = 0
        self.leaving = False
        self.said: ExitRecord | None = None
        self.booked = False
        self.succession: Succession | None = None  # it waits in it
        self.slots: list[list[LeasedGpu]] = []
        self.has_turn = False
        self.next: Shim | None = None
        self.hands_on: Succession | None = None
        self.hands_on_until: float | None = None
        self.taken: Taken | None = None
        self.withdrawn = False


class Succession:
    """The channel of a succession: the slots that were handed on and that nobody has taken. `open`: somebody
    may read it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = True
        self.tokens: list[tuple[str, list[str]]] = []
        self.waiting: list[Shim] = []


class Machine:
    """`started` is told of every command that begins, before anything else happens."""

    def __init__(self, world: World, gpus: int, started: Callable[[Shim, Command], None]) -> None:
        self.world = world
        self.dice = world.dice("machine")
        self.started = started
        self.uuids = [f"GPU-{index}" for index in range(gpus)]
        self.gone_gpus: set[str] = set()
        self.sick_gpus: dict[str, str] = {}
        self.driver_hangs = False
        self.disk_full = False
        self.spawn_errors = 0.0
        self.stuck_shims = 0.0
        self.shims: dict[str, Shim] = {}
        self.commands: dict[str, Command] = {}  # all that ever ran, by attempt
        self.alive: dict[str, Command] = {}
        self.directories: set[str] = set()
        self.said: dict[str, ExitRecord] = {}
        self.placed: dict[str, Taken] = {}
        self._heard: dict[str, float] = {}
        self.records: dict[str, ExitRecord] = {}
        self._pid = 100
        self.lost_after_handing_on = 0.0

    def _soon(self, low: float, high: float, call: Callable[..., None], *args: Any) -> Timer:
        return self.world.after(self.dice.uniform(low, high), call, *args)

    # -- the start -----------------------------------------------------------------------------------

    def fork(self, job: Job, attempt_id: str, owner: object) -> Shim:
        """A shim on its way to its gate. Raises OSError."""
        if self.disk_full:
            raise OSError(28, "no space left on device")
        self.directories.add(attempt_id)
        if self.dice.random() < self.spawn_errors:
            raise OSError(11, "resource temporarily unavailable")
        self._pid += 1
        ticks = int(self.world.boot() * CLOCK_TICKS)
        identity = Identity(boot_id=self.world.boot_id, pid=self._pid, start_ticks=ticks)
        shim = Shim(job, attempt_id, identity, owner)
        self.shims[attempt_id] = shim
        if self.dice.random() >= self.stuck_shims:
            self._soon(0.004, 0.04, self._ready, shim)
        else:
            self._soon(30.0, 900.0, self._ready, shim)
        return shim

    def _ready(self, shim: Shim) -> None:
        if shim.state != "new":
            return
        shim.state = "gate"
        self.world.note(f"shim {shim.attempt_id} ready")
        if not shim.gate_open:
            self._never(shim)
        self._tell(shim)

    def shut(self, shim: Shim) -> None:
        """End of file at the gate. What was written into it before is read first."""
        shim.gate_open = False
        if shim.state == "gate" and not shim.go:
            self._soon(0.0005, 0.01, self._never, shim)

    def _never(self, shim: Shim) -> None:
        if shim.state == "gate" and not shim.go:
            self._leave(shim, never_started=True)

    def clear(self, attempt_id: str) -> None:
        """What an attempt without GO has left is removed."""
        self.directories.discard(attempt_id)
        self.records.pop(attempt_id, None)

    def open_gate(self, shim: Shim, given: Given) -> None:
        """GO, with the GPUs."""
        self._leave_succession(shim)
        shim.given = given
        if shim.state == "gate" and shim.gate_open:
            shim.go = True
            self._soon(0.001, 0.02, self._execute, shim)

    # -- starts without the daemon -----------------------------------------------------------------

    def succeed(
        self,
        succession: Succession,
        shim: Shim,
        slots: list[list[LeasedGpu]],
        behind: Shim | None,
        until: float | None,
    ) -> None:
        """SUCCEED, on its way to a shim; BEFORE to the one before it."""

        def arrive() -> None:
            if shim.state != "gate" or shim.go:
                return
            shim.succession, shim.slots = succession, slots
            shim.hands_on, shim.hands_on_until = succession, until
            shim.has_turn, shim.taken, shim.withdrawn, shim.next = False, None, False, None
            succession.waiting.append(shim)
            if turn:
                self.give_turn(shim)

        def before() -> None:
            if behind is not None and behind.succession is succession and behind.taken is None:
                behind.next = shim  # else nobody reads it: the daemon gives the turn

        turn = behind is None
        self._in_order(shim, arrive)
        if behind is not None:
            self._in_order(behind, before)

    def _in_order(self, shim: Shim, call: Callable[[], None]) -> None:
        """What is said at a gate is heard in its order, after a while."""
        at = max(
            self.world.now + self.dice.uniform(0.0001, 0.003), self._heard.get(shim.attempt_id, 0.0) + 1e-6
        )
        self._heard[shim.attempt_id] = at
        self.world.after(at - self.world.now, call)

    def give_turn(self, shim: Shim) -> None:
        shim.has_turn = True
        self._look(shim)

    def hand_on(self, succession: Succession, shim: Shim, until: float | None) -> None:
        """HAND_ON, which a shim reads at its end."""
        shim.hands_on, shim.hands_on_until = succession, until

    def _look(self, shim: Shim) -> None:
        """A shim that has the turn, and for which there is a slot, takes it in a moment."""
        one = shim.succession
        if one is not None and shim.has_turn and shim.taken is None and one.tokens:
            self._soon(0.0001, 0.002, self._take, shim, one)

    def _take(self, shim: Shim, one: Succession) -> None:
        if shim.state != "gate" or shim.succession is not one or not one.tokens or not shim.gate_open:
            return  # it has left it, or hears first that the daemon is gone
        after, uuids = one.tokens.pop(0)
        gpus = next((gpus for gpus in shim.slots if [gpu.uuid for gpu in gpus] == uuids), None)
        if gpus is None:
            return
        one.waiting.remove(shim)
        if shim.next is not None and shim.next.succession is one:
            self._soon(0.0, 0.002, self.give_turn, shim.next)
        at, boot = self.world.wall(), self.world.boot()
        shim.succession, shim.has_turn = None, False
        shim.taken = Taken(after=after, gpus=uuids, claimed_at=at, claimed_boot=boot)
        shim.given = Given(gpus=gpus, claimed_at=at, claimed_boot=boot)
        shim.go = True
        self.world.note(f"shim {shim.attempt_id} takes the slot of {after}")
        self._soon(0.0005, 0.02, self._execute, shim)

    def withdraw(self, shim: Shim) -> None:
        """WITHDRAW, on its way."""

        def arrive() -> None:
            if shim.state == "gate" and shim.taken is None:
                self._leave_succession(shim)
                shim.withdrawn = True
                self._soon(0.0001, 0.003, self._tell, shim)

        self._in_order(shim, arrive)

    @staticmethod
    def _leave_succession(shim: Shim) -> None:
        if shim.succession is not None and shim in shim.succession.waiting:
            shim.succession.waiting.remove(shim)
        shim.succession, shim.has_turn, shim.hands_on, shim.next = None, False, None, None

    def _hand_on(self, shim: Shim, record: ExitRecord) -> str:
        """The slot of an attempt that has ended well goes to its succession."""
        one, until = shim.hands_on, shim.hands_on_until
        if one is None or shim.given is None or not ended_well(record) or not shim.gate_open:
            return ""
        if until is not None and self.world.boot() >= until:
            return ""
        if not one.open and not one.waiting:
            return ""
        one.tokens.append((shim.attempt_id, [gpu.uuid for gpu in shim.given.gpus]))
        for waiting in one.waiting:
            self._look(waiting)
        return one.name

    # -- the start, once more ----------------------------------------------------------------------

    def _execute(self, shim: Shim) -> None:
        if shim.state != "gate":
            return
        assert shim.given is not None
        self.placed[shim.attempt_id] = shim.taken or Taken(
            after=None,
            gpus=[gpu.uuid for gpu in shim.given.gpus],
            claimed_at=shim.given.claimed_at,
            claimed_boot=shim.given.claimed_boot,
        )
        shim.started_at, shim.started_boot = self.world.wall(), self.world.boot()
        shim.started_now = self.world.now
        if self.disk_full:
            self._leave(shim, exec_error="cannot start: no space left on device", exec_errno=28)
            return
        if shim.job.spec.argv[1] == "noexec":
            self._leave(shim, exec_error="cannot execute no-such: command not found", exec_errno=2)
            return
        dice = self.world.dice(f"attempt/{shim.job.id}/{shim.number}")
        command = shim.command = Command(shim, shim.given, dice)
        command.began = self.world.now
        shim.state = "running"
        self.world.note(f"command {shim.attempt_id} begins")
        self.started(shim, command)
        self.commands[shim.attempt_id] = self.alive[shim.attempt_id] = command
        if command.lasts_s is not None:
            command.end = self.world.after(command.lasts_s, self._main_ends, command, *command.will)
        if shim.job.time_limit_s is not None:
            shim.timers["limit"] = self.world.after(shim.job.time_limit_s, self._limit, shim)
        if shim.asked is not None:
            self.stop(shim, *shim.asked)
        self._tell(shim)

    # -- the end -------------------------------------------------------------------------------------

    def _main_ends(self, command: Command, exit_code: int | None, signal: int | None) -> None:
        if not command.alive or command.main_done:
            return
        command.main_done = True
        command.exit_code, command.signal = exit_code, signal
        if command.end is not None:
            command.end.cancel()
        self.world.note(f"command {command.attempt_id} ends {exit_code} {signal}")
        shim = self.shims.get(command.attempt_id)
        supervised = shim is not None and shim.state == "running"
        if supervised and shim is not None:
            shim.run_s = self.world.boot() - shim.started_boot
            self._cancel(shim, "limit")
        if command.leaves_s and not command.killed:
            # children stay behind: the shim gives them a moment, then kills them
            left_s = min(command.leaves_s, LINGER_S) if supervised else command.leaves_s
            self.world.after(left_s, self._all_gone, command)
        else:
            self._all_gone(command)

    def _all_gone(self, command: Command) -> None:
        if not command.alive:
            return
        command.alive = False
        self.alive.pop(command.attempt_id, None)
        shim = self.shims.get(command.attempt_id)
        if shim is not None and shim.state == "running":
            self._leave(shim)

    def _limit(self, shim: Shim) -> None:
        self.stop(shim, "timeout", shim.job.spec.grace_s or 0.0)

    def stop(self, shim: Shim, reason: str, grace_s: float) -> None:
        """``stop.json`` and the signal: SIGTERM once, a second request can only bring the kill nearer."""
        command = shim.command
        if shim.state in ("new", "gate"):
            shim.asked = (reason, grace_s)  # its signal waits as well
        if shim.state != "running" or command is None:
            return
        self.world.note(f"shim {shim.attempt_id} stops: {reason} {grace_s}")
        if shim.stop_sent is None:
            shim.stop_sent = self.world.now
            if not command.main_done:
                shim.stop_reason = reason
                if grace_s > 0 and not command.ignores_term:
                    code = self.dice.choice([0, 0, 143, 1])
                    self.world.after(command.reacts_s, self._main_ends, command, code, None)
        kill_at = shim.stop_sent + grace_s
        if shim.kill_at is None or kill_at < shim.kill_at:
            shim.kill_at = kill_at
            self._cancel(shim, "kill")
            shim.timers["kill"] = self.world.after(max(0.0, kill_at - self.world.now), self._kill, shim)

    def _kill(self, shim: Shim) -> None:
        if shim.state != "running" or shim.command is None or shim.leaving:
            return
        if self.sigkill(shim.command):
            shim.timers["give up"] = self.world.after(KILL_TIMEOUT_S, self._give_up, shim)

    def sigkill(self, command: Command) -> bool:
        """Kills every process of an attempt; True when they do not go (D state)."""
        command.killed = True
        if command.kind == "unkillable" and command.alive:
            self._soon(30.0, 7200.0, self._main_ends, command, None, 9)
            return True
        if command.main_done:
            self._all_gone(command)
        else:
            self._main_ends(command, None, 9)
        return False

    def _give_up(self, shim: Shim) -> None:
        if shim.state == "running":
            shim.unkillable = 1
            self._leave(shim)

    def _leave(self, shim: Shim, **how: Any) -> None:
        """The end of an attempt: told at once where a daemon listens, which may book it before it is on disk;
        then recorded, and the shim goes."""
        if shim.state == "gone" or shim.leaving:
            return
        shim.leaving = True
        command = shim.command
        values: dict[str, Any] = {"ended_at": self.world.wall(), "unkillable": shim.unkillable, **how}
        if command is not None:
            values |= {
                "exit_code": command.exit_code,
                "signal": command.signal,
                "run_s": shim.run_s,
                "started_at": shim.started_at,
                "main_pid": shim.id.pid + 1_000_000,
                "stop_reason": shim.stop_reason,
                "stop_sent_after_s": (
                    shim.stop_sent - shim.started_now if shim.stop_sent is not None else None
                ),
                "killed": command.killed,
            }
        record = ExitRecord(attempt_id=shim.attempt_id, boot_id=shim.id.boot_id, **values)
        record = msgspec.structs.replace(record, handed_on=self._hand_on(shim, record))
        if record.handed_on and self.dice.random() < self.lost_after_handing_on:
            self.kill_shim(shim)
            return
        if shim.gate_open and shim.go:
            shim.said = self.said[shim.attempt_id] = record
            self._tell(shim)
            shim.timers["record"] = self._soon(0.0, BOOK_S, self._record, shim, record)
        else:
            self._record(shim, record)

    def booked(self, attempt_id: str) -> None:
        """The daemon has its end on disk: the record is no longer waited for."""
        shim = self.shims.get(attempt_id)
        if shim is not None and shim.said is not None and not shim.booked:
            shim.booked = True
            self._cancel(shim, "record")
            shim.timers["record"] = self._soon(0.0005, 0.01, self._record, shim, shim.said)

    def _record(self, shim: Shim, record: ExitRecord) -> None:
        """The exit record, tried for as long as the disk is full and nobody has booked the end."""
        if shim.state == "gone":
            return
        if self.disk_full and not shim.booked:
            shim.timers["record"] = self.world.after(1.0, self._record, shim, record)
            return
        if not self.disk_full:
            self.records[shim.attempt_id] = record
        self._gone(shim)

    def _gone(self, shim: Shim) -> None:
        shim.state = "gone"
        self._leave_succession(shim)
        for timer in shim.timers.values():
            timer.cancel()
        self.world.note(f"shim {shim.attempt_id} gone")
        self.shims.pop(shim.attempt_id, None)
        self._tell(shim)

    @staticmethod
    def _cancel(shim: Shim, name: str) -> None:
        timer = shim.timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    @staticmethod
    def _tell(shim: Shim) -> None:
        waiters, shim.waiters = shim.waiters, []
        for waiter in waiters:
            waiter()

    # -- what can happen to it -----------------------------------------------------------------------

    def kill_shim(self, shim: Shim) -> None:
        """kill -9 of the shim: no record, and its command goes on unwatched."""
        if shim.state != "gone":
            self._gone(shim)

    def daemon_died(self, owner: object) -> None:
        """The gates that it held open come to their end of file."""
        for shim in list(self.shims.values()):
            if shim.owner is owner and shim.gate_open:
                self.shut(shim)

    def reboot(self) -> None:
        """Power is cut and comes back: every process is gone, what was synced stays."""
        for shim in list(self.shims.values()):
            shim.waiters.clear()
            self._gone(shim)
        for command in list(self.alive.values()):
            command.alive = False
            if command.end is not None:
                command.end.cancel()
        self.alive.clear()
        self.world.boots += 1
        self.world.boot_began = self.world.now - 10.0
        self.world.note("reboot")
