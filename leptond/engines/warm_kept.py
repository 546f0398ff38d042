"""One warm process of the pool, and the environment that it is kept for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, MutableSet
from enum import StrEnum
from pathlib import Path
from typing import Any

from leptond.core import warm_learning
from leptond.engines.import_record import Layout
from leptond.engines.zygote_handle import PAGE, ZygoteHandle

MOST_MISFITS = 1000
"""Commands of an environment that are remembered as not fitting what was learned."""


class Variant(StrEnum):
    """The warm processes of an environment."""

    FULL = "full"
    """With all that is known to be of use."""
    BARE = "bare"
    """With the first imports alone: for jobs that would have had other imports."""


class Kept:
    """A warm zygote with `variant` of the imports, or why there is none. `key` names it among those of the
    pool."""

    def __init__(self, key: str, variant: Variant) -> None:
        self.key = key
        self.variant = variant
        self.zygote: ZygoteHandle | None = None
        self.refused = ""
        self.used_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.started_at = self.used_at
        self.ready_after_s = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.more_reads: Mapping[str, Any] = {"names": {}, "prefixes": {}}
        self.live: frozenset[str] = frozenset()
        self.layout: Layout | None = None

    @property
    def was_ready(self) -> bool:
        """True if it could be forked once."""
        return self.layout is not None

    @property
    def ready(self) -> bool:
        """True if jobs can start from it."""
        return self.zygote is not None and self.zygote.facts is not None and not self.zygote.over

    def take(self, report: Mapping[str, Any]) -> None:
        """Take in what the process has reported when it was ready."""
        self.more_reads = report["more_reads"]
        self.live = frozenset(report["live"])
        self.layout = Layout(*report["layout"])
        self.ready_after_s = time.clock_gettime(time.CLOCK_BOOTTIME) - self.started_at

    @property
    def size_bytes(self) -> int:
        """Its resident memory; 0 where there is no process."""
        return resident_bytes(self.zygote.pid) if self.zygote is not None else 0


class Environment:
    """An interpreter with the variables `env` that jobs come with; `key` is what such jobs have in common.
    `next` is the process that takes the place of the full one once it is ready."""

    def __init__(self, key: str, python: str, env: Mapping[str, str]) -> None:
        self.key = key
        self.python = python
        self.env = env
        self.kept: dict[Variant, Kept] = {}
        self.next: Kept | None = None
        self.misfits: dict[tuple[str, str], str] = {}
        """Commands (directory, target) that need a bare process, with the reason."""
        self.renew_timer: asyncio.TimerHandle | None = None
        self.renewed_at = 0.0
        self.looks: MutableSet[int] = set()
        """The pids of jobs whose imports are being looked at."""
        self.quiet_looks = 0
        """Jobs in a row that have imported nothing new."""
        self.unseen = ""
        """Why imports of its jobs cannot be seen; empty: they can."""

    def variant_for(self, env: Mapping[str, str], command: tuple[str, str]) -> Variant:
        """Return which of the processes fits a job."""
        full = self.kept.get(Variant.FULL)
        if command in self.misfits:
            return Variant.BARE
        if full is not None and full.ready and warm_learning.reads_differ(full.more_reads, env):
            return Variant.BARE
        return Variant.FULL

    def note_misfit(self, command: tuple[str, str], why: str) -> None:
        """Remember that a command does not fit what was learned."""
        while len(self.misfits) >= MOST_MISFITS:
            del self.misfits[next(iter(self.misfits))]
        self.misfits[command] = why

    def all(self) -> list[Kept]:
        """Return its processes, also the one that is not ready to take its place."""
        return [*self.kept.values(), *([self.next] if self.next is not None else [])]


def shown(environment: Environment, learned: warm_learning.Learned) -> warm_learning.WarmEnvironment:
    """Return what people are told of an environment."""
    kept = environment.all()
    full = environment.kept.get(Variant.FULL)
    ready = full is not None and full.ready
    refused = learned.blocked or (full.refused if full is not None else "")
    packages = {
        name: one
        for name, one in learned.packages.items()
        if not (one.why or "").startswith(warm_learning.ABSENT)
    }
    return warm_learning.WarmEnvironment(
        python=environment.python,
        state="warm" if ready else "cold" if full is None or full.refused else "preparing",
        why=refused or None,
        pids=[one.zygote.pid for one in kept if one.zygote is not None],
        bytes=sum(one.size_bytes for one in kept),
        prepared_in_s=round(full.ready_after_s, 1) if full is not None and ready else None,
        imports=len(full.live) if full is not None else 0,
        learned=[name for name, one in packages.items() if one.why == ""],
        untried=[name for name, one in packages.items() if one.why is None],
        left_out={name: one.why for name, one in packages.items() if one.why},
        misfits={" ".join(command).strip(): why for command, why in environment.misfits.items()},
        unseen=environment.unseen or None,
    )


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0
