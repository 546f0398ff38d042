"""Admission of jobs: specs are completed and checked against this machine before they are stored."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from leptond.base.errors import Forbidden, Invalid, OverBudget
from leptond.config import Settings
from leptond.core.access.caller import Caller
from leptond.core.admission.admission import Admitted, Defaults, admit, check_gpus, need_of
from leptond.core.admission.queues import Queue
from leptond.core.admission.training import script_of, sign_of_training
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.fair_share import Kind
from leptond.store import Connection
from leptond.store.accounting import budgets
from leptond.store.planning import snapshot
from leptond.store.queue import fair_share, gpus, queues

SCRIPT_BYTES = 65536
"""How much of a script is read for a warning."""


def head_of_file(path: Path, most: int) -> str:
    """The first `most` bytes of a regular file as text; nothing of anything else, or of one that this account
    may not read."""
    try:
        # a FIFO would make an open for reading wait for a writer
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, most).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


class Admission:
    """The limits and defaults that apply to a caller's specs, read once a request from the snapshot `db`."""

    def __init__(self, db: Connection, settings: Settings, caller: Caller) -> None:
        known = gpus.known(db, present_only=True)
        self._db = db
        self._settings = settings
        self._caller = caller
        self._gpus = [snapshot.device(gpu, {}) for gpu in known]
        self._usable = sum(1 for gpu in known if not gpu.drained)
        self._caps = fair_share.limits(db, settings.shares.limits())
        self._home = pwd.getpwuid(os.geteuid()).pw_dir
        self._defaults: dict[str, Defaults] = {}
        self._directories: dict[str, bool] = {}
        self._texts: dict[Path, str] = {}
        self.queues = {queue.name: queue for queue in queues.every(db)}

    def admit(self, spec: JobSpec) -> Admitted:
        """Complete and check one spec. Raises Invalid, Forbidden."""
        caller, settings = self._caller, self._settings
        if spec.urgent and not caller.admin and caller.user not in settings.queue.urgent_users:
            raise Forbidden(
                f"{caller.user} may not submit urgent jobs",
                hint="the setting queue.urgent_users names who may; --priority is free to all",
            )
        queue = queues.named(self.queues, spec.queue)
        admitted = admit(
            queue.admit(spec, user=caller.user, admin=caller.admin),
            gpus=len(self._gpus),
            home=self._home,
            defaults=self._defaults_of(queue),
        )
        if spec.gpus:
            need = need_of(spec, queue=queue.name, borrow=queue.borrow)
            check_gpus(need, self._gpus, sharing=settings.gpus.sharing)
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

    def _defaults_of(self, queue: Queue) -> Defaults:
        if queue.name not in self._defaults:
            self._defaults[queue.name] = queue.defaults(self._settings.jobs)
        return self._defaults[queue.name]

    def warnings(
        self, admitted: Sequence[Admitted], now: float, *, unsaid: Sequence[bool]
    ) -> list[list[str]]:
        """Warnings to the owner of each job; `unsaid`: whether it says nothing of GPUs. Called before they
        are stored, so that they do not count against themselves."""
        try:
            all_of_them = budgets.check(self._db, admitted, user=self._caller.user, now=now)
        except OverBudget:
            all_of_them = []  # the error is raised when the jobs are stored
        found: dict[tuple[int, bool], list[str]] = {}
        for one, left_out in zip(admitted, unsaid, strict=True):
            if (id(one), left_out) not in found:
                found[id(one), left_out] = [
                    *self._warnings(one.spec),
                    *self._forgotten(one.spec, unsaid=left_out),
                    *all_of_them,
                ]
        return [found[id(one), left_out] for one, left_out in zip(admitted, unsaid, strict=True)]

    def _forgotten(self, spec: JobSpec, *, unsaid: bool) -> list[str]:
        """A training that asks for no GPU on a machine that has some: the CPU would train without a word."""
        if not unsaid or spec.gpus or not self._gpus:
            return []
        script = script_of(spec.argv, shell=spec.shell)
        text = "" if script is None else self._text(Path(spec.cwd or "/") / script)
        sign = sign_of_training(spec.argv, text)
        if sign is None:
            return []
        return [
            f"it gets no GPU, although it looks like a training ({sign}): --gpus 1 asks for one, "
            "--gpus 0 says that it needs none"
        ]

    def _warnings(self, spec: JobSpec) -> list[str]:
        found = []
        if spec.cwd is not None and not self._is_directory(spec.cwd):
            found.append(f"the directory {spec.cwd} is not there now")
        if spec.gpus > self._usable:
            found.append(
                f"it needs {spec.gpus} GPUs, of which {self._usable} are in service: it waits for an undrain"
            )
        if not spec.gpus:
            return found
        owners: list[tuple[Kind, str | None]] = [("user", self._caller.user), ("project", spec.project)]
        for kind, name in owners:
            cap = self._caps.of(kind, name).max_gpus if name is not None else None
            if cap is not None and spec.gpus > cap and spec.gpu_memory_bytes is None:
                found.append(
                    f"it needs {spec.gpus} GPUs, {kind} {name} may hold {cap:g}: it waits for a higher cap"
                )
        return found

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = head_of_file(path, SCRIPT_BYTES)
        return self._texts[path]

    def _is_directory(self, path: str) -> bool:
        if path not in self._directories:
            self._directories[path] = Path(path).is_dir()
        return self._directories[path]
