"""Use of the devices by attempt, summed up from samples: time held and idle, first use, energy. Gathered here
and written a minute's worth at a time by :mod:`leptond.services.gpu_watch`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from leptond.core.accounting.report_types import IDLE_BELOW, IdleEnergy, SampledUse
from leptond.core.jobs.model import Attempt
from leptond.gpus.base import Device, Sample
from leptond.services.gpu_memory import GpuMemory
from leptond.services.gpu_violations import GpuViolations

LONGEST_STEP = 3.0
"""A sample counts for the time since the one before it, but for at most so many sampling intervals, because
nothing is known of the time in which the driver did not answer."""


class _Held(msgspec.Struct):
    begun: float
    uses: dict[str, SampledUse]


class GpuUsage:
    """Sums of samples by attempt and, for devices that are not leased, by hour. `sample_s`: the sampling
    interval."""

    def __init__(self, sample_s: float) -> None:
        self._sample_s = sample_s
        self.memory = GpuMemory()
        self.violations = GpuViolations()
        self._devices: dict[str, Device] = {}
        self._held: dict[str, _Held] = {}
        self._last: dict[str, Sample] = {}
        self._idle: dict[tuple[int, str], tuple[int, str]] = {}

    def set_devices(self, devices: Iterable[Device]) -> None:
        """Set the devices whose samples will be added."""
        self._devices = {device.uuid: device for device in devices}

    def begin(self, attempt: Attempt, now: float) -> None:
        """Begin to count for an attempt, from `now` (UTC seconds)."""
        self.memory.begin(attempt)
        self.violations.begin(attempt)
        if attempt.gpus:
            uses = {gpu.uuid: SampledUse(attempt_id=attempt.id, gpu=gpu.uuid) for gpu in attempt.gpus}
            self._held[attempt.id] = _Held(begun=now, uses=uses)

    def of(self, attempt_id: str) -> list[SampledUse]:
        """Unwritten use of an attempt, one value a device."""
        held = self._held.get(attempt_id)
        return [_copy(use) for use in held.uses.values()] if held is not None else []

    def end(self, attempt_id: str) -> None:
        """Forget an attempt that has ended and whose use is written."""
        self._held.pop(attempt_id, None)
        self.memory.end(attempt_id)
        self.violations.end(attempt_id)

    def held_gpus(self) -> set[str]:
        """UUIDs of the leased devices."""
        return {uuid for held in self._held.values() for uuid in held.uses}

    def observe(self, samples: Sequence[Sample]) -> None:
        """Add one sample of each device."""
        self.memory.observe(samples)
        self.violations.observe(samples, self._index_of)
        holders: dict[str, list[_Held]] = {}
        for held in self._held.values():
            for uuid in held.uses:
                holders.setdefault(uuid, []).append(held)
        for sample in samples:
            last = self._last.get(sample.uuid)
            if sample.error is not None:
                continue
            self._last[sample.uuid] = sample
            if last is None or sample.sampled_at <= last.sampled_at:
                continue
            step_s = min(sample.sampled_at - last.sampled_at, LONGEST_STEP * self._sample_s)
            energy = self._energy_mj(last, sample, step_s)
            mine = holders.get(sample.uuid, [])
            for held in mine:
                _add(held, sample, step_s, energy, len(mine), self._source(sample))
            if not mine and energy is not None:
                hour = int(sample.sampled_at // 3600)
                before, _ = self._idle.get((hour, sample.uuid), (0, ""))
                self._idle[hour, sample.uuid] = (before + round(energy), self._source(sample))

    def _index_of(self, uuid: str) -> int | None:
        device = self._devices.get(uuid)
        return device.index if device is not None else None

    def _energy_mj(self, last: Sample, sample: Sample, step_s: float) -> float | None:
        """Energy between two samples in millijoules, by the device's counter, else by its power. None for a
        MIG slice, whose readings are those of the whole GPU."""
        device = self._devices.get(sample.uuid)
        if device is not None and device.mig:
            return None
        if sample.energy_j is not None and last.energy_j is not None and sample.energy_j >= last.energy_j:
            return (sample.energy_j - last.energy_j) * 1000
        return sample.power_w * step_s * 1000 if sample.power_w is not None else None

    def _source(self, sample: Sample) -> str:
        device = self._devices.get(sample.uuid)
        if device is not None and device.simulated:
            return "simulated"
        return "counter" if sample.energy_j is not None else "power"

    def take_unwritten(self) -> tuple[list[SampledUse], list[IdleEnergy]]:
        """Take what has been summed up since the last call; :meth:`restore` puts it back."""
        uses = [use for held in self._held.values() for use in held.uses.values() if _has_news(use)]
        taken = [_copy(use) for use in uses]
        for use in uses:
            use.sampled_ms, use.idle_ms, use.energy_mj = 0, 0, None
            use.first_use_at = use.max_utilization = use.max_memory_bytes = None
        idle = [
            IdleEnergy(hour=hour, gpu=gpu, energy_mj=energy, energy_source=source)
            for (hour, gpu), (energy, source) in self._idle.items()
        ]
        self._idle.clear()
        return taken, idle

    def restore(self, uses: Sequence[SampledUse], idle: Sequence[IdleEnergy]) -> None:
        """Put back what could not be written."""
        for use in uses:
            held = self._held.get(use.attempt_id)
            if held is not None:
                _merge(held.uses[use.gpu], use)
        for one in idle:
            before, _ = self._idle.get((one.hour, one.gpu), (0, ""))
            self._idle[one.hour, one.gpu] = (before + one.energy_mj, one.energy_source)

    @property
    def any_held(self) -> bool:
        """True while an attempt holds devices."""
        return bool(self._held)


def _add(held: _Held, sample: Sample, step_s: float, energy: float | None, sharers: int, source: str) -> None:
    use = held.uses[sample.uuid]
    mine_s = min(step_s, max(0.0, sample.sampled_at - held.begun))
    if mine_s <= 0:
        return
    if energy is not None:
        use.energy_mj = (use.energy_mj or 0) + round(energy * mine_s / step_s / sharers)
        use.energy_source = source
    if sample.memory_used_bytes is not None:
        use.max_memory_bytes = max(use.max_memory_bytes or 0, sample.memory_used_bytes)
    if sample.utilization is None:
        return
    step_ms = round(mine_s * 1000 / sharers)
    use.sampled_ms += step_ms
    use.max_utilization = max(use.max_utilization or 0.0, sample.utilization)
    if sample.utilization < IDLE_BELOW:
        use.idle_ms += step_ms
    elif use.first_use_at is None:
        use.first_use_at = sample.sampled_at


def _has_news(use: SampledUse) -> bool:
    return use.sampled_ms > 0 or use.energy_mj is not None or use.max_memory_bytes is not None


def _copy(use: SampledUse) -> SampledUse:
    return msgspec.structs.replace(use)


def _merge(kept: SampledUse, more: SampledUse) -> None:
    kept.sampled_ms += more.sampled_ms
    kept.idle_ms += more.idle_ms
    if more.energy_mj is not None:
        kept.energy_mj = (kept.energy_mj or 0) + more.energy_mj
        kept.energy_source = more.energy_source
    firsts = [at for at in (kept.first_use_at, more.first_use_at) if at is not None]
    kept.first_use_at = min(firsts, default=None)
    for name in ("max_utilization", "max_memory_bytes"):
        values = [value for value in (getattr(kept, name), getattr(more, name)) if value is not None]
        setattr(kept, name, max(values, default=None))
