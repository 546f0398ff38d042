"""Warm processes, which have the imports of jobs behind them: one for each interpreter and environment that
jobs come with, made after the first such job, ended when it is not used, and replaced when jobs were seen to
import more."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from leptond.config import EngineSettings
from leptond.core import python_command, warm_learning, warm_start
from leptond.engines.programs import Programs
from leptond.engines.shim_handle import Parent
from leptond.engines.spawning import DIRECT, Spawner
from leptond.engines.warm_choice import Choice
from leptond.engines.warm_kept import Environment, Kept, Variant, shown
from leptond.engines.warm_learner import Learner
from leptond.engines.warm_records import WarmRecords
from leptond.engines.zygote_handle import ZYGOTE, ZygoteHandle

log = structlog.get_logger("leptond.engine")

READY_S = 600.0
"""The limit of the imports, those of the first time in throw-away processes included."""
REFUSED_S = 600.0
"""The time until an environment that could not be kept warm is tried again."""


Chosen = tuple[ZygoteHandle | None, dict[str, Any] | None, Choice]


def starts_cold(why: str) -> Chosen:
    """Return the choice of a command that starts cold whatever happens."""
    return None, None, Choice(warm_start.cold_reason(why))


class WarmPool:
    """The warm zygotes of this daemon. `records` is the directory of what is known of the interpreters;
    without one, nothing is learned of jobs. `on_ready` is called with a zygote that can be forked from now.
    `prefix`: the beginning of their command line, which runs them as another account
    (:mod:`leptond.engines.as_account`); scripts of such are not looked into, and their ranks start cold."""

    def __init__(
        self,
        settings: EngineSettings,
        records: Path | None,
        on_ready: Callable[[ZygoteHandle], None] = lambda _: None,
        *,
        prefix: Sequence[str] = (),
        spawner: Spawner = DIRECT,
    ) -> None:
        self._settings = settings
        self._spawner = spawner
        self._prefix = prefix
        self._learns = settings.warm_learn and records is not None
        self._records = WarmRecords(records)
        self._on_ready = on_ready
        self._programs = None if prefix else Programs()
        self._environments: dict[str, Environment] = {}
        self._learner = Learner(settings, self._records, self._renew)
        self._ageing: asyncio.TimerHandle | None = None
        self._closed = False

    # -- for a job ------------------------------------------------------------------------------------

    def choose(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, *, cold: bool) -> Chosen:
        """Return the zygote that a command may start from, what the zygote needs to know of it, and how it
        starts as far as is known now."""
        if not self._settings.warm:
            return starts_cold(warm_start.OFF)
        if cold:
            return starts_cold(warm_start.ASKED)
        found = self._find(argv, env, cwd)
        if isinstance(found, str):
            return starts_cold(found)
        command, python = found
        ranks = self._programs is not None
        if ranks:
            env = python_command.with_threads_of_ranks(command, env)
        key = warm_start.environment_key(python, env)
        environment = self._environments.get(key)
        if environment is None:
            environment = Environment(key, python, warm_start.base_environment(env))
            self._environments[key] = environment
        named = (cwd, command.target if command.how != "code" else "")
        kept = self._kept(environment, environment.variant_for(env, named))
        if kept.refused:
            return starts_cold(kept.refused)
        kept.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        if not kept.ready:
            reason = warm_start.cold_reason(warm_start.NOT_YET)
            return None, None, Choice(reason, key, named, better_later=True)
        choice = Choice(warm_start.cold_reason(warm_start.NO_ANSWER), key, named)
        return kept.zygote, command.described(ranks=ranks), choice

    def _find(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> tuple[python_command.Command, str] | str:
        """Return the call of Python and its interpreter; the reason if it must start cold."""
        if self._programs is not None:
            return self._programs.python_of(argv, env, cwd)
        command = python_command.parse(argv, env)
        if isinstance(command, str):
            return command
        python = shutil.which(command.python, path=env.get("PATH", ""))
        return (command, python) if python is not None else "its interpreter is not found"

    def improves(self, choice: Choice | None, zygote: Parent | None) -> bool:
        """Return True if a command that was prepared by this choice, and forked from this zygote, would start
        in a better way now."""
        environment = self._environments.get(choice.environment) if choice is not None else None
        if choice is None or environment is None:
            return False
        if choice.better_later:
            return any(kept.ready for kept in environment.kept.values())
        return zygote is not None and zygote.over

    def _kept(self, environment: Environment, variant: Variant) -> Kept:
        kept = environment.kept.get(variant)
        if kept is None:
            kept = environment.kept[variant] = Kept(f"{environment.key}\0{variant}", variant)
            asyncio.get_running_loop().call_soon(self._make, environment, kept)
        return kept

    def started(self, choice: Choice | None, zygote: Parent | None, start: str, pid: int) -> None:
        """Take in how a command started that was forked from this zygote. Where packages have changed, the
        zygote is of no more use."""
        environment = self._environments.get(choice.environment) if choice is not None else None
        if choice is None or environment is None:
            return
        kept = next((one for one in environment.kept.values() if one.zygote is zygote), None)
        if start.startswith(warm_start.cold_reason(warm_start.CHANGED)):
            if kept is not None:
                self._end(environment, kept, start)
        elif start.startswith(warm_start.cold_reason(warm_start.LEARNED)):
            environment.note_misfit(choice.command, start)
        elif start == warm_start.WARM and kept is not None and kept.variant is Variant.FULL and self._learns:
            self._learner.look_at(environment, kept, choice.command, pid)

    def note(self, zygote: Parent, start: str) -> None:
        """Take in how a job of another account started that was forked from this zygote."""
        if start.startswith(warm_start.cold_reason(warm_start.CHANGED)):
            for environment, kept in self._running():
                if kept.zygote is zygote:
                    self._end(environment, kept, start)

    # -- making them ----------------------------------------------------------------------------------

    def _make(self, environment: Environment, kept: Kept) -> None:
        if self._closed or kept not in environment.all():
            return
        order = json.dumps(self._settings.warm_imports)
        learned = self._records.get(environment.python)
        plan = warm_learning.plan(
            learned,
            bare=kept.variant is Variant.BARE,
            learn=self._learns,
            max_s=self._settings.warm_learn_s,
            max_bytes=self._settings.warm_learn_bytes,
        )

        def lost(zygote: ZygoteHandle, why: str) -> None:
            if kept.zygote is zygote:
                self._refuse(environment, kept, f"its warm process has ended ({why})")

        try:
            kept.zygote = ZygoteHandle(
                [*self._prefix, environment.python, str(ZYGOTE)],
                environment.env,
                lost,
                order=order,
                plan=json.dumps(plan).encode(),
                ready=lambda: self._ready(environment, kept),
                spawner=self._spawner,
            )
        except OSError as error:
            self._refuse(environment, kept, f"no warm process could be made: {error}")
            return
        loop = asyncio.get_running_loop()
        kept.timer = loop.call_later(READY_S, self._overdue, kept.zygote)

    @staticmethod
    def _overdue(zygote: ZygoteHandle) -> None:
        zygote.give_up(f"its imports took longer than {READY_S:.0f} s")

    def _ready(self, environment: Environment, kept: Kept) -> None:
        assert kept.zygote is not None
        assert kept.zygote.facts is not None
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        kept.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        refused = kept.zygote.facts.get("refused")
        if refused:
            zygote, kept.zygote = kept.zygote, None
            self._refuse(environment, kept, refused)
            zygote.give_up(refused)
            return
        try:
            report = kept.zygote.report()
            learned = warm_learning.with_report(self._records.get(environment.python), report)
            kept.take(report)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # it runs code of jobs
            kept.zygote.give_up(f"its report cannot be read: {error!r}"[:300])
            return
        if kept.variant is Variant.FULL:
            self._records.put(environment.python, learned)
        log.info("warm_process.ready", python=environment.python, variant=kept.variant, pid=kept.zygote.pid)
        if environment.next is kept:
            former = environment.kept.pop(Variant.FULL, None)
            environment.next, environment.kept[Variant.FULL] = None, kept
            environment.misfits.clear()
            if former is not None:
                self._let_go(former, "another one has more imports")
        self._on_ready(kept.zygote)
        self._age()

    def _refuse(self, environment: Environment, kept: Kept, why: str) -> None:
        kept.zygote = None
        if kept.timer is not None:
            kept.timer.cancel()
        log.info("warm_process.refused", python=environment.python, variant=kept.variant, why=why)
        if self._closed:
            return
        learned = self._records.get(environment.python)
        if kept.variant is Variant.FULL and not kept.was_ready and not learned.blocked and learned.packages:
            # it may be one of the imports beyond the first: the job's environment works without them
            self._records.put(environment.python, msgspec.structs.replace(learned, blocked=why))
            if environment.next is kept:
                environment.next = None
            else:
                self._make(environment, kept)
            return
        if environment.next is kept:
            environment.next = None
            return
        kept.refused = why
        loop = asyncio.get_running_loop()
        kept.timer = loop.call_later(REFUSED_S, self._forget, environment, kept)

    def _forget(self, environment: Environment, kept: Kept) -> None:
        if environment.kept.get(kept.variant) is kept:
            del environment.kept[kept.variant]
        self._forget_environment(environment)

    def _forget_environment(self, environment: Environment) -> None:
        if not environment.all() and self._environments.get(environment.key) is environment:
            del self._environments[environment.key]

    def _renew(self, environment: Environment) -> None:
        """Make a process with all that is known by now; it takes the place of the present one."""
        if self._closed or environment.next is not None or Variant.FULL not in environment.kept:
            return
        kept = environment.next = Kept(f"{environment.key}\0next", Variant.FULL)
        self._make(environment, kept)

    # -- ending them ----------------------------------------------------------------------------------

    def processes(self) -> list[warm_start.WarmProcess]:
        """Return the processes that there are now."""
        return [
            warm_start.WarmProcess(key=kept.key, used_at=kept.used_at, size_bytes=kept.size_bytes)
            for _, kept in self._running()
        ]

    def _running(self) -> list[tuple[Environment, Kept]]:
        return [
            (environment, kept)
            for environment in self._environments.values()
            for kept in environment.all()
            if kept.zygote is not None
        ]

    @property
    def is_making(self) -> bool:
        """True if it has been asked for a process that is not made yet, or knows why there is none."""
        return any(kept.zygote is None for one in self._environments.values() for kept in one.all())

    def _age(self) -> None:
        """End what is surplus, and come again when the next one may be."""
        if self._ageing is not None:
            self._ageing.cancel()
            self._ageing = None
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        here = {kept.key: (environment, kept) for environment, kept in self._running()}
        for key in warm_start.processes_to_stop(
            self.processes(),
            now=now,
            idle_s=self._settings.warm_idle_s,
            most=self._settings.warm_max,
            most_bytes=self._settings.warm_max_bytes,
        ):
            self._end(*here[key], "not used any more, or no room for it")
        left = [kept.used_at for _, kept in here.values() if kept.ready]
        if left:
            delay = max(1.0, min(left) + self._settings.warm_idle_s - now)
            self._ageing = asyncio.get_running_loop().call_later(delay, self._age)

    def _end(self, environment: Environment, kept: Kept, why: str) -> None:
        if environment.next is kept:
            environment.next = None
        elif environment.kept.get(kept.variant) is kept:
            del environment.kept[kept.variant]
        self._let_go(kept, why)
        self._forget_environment(environment)

    @staticmethod
    def _let_go(kept: Kept, why: str) -> None:
        if kept.timer is not None:
            kept.timer.cancel()
        zygote, kept.zygote = kept.zygote, None
        if zygote is not None:
            log.info("warm_process.ended", pid=zygote.pid, why=why)
            zygote.give_up(why)

    def environments(self) -> list[warm_learning.WarmEnvironment]:
        """Return what is to be told of the environments of jobs."""
        return [shown(one, self._records.get(one.python)) for one in self._environments.values()]

    def close(self) -> None:
        """End them all; the processes forked from them go on."""
        self._closed = True
        self._learner.close()
        if self._ageing is not None:
            self._ageing.cancel()
        for environment in list(self._environments.values()):
            for kept in environment.all():
                self._end(environment, kept, "closing")
