"""Memory on leased GPUs, by attempt: the peak of each, and what other processes used there beyond their
share. This is the evidence by which an out-of-memory failure is classified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from leptond.core.jobs.model import Attempt, LeasedGpu
from leptond.core.outcome.evidence import MemoryFacts
from leptond.engines.procs import attempt_of
from leptond.gpus.base import Process, Sample

RECENT_S = 120.0
"""Seconds for which the use by others counts as evidence."""

FOREIGN_BYTES = 256 * 1024**2
"""Less than this, held by a process of no job, is ignored: a monitor or a desktop needs as much."""


class _Held:
    def __init__(self, attempt: Attempt) -> None:
        self.job = attempt.job_id
        self.gpus = {gpu.uuid: gpu for gpu in attempt.gpus}
        self.peak: dict[str, int] = {}
        self.others: dict[str, float] = {}


class GpuMemory:
    """Follows the memory of attempts that hold GPUs. `owner_of` returns the attempt id of a process: empty
    for one of no attempt, None where it cannot be determined."""

    def __init__(self, owner_of: Callable[[int], str | None] = attempt_of) -> None:
        self._owner_of = owner_of
        self._held: dict[str, _Held] = {}

    def begin(self, attempt: Attempt) -> None:
        """Begin to follow an attempt, if it holds GPUs."""
        if attempt.gpus:
            self._held[attempt.id] = _Held(attempt)

    def end(self, attempt_id: str) -> None:
        """Forget an attempt that has ended."""
        self._held.pop(attempt_id, None)

    def observe(self, samples: Iterable[Sample]) -> None:
        """Add one sample of each device."""
        holders: dict[str, list[str]] = {}
        for attempt_id, held in self._held.items():
            for uuid in held.gpus:
                holders.setdefault(uuid, []).append(attempt_id)
        for sample in samples:
            if sample.error is None and sample.uuid in holders:
                self._observe(sample, holders[sample.uuid])

    def _observe(self, sample: Sample, holders: Sequence[str]) -> None:
        used = dict.fromkeys(holders, 0)
        foreign: list[str] = []
        for process in sample.processes:
            if process.memory_bytes is None:
                continue
            attempt_id = self._owner_of(process.pid)
            if attempt_id in used:
                used[attempt_id] += process.memory_bytes
            elif attempt_id is not None and process.memory_bytes >= FOREIGN_BYTES:
                foreign.append(self._foreign_use(process, attempt_id))
        for attempt_id in holders:
            held = self._held[attempt_id]
            gpu = held.gpus[sample.uuid]
            held.peak[gpu.uuid] = max(held.peak.get(gpu.uuid, 0), used[attempt_id])
            over = [self._overrun(other, used[other], gpu) for other in holders if other != attempt_id]
            for words in (*over, *foreign):
                if words:
                    held.others[f"{words} on GPU {gpu.index}"] = sample.sampled_at

    def _overrun(self, attempt_id: str, used: int, gpu: LeasedGpu) -> str:
        held = self._held[attempt_id]
        share = held.gpus[gpu.uuid].memory_bytes
        if share is None or used <= share:
            return ""
        return f"job {held.job} had {_mib(used)} of a share of {_mib(share)}"

    def _foreign_use(self, process: Process, attempt_id: str) -> str:
        size = _mib(process.memory_bytes or 0)
        if attempt_id in self._held:
            return f"job {self._held[attempt_id].job}, which was not given it, had {size}"
        return f"process {process.pid} ({process.name or 'unknown'}), which is no job's, had {size}"

    def of(self, attempt_id: str, now: float) -> MemoryFacts:
        """Evidence about an attempt's memory at `now` (UTC seconds); empty for one that is not followed."""
        held = self._held.get(attempt_id)
        if held is None:
            return MemoryFacts()
        own = [
            f"it had {_mib(held.peak[gpu.uuid])} of its share of {_mib(gpu.memory_bytes)} on GPU {gpu.index}"
            for gpu in held.gpus.values()
            if gpu.memory_bytes is not None and held.peak.get(gpu.uuid)
        ]
        others = [words for words, at in held.others.items() if now - at <= RECENT_S]
        return MemoryFacts(
            own_overran=any(
                gpu.memory_bytes is not None and held.peak.get(gpu.uuid, 0) > gpu.memory_bytes
                for gpu in held.gpus.values()
            ),
            others=others,
            notes=[*own, *others],
        )


def _mib(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"
