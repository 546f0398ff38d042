"""Whose memory the samples of the devices show: what an attempt had of its GPUs at most, and what others had
there that was not theirs. It is what an out-of-memory death is judged by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from leptond.core.jobs.model import Attempt, LeasedGpu
from leptond.engines.procs import attempt_of
from leptond.gpus.base import Process, Sample

RECENT_S = 120.0
"""How long what was seen of others counts as evidence."""

FOREIGN_BYTES = 256 * 1024**2
"""Less than this of a process that is nobody's is the cost of looking at a GPU (a monitor, a desktop)."""


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about memory at an attempt's end: whether it had more than its share, what others had
    beyond theirs (`others`), each as a sentence."""

    own_overran: bool = False
    others: Sequence[str] = ()
    notes: Sequence[str] = ()


class _Held:
    def __init__(self, attempt: Attempt) -> None:
        self.job = attempt.job_id
        self.gpus = {gpu.uuid: gpu for gpu in attempt.gpus}
        self.peak: dict[str, int] = {}
        self.others: dict[str, float] = {}


class GpuMemory:
    """Follows the attempts that hold GPUs. `whose` names the attempt of a process: empty for one that is
    nobody's, None where it cannot be told."""

    def __init__(self, whose: Callable[[int], str | None] = attempt_of) -> None:
        self._whose = whose
        self._held: dict[str, _Held] = {}

    def begin(self, attempt: Attempt) -> None:
        """From now on `attempt` holds its GPUs."""
        if attempt.gpus:
            self._held[attempt.id] = _Held(attempt)

    def end(self, attempt_id: str) -> None:
        """It has ended and is judged."""
        self._held.pop(attempt_id, None)

    def observe(self, samples: Iterable[Sample]) -> None:
        """Adds one look at the devices."""
        holders: dict[str, list[str]] = {}
        for attempt_id, held in self._held.items():
            for uuid in held.gpus:
                holders.setdefault(uuid, []).append(attempt_id)
        for sample in samples:
            if sample.error is None and sample.uuid in holders:
                self._look(sample, holders[sample.uuid])

    def _look(self, sample: Sample, holders: Sequence[str]) -> None:
        used = dict.fromkeys(holders, 0)
        strangers: list[str] = []
        for process in sample.processes:
            if process.memory_bytes is None:
                continue
            attempt_id = self._whose(process.pid)
            if attempt_id in used:
                used[attempt_id] += process.memory_bytes
            elif attempt_id is not None and process.memory_bytes >= FOREIGN_BYTES:
                strangers.append(self._stranger(process, attempt_id))
        for attempt_id in holders:
            held = self._held[attempt_id]
            gpu = held.gpus[sample.uuid]
            held.peak[gpu.uuid] = max(held.peak.get(gpu.uuid, 0), used[attempt_id])
            over = [self._overrun(other, used[other], gpu) for other in holders if other != attempt_id]
            for words in (*over, *strangers):
                if words:
                    held.others[f"{words} on GPU {gpu.index}"] = sample.sampled_at

    def _overrun(self, attempt_id: str, used: int, gpu: LeasedGpu) -> str:
        held = self._held[attempt_id]
        share = held.gpus[gpu.uuid].memory_bytes
        if share is None or used <= share:
            return ""
        return f"job {held.job} had {_mib(used)} of a share of {_mib(share)}"

    def _stranger(self, process: Process, attempt_id: str) -> str:
        size = _mib(process.memory_bytes or 0)
        if attempt_id in self._held:
            return f"job {self._held[attempt_id].job}, which was not given it, had {size}"
        return f"process {process.pid} ({process.name or 'unknown'}), which is no job's, had {size}"

    def of(self, attempt_id: str, now: float | None = None) -> MemoryFacts:
        """What is known of an attempt's memory and of that beside it."""
        held = self._held.get(attempt_id)
        if held is None:
            return MemoryFacts()
        now = time.time() if now is None else now
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
