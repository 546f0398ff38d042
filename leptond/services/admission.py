"""Admission of jobs: specs are completed and checked against this machine before they are stored."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from leptond.base import accounts
from leptond.base.errors import Forbidden, Invalid, OverBudget
from leptond.config import Settings
from leptond.core.access.caller import Caller
from leptond.core.admission.admission import Admitted, Defaults, admit, check_gpus, need_of
from leptond.core.admission.queues import Queue
from leptond.core.jobs.model import Gpu, JobSpec
from leptond.core.scheduling.fair_share import Kind, Limits
from leptond.services.submit_look import Seen
from leptond.store import Connection, Store
from leptond.store.accounting import budgets
from leptond.store.planning import snapshot
from leptond.store.queue import fair_share, gpus, queues


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The state that admission depends on. `usable`: GPUs in service; `home`: of the daemon's user;
    `defaults`: what jobs of each queue get that do not say; `has_budgets`: whether any is set."""

    gpus: Sequence[Gpu]
    usable: int
    caps: Limits
    queues: Mapping[str, Queue]
    defaults: Mapping[str, Defaults]
    has_budgets: bool
    home: str


def read_facts(db: Connection, settings: Settings) -> Facts:
    """Read the facts from one snapshot."""
    known = gpus.known(db, present_only=True)
    all_queues = queues.every(db)
    return Facts(
        gpus=[snapshot.device(gpu, {}) for gpu in known],
        usable=sum(1 for gpu in known if not gpu.drained),
        caps=fair_share.limits(db, settings.shares.limits()),
        queues={queue.name: queue for queue in all_queues},
        defaults={queue.name: queue.defaults(settings.jobs) for queue in all_queues},
        has_budgets=budgets.exist(db),
        home=pwd.getpwuid(os.geteuid()).pw_dir,
    )


class CurrentFacts:
    """The facts as of now, which are read again only after a change that may concern them: all changes do but
    submits of single jobs (:meth:`Store.write_merged`). Requests that wait for them share one read."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._read: tuple[int, asyncio.Task[Facts]] | None = None

    async def get(self) -> Facts:
        """Return them. Raises StoreError."""
        version = self._store.unmerged
        if self._read is None or self._read[0] != version or _failed(self._read[1]):
            task = asyncio.create_task(self._store.look(read_facts, self._settings), name="admission-facts")
            task.add_done_callback(_failed)  # whoever asked may have left
            self._read = (version, task)
        task = self._read[1]
        return task.result() if task.done() else await asyncio.shield(task)


def _failed(task: asyncio.Task[Facts]) -> bool:
    """Return True for a read that has ended without an answer."""
    return task.done() and (task.cancelled() or task.exception() is not None)


def _home_of(caller: Caller) -> str:
    """Return the home directory of a caller's account. Raises Forbidden."""
    hint = "submit from an account of this machine"
    if caller.uid is None:
        raise Forbidden(f"jobs run as their submitters here, and {caller.user} has no account", hint=hint)
    try:
        return accounts.recent(caller.uid, caller.user).home
    except accounts.NoAccount as error:
        raise Forbidden(f"jobs run as their submitters here: {error}", hint=hint) from None


MACHINE_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
"""The memory of this machine."""


class Admission:
    """The limits and defaults that apply to a caller's specs. Pure, but for the facts that it is given, and
    the home of a caller whose jobs run as itself. Raises Forbidden for one that has no account."""

    def __init__(self, facts: Facts, settings: Settings, caller: Caller) -> None:
        self._home = _home_of(caller) if settings.accounts.multi_user else facts.home
        self._facts = facts
        self._settings = settings
        self._caller = caller

    def admit(self, spec: JobSpec) -> Admitted:
        """Complete and check one spec. Raises Invalid, Forbidden."""
        caller, settings = self._caller, self._settings
        if spec.urgent and not caller.admin and caller.user not in settings.queue.urgent_users:
            raise Forbidden(
                f"{caller.user} may not submit urgent jobs",
                hint="the setting queue.urgent_users names who may; --priority is free to all",
            )
        facts = self._facts
        queue = queues.named(facts.queues, spec.queue)
        admitted = admit(
            queue.admit(spec, user=caller.user, admin=caller.admin),
            gpus=len(facts.gpus),
            home=self._home,
            defaults=facts.defaults[queue.name],
            machine_bytes=MACHINE_BYTES,
        )
        if spec.gpus:
            need = need_of(spec, queue=queue.name, borrow=queue.borrow)
            check_gpus(need, facts.gpus, sharing=settings.gpus.sharing)
        return admitted

    def admit_all(
        self, specs: Sequence[JobSpec], *, in_batch: bool, unsaid: Sequence[bool] | None = None
    ) -> list[Admitted]:
        """Admit all specs, each object once; `unsaid`: which of them say nothing of GPUs. Raises Invalid or
        Forbidden for the first that is not admitted; in a batch the pointer names it."""
        found: dict[tuple[int, bool], Admitted] = {}
        admitted = []
        for position, spec in enumerate(specs):
            key = (id(spec), unsaid is not None and unsaid[position])
            one = found.get(key)
            if one is None:
                try:
                    one = found[key] = self.admit(self.with_default_gpus(spec, unsaid=key[1]))
                except Invalid as refusal:
                    raise (refusal.within(f"/jobs/{position}") if in_batch else refusal) from None
            admitted.append(one)
        return admitted

    def with_default_gpus(self, spec: JobSpec, *, unsaid: bool) -> JobSpec:
        """The spec with the GPUs that this machine gives where a job does not say how many (`unsaid`)."""
        if not unsaid or not self._settings.jobs.gpus:
            return spec
        return replace(spec, gpus=self._settings.jobs.gpus)

    def may_forget(self, admitted: Sequence[Admitted], *, unsaid: Sequence[bool]) -> list[bool]:
        """Return which jobs may be trainings that forgot their GPU: they say nothing of GPUs, and get none on
        a machine that has some."""
        has_some = bool(self._facts.gpus)
        return [
            has_some and left_out and not one.spec.gpus
            for one, left_out in zip(admitted, unsaid, strict=True)
        ]

    def warnings(
        self, admitted: Sequence[Admitted], seen: Sequence[Seen], budget_words: Sequence[str] = ()
    ) -> list[list[str]]:
        """Return the warnings to the owner of each job, with what was seen of its files."""
        found: dict[tuple[int, int], list[str]] = {}
        for one, its in zip(admitted, seen, strict=True):
            if (id(one), id(its)) not in found:
                found[id(one), id(its)] = [*self._warnings(one.spec, its), *budget_words, *its.warnings]
        return [found[id(one), id(its)] for one, its in zip(admitted, seen, strict=True)]

    def _warnings(self, spec: JobSpec, seen: Seen) -> list[str]:
        facts, found = self._facts, []
        if seen.no_directory:
            found.append(f"the directory {spec.cwd} is not there now")
        if spec.gpus > facts.usable:
            found.append(
                f"it needs {spec.gpus} GPUs, of which {facts.usable} are in service: it waits for an undrain"
            )
        if seen.training is not None:
            # the CPU would train without a word
            found.append(
                f"it gets no GPU, although it looks like a training ({seen.training}): --gpus 1 asks for"
                " one, --gpus 0 says that it needs none"
            )
        if not spec.gpus:
            return found
        owners: list[tuple[Kind, str | None]] = [("user", self._caller.user), ("project", spec.project)]
        for kind, name in owners:
            cap = facts.caps.of(kind, name).max_gpus if name is not None else None
            if cap is not None and spec.gpus > cap and spec.gpu_memory_bytes is None:
                found.append(
                    f"it needs {spec.gpus} GPUs, {kind} {name} may hold {cap:g}: it waits for a higher cap"
                )
        return found


def budget_warnings(db: Connection, admitted: Sequence[Admitted], *, user: str, now: float) -> list[str]:
    """Return what budgets say of jobs. Called before they are stored, so that they do not count against
    themselves."""
    try:
        return budgets.check(db, admitted, user=user, now=now)
    except OverBudget:
        return []  # the error is raised when the jobs are stored
