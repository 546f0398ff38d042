"""The people of a simulated machine: what they submit, and what they do with it. They speak to the daemon
as the HTTP interface does, and try again when it does not answer."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leptond.base.errors import Refused
from leptond.core.admission.admission import admit
from leptond.core.jobs.model import JobSpec
from leptond.store import StoreUnavailable
from leptond.store.queue import gpus as gpu_rows
from leptond.store.queue import jobs
from leptond.store.queue.intake import Key
from tests.simulation.checker import Checker
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

MAX_LASTS_S = 4 * 3600.0
MAX_LIMIT_S = 5 * 3600.0

KINDS = {
    "ok": 50,
    "fail": 7,
    "flaky": 6,
    "hang": 4,
    "usage": 2,
    "segfault": 2,
    "killed": 3,
    "later": 3,
    "cuda-oom": 2,
    "cuda-fault": 2,
    "noexec": 2,
    "leftover": 4,
    "gpu-lost": 3,
}


class People:
    """`per_day` submits, of which some are arrays."""

    def __init__(self, sim: Simulation, world: World, checker: Checker, per_day: int) -> None:
        self._sim, self._world, self._checker = sim, world, checker
        self._dice = world.dice("people")
        self._per_day = per_day
        self._known: list[int] = []
        self._gpus: dict[int, int] = {}
        self._number = 0
        self._open: dict[int, Callable[[], None]] = {}
        self.kinds = dict(KINDS)
        self.habits: set[str] = set()
        self.preemptible = 0.35
        self.working = True
        self.submits = 0
        self._next()

    def _next(self) -> None:
        if self.working:
            self._world.after(self._dice.expovariate(self._per_day / 86400), self._act)

    def _act(self) -> None:
        if not self.working:
            return
        self.submit(self._spec())
        for habit, chance, act in (
            ("cancel", 0.10, self._cancel_one),
            ("storm", 0.008, self._storm),
            ("hold", 0.06, self._hold_or_release),
            ("edit", 0.06, self._edit),
            ("retry", 0.05, self._retry),
            ("purge", 0.03, self._purge),
            ("drain", 0.02, self._drain_or_undrain),
        ):
            if habit in self.habits and self._dice.random() < chance:
                self._world.after(self._dice.expovariate(1 / 300.0), act)
        self._next()

    def _spec(self) -> JobSpec:
        dice = self._dice
        kind = dice.choices(list(self.kinds), list(self.kinds.values()))[0]
        lasts_s = min(MAX_LASTS_S, dice.lognormvariate(5.6, 1.2))
        more: dict[str, Any] = {}
        if kind in ("hang", "stubborn", "unkillable") or dice.random() < 0.6:
            more["time_limit_s"] = min(MAX_LIMIT_S, lasts_s * dice.choice([0.7, 1.5, 2.0, 3.0]))
        if dice.random() < 0.05:
            begin = self._world.wall() + dice.uniform(0, 4 * 3600)
            if 0 < begin < 4e9:
                more["begin_at"] = datetime.fromtimestamp(begin, UTC)
        if dice.random() < 0.12 and self._known:
            field = dice.choice(["after", "after_any", "after_any", "after_fail"])
            more[field] = [str(dice.choice(self._known[-40:]))]
        if dice.random() < 0.03:
            more["array"] = dice.choice(["0-3", "0-7%2", "1,3,5%1", "0-23:2,5%4"])
        if dice.random() < 0.04:
            more["retry_on"] = ["timeout"]
        if "preemptible" in JobSpec.__struct_fields__:
            more["preemptible"] = dice.random() < self.preemptible
        return JobSpec(
            argv=["job", kind, f"{lasts_s:.1f}"],
            cwd="/",
            name=kind,
            gpus=dice.choice([0, 1, 1, 1, 1, 1, 2, 2, 4, 8]),
            priority=dice.choice([0, 0, 0, 0, 0, 1, 2, -1, -5, 10]),
            grace_s=dice.choice([0.0, 5.0, 30.0, 45.0, 45.0, 600.0]),
            retries=dice.choice([0, 0, 1, 2, 3]),
            retry_delay_s=dice.choice([0.0, 1.0, 10.0, 60.0]),
            requeue=dice.random() > 0.04,
            hold=dice.random() < 0.04,
            **more,
        )

    # -- requests ------------------------------------------------------------------------------------

    def ask(self, request: Callable[[Any], Coroutine[Any, Any, None]], *, insist: bool) -> None:
        """Sends a request; when `insist`, again and again until it is answered."""
        self._number += 1
        self._send(self._number, request, insist)

    def _send(self, number: int, request: Callable[[Any], Coroutine[Any, Any, None]], insist: bool) -> None:
        store = self._sim.door()

        def again() -> None:
            self._open.pop(number, None)
            if insist:
                self._world.after(self._dice.uniform(0.5, 60.0), self._send, number, request, insist)

        if store is None:
            again()
            return
        self._open[number] = again

        async def call() -> None:
            try:
                await request(store)
            except Refused:
                pass  # refused: an answer
            except StoreUnavailable:
                again()
                return
            self._open.pop(number, None)

        self._sim.run_in_daemon(call())

    def daemon_died(self) -> None:
        """Connections are cut; nobody knows what became of his request."""
        for again in list(self._open.values()):
            again()

    def submit(self, spec: JobSpec) -> None:
        self.submits += 1
        one = admit(spec, gpus=self._sim.gpus, home="/", defaults=self._sim.settings.jobs)
        key = f"key-{self.submits}" if self._dice.random() < 0.8 else None
        body = hashlib.sha256(repr(spec).encode()).hexdigest()
        user = self._dice.choice(["ada", "bob", "cyd", "dan"])

        async def request(store: Any) -> None:
            stored, _ = await store.write(
                jobs.submit,
                [one],
                user=user,
                now=self._world.wall(),
                max_pending=100_000,
                key=Key(key=key, body_sha256=body) if key is not None else None,
            )
            self._checker.submitted(key, stored[0].ids)
            self._known += stored[0].ids
            self._world.note(f"answered {stored[0].ids}")

        self.ask(request, insist=key is not None)

    def rush(self, dice: random.Random) -> None:
        """Submit many short jobs at once, of which most succeed: more than there are slots."""
        gpus, lasts_s, user = dice.choice([0, 1, 1, 1, 2]), dice.choice([0.1, 0.5, 1.0, 20.0]), "ada"
        specs = [
            JobSpec(
                argv=["job", "fail" if dice.random() < 0.03 else "ok", f"{lasts_s:.1f}"],
                cwd="/",
                name="rush",
                gpus=gpus,
                retries=1,
            )
            for _ in range(dice.randint(15, 40))
        ]
        machine = self._sim.gpus
        admitted = [admit(spec, gpus=machine, home="/", defaults=self._sim.settings.jobs) for spec in specs]

        async def request(store: Any) -> None:
            stored, _ = await store.write(
                jobs.submit, admitted, user=user, now=self._world.wall(), max_pending=100_000
            )
            for one in stored:
                self._checker.submitted(None, one.ids)
                self._known += one.ids

        self.ask(request, insist=False)

    def cancel(self, job_id: int, grace_s: float | None) -> None:
        self._checker.cancelled.add(job_id)

        async def request(store: Any) -> None:
            job = await store.write(
                jobs.cancel, str(job_id), by="ada", grace_s=grace_s, reason=None, now=self._world.wall()
            )
            self._checker.cancel_answered(
                job_id, grace_s if grace_s is not None else (job.spec.grace_s or 0.0)
            )

        self.ask(request, insist=True)

    def _some(self) -> int | None:
        return self._dice.choice(self._known[-60:]) if self._known else None

    def _cancel_one(self) -> None:
        job_id = self._some()
        if job_id is not None:
            self.cancel(job_id, self._dice.choice([None, None, 0.0, 10.0]))

    def _storm(self) -> None:
        for job_id in sorted(set(self._dice.choices(self._known or [1], k=25))):
            self._world.after(self._dice.uniform(0, 0.05), self.cancel, job_id, 0.0)

    def _simple(self, verb: Any, job_id: int, **more: Any) -> None:
        async def request(store: Any) -> None:
            await store.write(verb, str(job_id), now=self._world.wall(), **more)

        self.ask(request, insist=False)

    def _hold_or_release(self) -> None:
        job_id = self._some()
        if job_id is not None:
            self._simple(jobs.hold, job_id, by="ada")
            self._world.after(self._dice.expovariate(1 / 3600), self._simple_release, job_id)

    def _simple_release(self, job_id: int) -> None:
        self._simple(jobs.release, job_id, by="ada")

    def _edit(self) -> None:
        job_id, dice = self._some(), self._dice
        changes: dict[str, Any] = {"priority": dice.randint(-10, 10)}
        if dice.random() < 0.3:
            changes = {"gpus": dice.choice([0, 1, 2, 4])}
        if job_id is not None:
            self._simple(jobs.edit, job_id, changes=changes, by="ada", if_version=None)

    def _retry(self) -> None:
        job_id = self._some()
        if job_id is None:
            return

        async def request(store: Any) -> None:
            stored, copied = await store.write(
                jobs.retry, str(job_id), user="ada", now=self._world.wall(), max_pending=100_000
            )
            if copied:
                self._checker.submitted(None, stored.ids)
                self._known += stored.ids

        self.ask(request, insist=False)

    def _purge(self) -> None:
        job_id = self._some()
        if job_id is not None:
            self._simple(jobs.purge, job_id, by="ada")

    def _drain_or_undrain(self) -> None:
        index = self._dice.randrange(self._sim.gpus)
        self._drain(index, "a fan is loud")
        self._world.after(self._dice.expovariate(1 / 7200), self._drain, index, None)

    def _drain(self, index: int, reason: str | None) -> None:
        uuid = self._sim.machine.uuids[index]
        if reason is None and any(
            uuid in one.gpus and one.killed for one in self._sim.machine.alive.values()
        ):
            return  # whoever undrains a GPU has looked whether something hangs on it

        async def request(store: Any) -> None:
            await store.write(gpu_rows.set_drained, index, reason, "ada", self._world.wall())

        self.ask(request, insist=reason is None)

    # -- the evening ---------------------------------------------------------------------------------

    def tidy(self) -> None:
        """After the last day: what only a person can set going again is set going, or cancelled."""

        async def request(store: Any) -> None:
            drained, held, never, later = await store.read(_stuck, self._world.wall())
            for index in drained:
                self._drain(index, None)
            for job_id in held:
                self._simple_release(job_id)
            for job_id in never:
                self.cancel(job_id, None)
            for job_id in later:
                self._simple(jobs.edit, job_id, changes={"begin_at": None}, by="ada", if_version=None)

        self.ask(request, insist=True)


def _stuck(db: sqlite3.Connection, wall: float) -> list[list[int]]:
    """GPUs that are drained; jobs that are held, that wait in vain, and that begin after more than a day."""
    drained = [row[0] for row in db.execute("SELECT idx FROM gpus WHERE drained = 1 ORDER BY 1")]
    found = [drained]
    for query, values in (
        ("held = 1", ()),
        ("held = 0 AND deps_failed > 0", ()),
        ("begin_at > ?", (wall + 86400,)),
    ):
        where = f"WHERE state = 'pending' AND {query}"
        ids = [row[0] for row in db.execute(f"SELECT id FROM jobs {where}", values)]
        for row in db.execute(f"SELECT id, last_id FROM folds {where}", values):
            ids += range(row["id"], row["last_id"] + 1)
        found.append(sorted(ids))
    return found
