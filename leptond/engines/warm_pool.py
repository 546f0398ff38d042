"""Warm processes, which have the imports of jobs behind them: one for each interpreter and environment that
jobs come with, made after the first such job, ended when it is not used."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from leptond.config import EngineSettings
from leptond.core import warm_start
from leptond.engines.shim_handle import Parent
from leptond.engines.zygote_handle import ZYGOTE, ZygoteHandle

log = structlog.get_logger("leptond.engine")

READY_S = 120.0
"""The limit of the imports."""
REFUSED_S = 600.0
"""The time until an environment that could not be kept warm is tried again."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class _Kept:
    """A warm zygote, or why there is none."""

    def __init__(self) -> None:
        self.zygote: ZygoteHandle | None = None
        self.refused = ""
        self.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.timer: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> bool:
        return self.zygote is not None and self.zygote.facts is not None and not self.zygote.over


class WarmPool:
    """The warm zygotes of this daemon. `prefix`: the beginning of their command line, which runs them as
    another account (:mod:`leptond.engines.as_account`)."""

    def __init__(
        self,
        settings: EngineSettings,
        on_ready: Callable[[ZygoteHandle], None] = lambda _: None,
        *,
        prefix: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._prefix = prefix
        self._on_ready = on_ready
        self._kept: dict[str, _Kept] = {}
        self._found: dict[str, dict[str, Any]] = {}
        """By interpreter, what the last warm process has found out of its installation."""
        self._ageing: asyncio.TimerHandle | None = None
        self._closed = False

    def choose(
        self, argv: Sequence[str], env: Mapping[str, str], *, cold: bool
    ) -> tuple[ZygoteHandle | None, dict[str, Any] | None, str]:
        """Return the zygote that a command may start from, what the zygote needs to know of it, and how it
        starts as far as is known now (``warm``, ``cold: WHY``)."""
        if not self._settings.warm:
            return None, None, warm_start.cold_reason(warm_start.OFF)
        if cold:
            return None, None, warm_start.cold_reason(warm_start.ASKED)
        command = warm_start.parse_command(argv, env)
        if isinstance(command, str):
            return None, None, warm_start.cold_reason(command)
        python = shutil.which(command.python, path=env.get("PATH", ""))
        if python is None:
            return None, None, warm_start.cold_reason("its interpreter is not found")
        key = warm_start.environment_key(python, env)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _Kept()
            asyncio.get_running_loop().call_soon(self._make, key, python, warm_start.base_environment(env))
        if kept.refused:
            return None, None, warm_start.cold_reason(kept.refused)
        kept.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        if not kept.ready:
            return None, None, warm_start.cold_reason(warm_start.NOT_YET)
        return kept.zygote, msgspec.to_builtins(command), warm_start.cold_reason(warm_start.NO_ANSWER)

    def note(self, zygote: Parent | None, start: str) -> None:
        """Take in how a job that was forked from this zygote started. Where packages have changed, the zygote
        is of no more use."""
        if start.startswith(warm_start.cold_reason(warm_start.CHANGED)):
            for key in [key for key, kept in self._kept.items() if kept.zygote is zygote]:
                self._end(key, start)

    def _make(self, key: str, python: str, env: Mapping[str, str]) -> None:
        kept = self._kept.get(key)
        if kept is None or self._closed:
            return
        command = [*self._prefix, python, str(ZYGOTE)]
        order = json.dumps(self._settings.warm_imports)
        plan = json.dumps(self._found.get(python, {})).encode()

        def lost(zygote: ZygoteHandle, why: str) -> None:
            if self._kept.get(key) is kept and kept.zygote is zygote:
                self._refuse(key, kept, f"its warm process has ended ({why})")

        try:
            kept.zygote = ZygoteHandle(
                command, env, lost, order=order, plan=plan, ready=lambda: self._ready(key, kept)
            )
        except OSError as error:
            self._refuse(key, kept, f"no warm process could be made: {error}")
            return
        loop = asyncio.get_running_loop()
        kept.timer = loop.call_later(READY_S, self._overdue, kept.zygote)

    @staticmethod
    def _overdue(zygote: ZygoteHandle) -> None:
        zygote.give_up(f"its imports took longer than {READY_S:.0f} s")

    def _ready(self, key: str, kept: _Kept) -> None:
        assert kept.zygote is not None
        assert kept.zygote.facts is not None
        if kept.timer is not None:
            kept.timer.cancel()
        kept.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        refused = kept.zygote.facts.get("refused")
        if refused:
            zygote, kept.zygote = kept.zygote, None
            self._refuse(key, kept, refused)
            zygote.give_up(refused)
        else:
            python = key.partition("\0")[0]
            report = kept.zygote.report()
            self._found[python] = {"fingerprint": report["fingerprint"], "later": report["later"]}
            log.info("warm_process.ready", python=python, pid=kept.zygote.pid)
            self._on_ready(kept.zygote)
            self._age()

    def _refuse(self, key: str, kept: _Kept, why: str) -> None:
        kept.zygote, kept.refused = None, why
        if kept.timer is not None:
            kept.timer.cancel()
        log.info("warm_process.refused", python=key.partition("\0")[0], why=why)
        if not self._closed:
            loop = asyncio.get_running_loop()
            kept.timer = loop.call_later(REFUSED_S, self._kept.pop, key, None)

    def processes(self) -> list[warm_start.WarmProcess]:
        """Return the processes that there are now."""
        return [
            warm_start.WarmProcess(key=key, used_at=kept.used_at, size_bytes=resident_bytes(kept.zygote.pid))
            for key, kept in self._kept.items()
            if kept.zygote is not None
        ]

    @property
    def is_making(self) -> bool:
        """True if it has been asked for a process that is not made yet, or knows why there is none."""
        return any(kept.zygote is None for kept in self._kept.values())

    def _age(self) -> None:
        """End what is surplus, and come again when the next one may be."""
        if self._ageing is not None:
            self._ageing.cancel()
            self._ageing = None
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for key in warm_start.processes_to_stop(
            self.processes(),
            now=now,
            idle_s=self._settings.warm_idle_s,
            most=self._settings.warm_max,
            most_bytes=self._settings.warm_max_bytes,
        ):
            self._end(key, "not used any more, or no room for it")
        left = [kept.used_at for kept in self._kept.values() if kept.ready]
        if left:
            delay = max(1.0, min(left) + self._settings.warm_idle_s - now)
            self._ageing = asyncio.get_running_loop().call_later(delay, self._age)

    def _end(self, key: str, why: str) -> None:
        kept = self._kept.pop(key)
        if kept.timer is not None:
            kept.timer.cancel()
        if kept.zygote is not None:
            log.info("warm_process.ended", pid=kept.zygote.pid, why=why)
            kept.zygote.give_up(why)

    def close(self) -> None:
        """End them all; the processes forked from them go on."""
        self._closed = True
        if self._ageing is not None:
            self._ageing.cancel()
        for key in list(self._kept):
            self._end(key, "closing")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0
