"""The devices of the machine: which are present, how each is doing, and which must not be leased."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from leptond.base.clock import Clock, ClockJumps
from leptond.base.locks import LockBusy, MachineLocks
from leptond.core.accounting.prices import Rates, price_of
from leptond.gpus.base import Device, GpuBackend, GpuBackendError, Sample
from leptond.services.gpu_history import GpuHistory
from leptond.services.gpu_usage import GpuUsage
from leptond.services.gpu_violations import Violation
from leptond.services.loop import Loop
from leptond.store import Connection, Store, StoreError
from leptond.store.accounting import ledger
from leptond.store.queue import gpus, notes

log = structlog.get_logger("leptond.gpus")

TOLERATED_FAILURES = 5
"""Failed calls in a row after which a device is not leased (a call without any answer: at once)."""

FAULTS_S = 5.0
"""The time for which the driver is asked about the devices of a job that failed."""

DISCOVERY_S = 300.0
"""Seconds between two searches for devices that were not there before."""

WRITE_S = 60.0
"""Seconds between two writes of the usage while devices are held."""

IDLE_WRITE_S = 3600.0
"""Seconds between two writes of the usage while no device is held."""


class GpuWatch:
    """Samples every device each `sample_s` seconds and keeps the newest sample, the usage and the history."""

    def __init__(
        self,
        backend: GpuBackend,
        store: Store,
        clock: Clock,
        sample_s: float,
        rates: Rates | None = None,
        locks: MachineLocks | None = None,
        usage: GpuUsage | None = None,
    ) -> None:
        self._backend = backend
        self._store = store
        self._clock = clock
        self._sample_s = sample_s
        self._locks = locks
        self._listeners: list[Callable[[], None]] = []
        self._samples: dict[str, Sample] = {}
        self._failures: dict[str, int] = {}
        self._unhealthy: dict[str, str] = {}
        self._unhealthy_is_stored = False
        self._open = False
        self._devices: frozenset[str] = frozenset()
        self._searched = clock.boot()
        self._refused: frozenset[str] = frozenset()
        self._rates = rates if rates is not None else Rates()
        self._written = clock.boot()
        self.usage = usage if usage is not None else GpuUsage(sample_s)
        self.history = GpuHistory()
        self._jumps = ClockJumps(clock)
        self._loop = Loop("gpu-watch", self._step, retry_s=sample_s)

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self._backend.name

    @property
    def note(self) -> str | None:
        """Fault of the backend as a whole, as a sentence; None: it works."""
        return self._backend.note

    def samples(self) -> Mapping[str, Sample]:
        """Newest sample by UUID."""
        return self._samples

    def unhealthy(self) -> Mapping[str, str]:
        """Reason why a device must not be leased now, by UUID."""
        return self._unhealthy

    async def faults(self, uuids: Collection[str]) -> list[str]:
        """Return what the driver says now against some devices, as sentences. What it does not say within
        FAULTS_S counts as nothing."""
        if not uuids:
            return []
        try:
            async with asyncio.timeout(FAULTS_S):
                samples = await self._backend.sample()
        except (GpuBackendError, TimeoutError):
            samples = [self._samples[uuid] for uuid in uuids if uuid in self._samples]
        return [f"{one.uuid}: {one.error}" for one in samples if one.uuid in uuids and one.error is not None]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a device becomes usable or stops being so, and when the wall clock was
        set."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Find the devices and store them. If they cannot be found, those known before stay, out of service,
        and :meth:`run` tries again."""
        try:
            devices = await self._backend.open()
            self._lock(devices)
        except GpuBackendError as error:
            log.error("gpus.open_failed", error=str(error))
            known = await self._store.read(gpus.known, present_only=True)
            await self._set_unhealthy({gpu.uuid: str(error) for gpu in known})
            return
        found = [
            gpus.Found(
                uuid=device.uuid,
                index=device.index,
                name=device.name,
                memory_bytes=device.memory_bytes,
                simulated=device.simulated,
                numa_node=device.numa_node,
                cpus=device.cpus,
                links=device.links,
                mig=device.mig,
                board=device.pci_bus_id if device.mig else None,
            )
            for device in devices
        ]
        priced = {gpu.uuid: (gpu.name, price_of(gpu.name, self._rates)) for gpu in found}
        now = self._clock.wall()

        def take_in(db: Connection) -> None:
            gpus.sync(db, found, now)
            ledger.note_prices(db, now, priced)

        await self._store.write(take_in)
        self.usage.set_devices(devices)
        self._devices = frozenset(device.uuid for device in devices)
        self._open = True

    def _lock(self, devices: Sequence[Device]) -> None:
        """Lock the devices against other leptonds of this machine. Simulated ones need no lock. Raises
        GpuBackendError."""
        for device in devices:
            if device.simulated or self._locks is None:
                continue
            try:
                self._locks.take(f"gpu-{device.uuid}")
            except LockBusy as busy:
                raise GpuBackendError(
                    f"GPU {device.index} is already given away by another leptond ({busy})"
                ) from None

    async def run(self) -> None:
        """Run until cancelled."""
        await self._loop.run()

    async def _step(self) -> float:
        if self._jumps.any():
            self._changed()  # begin times may have come, or be further away
        try:
            if not self._open or await self._new_devices():
                await self.open()
                self._changed()
            if self._open:
                await self.sample()
                await self._write_if_due()
        except GpuBackendError as error:
            log.warning("gpus.sample_failed", error=str(error))
        return self._sample_s

    async def _new_devices(self) -> bool:
        """Search for new devices if a search is due; return True if some can be had. Devices that have gone
        need no search, because their samples fail."""
        if self._clock.boot() - self._searched < DISCOVERY_S:
            return False
        self._searched = self._clock.boot()
        new = [device for device in await self._backend.rescan() if device.uuid not in self._devices]
        if not new:
            return False
        try:
            self._lock(new)
        except GpuBackendError as error:
            uuids = frozenset(device.uuid for device in new)
            if uuids != self._refused:
                log.warning("gpus.refused", error=str(error))
            self._refused = uuids
            return False
        log.info("gpus.found", uuids=[device.uuid for device in new])
        return True

    async def sample(self) -> None:
        """Take one sample of every device."""
        unhealthy = {}
        samples = await self._backend.sample()
        self.usage.observe(samples)
        for violation in self.usage.violations.take():
            await self._report(violation)
        for sample in samples:
            self._samples[sample.uuid] = sample
            self.history.observe(sample)
            if sample.error is None:
                self._failures.pop(sample.uuid, None)
                continue
            failures = self._failures[sample.uuid] = self._failures.get(sample.uuid, 0) + 1
            if failures >= TOLERATED_FAILURES or _silent(sample.error):
                unhealthy[sample.uuid] = sample.error
        await self._set_unhealthy(unhealthy)

    async def _report(self, violation: Violation) -> None:
        """Note on an attempt, and log, that it uses a device that is not its."""
        job, number, note = violation.job_id, violation.number, violation.note
        log.warning("gpus.not_given", job=job, attempt=number, uuid=violation.uuid, note=note.text)
        now = self._clock.wall()
        try:
            await self._store.write(
                lambda db: notes.add(db, job, number, [note], now=now), wakes_scheduler=False
            )
        except StoreError as error:
            log.warning("gpus.note_lost", job=job, attempt=number, error=str(error))

    async def _set_unhealthy(self, unhealthy: dict[str, str]) -> None:
        before, self._unhealthy = self._unhealthy, unhealthy
        if unhealthy.keys() == before.keys() and self._unhealthy_is_stored:
            return
        self._unhealthy_is_stored = False
        for uuid in unhealthy.keys() - before.keys():
            log.warning("gpus.failed", uuid=uuid, reason=unhealthy[uuid])
        for uuid in before.keys() - unhealthy.keys():
            log.info("gpus.recovered", uuid=uuid)
        self._changed()
        await self._store.write(ledger.note_service, self._clock.wall(), unhealthy)
        self._unhealthy_is_stored = True

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    async def _write_if_due(self) -> None:
        since = self._clock.boot() - self._written
        if since >= (WRITE_S if self.usage.any_held else IDLE_WRITE_S):
            await self.write()

    async def write(self) -> None:
        """Store the usage since the last write."""
        self._written = self._clock.boot()
        uses, idle = self.usage.take_unwritten()
        if not uses and not idle:
            return
        try:
            await self._store.write(ledger.add_use, uses, idle, wakes_scheduler=False)
        except StoreError:
            self.usage.restore(uses, idle)
            raise

    async def close(self) -> None:
        """Write the usage that is left and close the backend."""
        try:
            await self.write()
        except StoreError as error:
            log.warning("gpus.usage_lost", error=str(error))
        await self._backend.close()


def _silent(error: str) -> bool:
    """Return True for no answer, a device that is gone, or one that needs a reset: a retry cannot help."""
    return any(words in error.lower() for words in ("no answer", "lost", "reset", "missing", "not present"))
