"""What goes wrong, by swarm: each seed draws which kinds of trouble it has, and how much of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

HOUR = 3600.0
KINDS = {
    # what can go wrong, and how often a day where it does
    "crash": 10.0,
    "crash-in-recovery": 0.0,
    "restart": 4.0,
    "away": 2.0,
    "freeze": 6.0,
    "reboot": 1.5,
    "slow-store": 3.0,
    "store-errors": 3.0,
    "slow-reads": 0.0,
    "disk-full": 2.0,
    "spawn-errors": 0.0,
    "stuck-shims": 0.0,
    "shim-lost": 8.0,
    "both-lost": 2.0,
    "gpu-lost": 3.0,
    "gpu-sick": 3.0,
    "driver-hangs": 2.0,
    "clock-jumps": 6.0,
    "stubborn": 0.0,
    "unkillable": 0.0,
    "cancel": 0.0,
    "storm": 0.0,
    "hold": 0.0,
    "edit": 0.0,
    "retry": 0.0,
    "purge": 0.0,
    "drain": 0.0,
    "lost-after-handing-on": 0.0,
    "rush": 60.0,
}


class Swarm:
    """The troubles of one seed. `without` takes some away, to find out which of them a failure needs."""

    def __init__(self, sim: Simulation, world: World, without: frozenset[str]) -> None:
        self._sim, self._world = sim, world
        dice = world.dice("swarm")
        drawn = [kind for kind in KINDS if dice.random() < 0.5]
        self.kinds = [kind for kind in drawn if kind not in without]
        self.working = True
        self._dice = {kind: world.dice(f"fault/{kind}") for kind in KINDS}
        people, machine = sim.people, sim.machine
        people.habits = set(self.kinds)
        for kind in ("stubborn", "unkillable"):
            if kind in self.kinds:
                people.kinds[kind] = 4 if kind == "stubborn" else 1
        if "rush" in self.kinds:
            # a job that may be preempted makes all running ones differ, and ends every chain of successors
            people.preemptible = dice.choice([0.0, 0.0, 0.35])
        if "slow-reads" in self.kinds:
            sim.disk.read_s = 0.05
        if "spawn-errors" in self.kinds:
            machine.spawn_errors = 0.03
        if "stuck-shims" in self.kinds:
            machine.stuck_shims = 0.02
        if "lost-after-handing-on" in self.kinds:
            machine.lost_after_handing_on = 0.1
        for kind in self.kinds:
            if KINDS[kind]:
                self._next(kind)

    def _next(self, kind: str) -> None:
        a_day = KINDS[kind] * self._sim.pace
        self._world.after(self._dice[kind].expovariate(a_day / 86400), self._strike, kind)

    def _strike(self, kind: str) -> None:
        if self.working:
            self._world.note(f"fault {kind}")
            getattr(self, "_" + kind.replace("-", "_"))()
            self._next(kind)

    def stop(self) -> None:
        """Everything is well again."""
        sim, machine = self._sim, self._sim.machine
        self.working = False
        machine.spawn_errors = machine.stuck_shims = machine.lost_after_handing_on = 0.0
        machine.disk_full = machine.driver_hangs = False
        machine.gone_gpus.clear()
        machine.sick_gpus.clear()
        sim.disk.fail = sim.disk.read_s = 0.0
        sim.disk.commit_s = 0.004
        self._world.wall_offset = 0.0

    # -- the daemon ----------------------------------------------------------------------------------

    def _crash(self) -> None:
        # not now, but after a few more of its steps, so that it comes between any two of them
        self._sim.fuse = self._dice["crash"].choice([1, 2, 3, 5, 8, 13, 21, 34, 55, 89])

    def after_start(self) -> None:
        """A daemon begins to recover."""
        dice = self._dice["crash-in-recovery"]
        if self.working and "crash-in-recovery" in self.kinds and dice.random() < 0.3:
            self._sim.fuse = dice.randint(1, 40)

    def _restart(self) -> None:
        self._sim.terminate()

    def _away(self) -> None:
        self._sim.crash(away_s=self._dice["away"].uniform(60, 2 * HOUR))

    def _freeze(self) -> None:
        self._sim.freeze(self._dice["freeze"].choice([1.0, 10.0, 60.0, 600.0]))

    def _reboot(self) -> None:
        self._sim.reboot(away_s=self._dice["reboot"].uniform(30, 600))

    # -- the disk ------------------------------------------------------------------------------------

    def _slow_store(self) -> None:
        self._sim.disk.commit_s = self._dice["slow-store"].choice([0.1, 1.0, 10.0])
        self._world.after(self._dice["slow-store"].uniform(10, 1200), self._quick_again)

    def _quick_again(self) -> None:
        self._sim.disk.commit_s = 0.004

    def _store_errors(self) -> None:
        self._sim.disk.fail = self._dice["store-errors"].choice([0.1, 0.5, 1.0])
        self._world.after(self._dice["store-errors"].uniform(5, 600), self._no_errors)

    def _no_errors(self) -> None:
        self._sim.disk.fail = 0.0

    def _disk_full(self) -> None:
        self._sim.machine.disk_full = True
        self._sim.disk.fail = 1.0
        self._world.after(self._dice["disk-full"].uniform(5, 1800), self._disk_freed)

    def _disk_freed(self) -> None:
        self._sim.machine.disk_full = False
        self._sim.disk.fail = 0.0

    # -- shims and devices ---------------------------------------------------------------------------

    def _shim_lost(self) -> None:
        shims = self._sim.machine.shims
        if shims:
            self._sim.machine.kill_shim(shims[self._dice["shim-lost"].choice(sorted(shims))])

    def _both_lost(self) -> None:
        shims = self._sim.machine.shims
        if shims:
            self._sim.machine.kill_shim(shims[self._dice["both-lost"].choice(sorted(shims))])
        self._sim.crash(away_s=self._dice["both-lost"].choice([1.0, 5.0, 600.0]))

    def _gpu_lost(self) -> None:
        uuid = self._dice["gpu-lost"].choice(self._sim.machine.uuids)
        self._sim.machine.gone_gpus.add(uuid)
        self._world.after(self._dice["gpu-lost"].uniform(60, 2 * HOUR), self._gpu_back, uuid)

    def _gpu_back(self, uuid: str) -> None:
        self._sim.machine.gone_gpus.discard(uuid)
        self._sim.checker.room_changed_at = self._world.now

    def _gpu_sick(self) -> None:
        dice = self._dice["gpu-sick"]
        uuid = dice.choice(self._sim.machine.uuids)
        self._sim.machine.sick_gpus[uuid] = dice.choice(["GPU requires reset", "an unknown error"])
        self._world.after(dice.uniform(60, HOUR), self._gpu_well, uuid)

    def _gpu_well(self, uuid: str) -> None:
        self._sim.machine.sick_gpus.pop(uuid, None)
        self._sim.checker.room_changed_at = self._world.now

    def _driver_hangs(self) -> None:
        self._sim.machine.driver_hangs = True
        self._world.after(self._dice["driver-hangs"].uniform(10, 1800), self._driver_answers)

    def _driver_answers(self) -> None:
        self._sim.machine.driver_hangs = False
        self._sim.checker.room_changed_at = self._world.now

    # -- the users -----------------------------------------------------------------------------------

    def _rush(self) -> None:
        self._sim.people.rush(self._dice["rush"])

    # -- the clock -----------------------------------------------------------------------------------

    def _clock_jumps(self) -> None:
        dice = self._dice["clock-jumps"]
        size = dice.choice([1.0, 60.0, HOUR, 86400.0, 365 * 86400.0, 10 * 365 * 86400.0])
        jump = dice.choice([-1.0, 1.0]) * dice.uniform(0.5, 1.0) * size
        if abs(self._world.wall_offset + jump) > 11 * 365 * 86400.0:
            jump = -jump
        self._world.wall_offset += jump
