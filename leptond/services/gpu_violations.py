"""Jobs that use a GPU which they were not given: found in the driver's own list of the processes that have a
context there. CUDA_VISIBLE_DEVICES assigns devices and locks none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from leptond.core.jobs.model import Attempt
from leptond.core.jobs.sources import Note
from leptond.engines.procs import attempt_of
from leptond.gpus.base import Process, Sample


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt has a process on a device that it does not hold; `holders` are the jobs that do."""

    job_id: int
    number: int
    uuid: str
    index: int | None
    process: Process
    holders: tuple[int, ...] = ()

    @property
    def note(self) -> Note:
        """The note for the attempt's owner."""
        which = f"GPU {self.index}" if self.index is not None else self.uuid
        name = f"process {self.process.pid} ({self.process.name or 'unknown'})"
        size = self.process.memory_bytes
        had = f", with {size / 1024**2:.0f} MiB" if size is not None else ""
        others = ", ".join(f"job {job}" for job in self.holders)
        whose = f"which {others} had" if others else "which no job had"
        text = (
            f"{name} used {which}{had}: the job was not given that GPU, {whose}."
            " Leave CUDA_VISIBLE_DEVICES as leptond sets it"
        )
        return Note(kind="gpu-not-given", text=text)


class GpuViolations:
    """Follows attempts, those without GPUs too, and compares what they were given with what they use.
    `owner_of` returns the attempt id of a process: empty for one of no attempt, None where it cannot be
    determined."""

    def __init__(self, owner_of: Callable[[int], str | None] = attempt_of) -> None:
        self._owner_of = owner_of
        self._live: dict[str, Attempt] = {}
        self._named: set[tuple[str, str]] = set()
        self._fresh: list[Violation] = []

    def begin(self, attempt: Attempt) -> None:
        """Begin to follow an attempt."""
        self._live[attempt.id] = attempt

    def end(self, attempt_id: str) -> None:
        """Forget an attempt that has ended."""
        if self._live.pop(attempt_id, None) is not None:
            self._named = {(attempt, uuid) for attempt, uuid in self._named if attempt != attempt_id}

    def observe(self, samples: Iterable[Sample], index_of: Callable[[str], int | None]) -> None:
        """Compare one sample of each device with what the attempts hold. Each device is named once an
        attempt."""
        for sample in samples:
            if sample.error is not None:
                continue
            for process in sample.processes:
                attempt = self._live.get(self._owner_of(process.pid) or "")
                if attempt is not None and not _holds(attempt, sample.uuid):
                    self._name(attempt, sample.uuid, process, index_of(sample.uuid))

    def _name(self, attempt: Attempt, uuid: str, process: Process, index: int | None) -> None:
        if (attempt.id, uuid) in self._named:
            return
        self._named.add((attempt.id, uuid))
        holders = tuple(sorted(one.job_id for one in self._live.values() if _holds(one, uuid)))
        self._fresh.append(
            Violation(
                job_id=attempt.job_id,
                number=attempt.number,
                uuid=uuid,
                index=index,
                process=process,
                holders=holders,
            )
        )

    def take(self) -> list[Violation]:
        """Take what has been found since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh


def _holds(attempt: Attempt, uuid: str) -> bool:
    return any(gpu.uuid == uuid for gpu in attempt.gpus)
