"""Keeps an eye on the devices: what is there, how each is doing, and which must not be given away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence

import structlog

from leptond.base.clock import Clock
from leptond.base.locks import LockBusy, MachineLocks
from leptond.core.accounting.prices import Rates, price_of
from leptond.gpus.base import Device, GpuBackend, GpuBackendError, Sample
from leptond.gpus.simulated import SimulatedBackend
from leptond.services.gpu_history import GpuHistory
from leptond.services.gpu_usage import GpuUsage
from leptond.store import Store
from leptond.store.accounting import ledger
from leptond.store.queue import gpus

log = structlog.get_logger("leptond.gpus")

TOLERATED_FAILURES = 5
"""Failed calls in a row after which a device is not given away (a call without any answer: at once)."""

LOOK_S = 300.0
"""How often it is looked whether devices have come that were not there before."""

WRITE_S = 60.0
"""How often what the samples amount to is written while devices are held; else once an hour."""


class GpuWatch:
    """The newest sample of every device."""

    def __init__(
        self,
        backend: GpuBackend,
        store: Store,
        clock: Clock,
        sample_s: float,
        rates: Rates | None = None,
        locks: MachineLocks | None = None,
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
        self._unhealthy_is_noted = False
        self._open = False
        self._devices: frozenset[str] = frozenset()
        self._looked = clock.boot()
        self._refused: frozenset[str] = frozenset()
        self._rates = rates if rates is not None else Rates()
        self._written = clock.boot()
        self.usage = GpuUsage(sample_s)
        if isinstance(backend, SimulatedBackend):
            backend.held = self.usage.held_gpus  # a simulated device is busy when somebody has it
        self.history = GpuHistory()

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._backend.name

    @property
    def note(self) -> str | None:
        """What is not as it should be with the backend as a whole."""
        return self._backend.note

    def samples(self) -> Mapping[str, Sample]:
        """The newest sample by UUID."""
        return self._samples

    def unhealthy(self) -> Mapping[str, str]:
        """Why a device must not be given away now, by UUID."""
        return self._unhealthy

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when a device becomes usable or stops being so."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Finds the devices and stores them. When they cannot be found now, those that were known before
        stay, out of service, and :meth:`run` tries again."""
        try:
            devices = await self._backend.open()
            self._lock(devices)
        except GpuBackendError as error:
            log.error("the GPUs cannot be used; jobs without GPUs still run", error=str(error))
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

        def take_in(db: sqlite3.Connection) -> None:
            gpus.sync(db, found, now)
            ledger.note_prices(db, now, priced)

        await self._store.write(take_in)
        self.usage.set_devices(devices)
        self._devices = frozenset(device.uuid for device in devices)
        self._open = True

    def _lock(self, devices: Sequence[Device]) -> None:
        """Makes sure that no other leptond of this machine gives the same devices away. Simulated ones are
        everybody's own. Raises GpuBackendError."""
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
        """Samples until cancelled."""
        while True:
            try:
                if not self._open or await self._new_devices():
                    await self.open()
                    self._changed()
                if self._open:
                    await self.sample()
                    await self._write_now_and_then()
            except GpuBackendError as error:
                log.warning("no samples", error=str(error))
            except sqlite3.OperationalError as error:
                log.warning("cannot record the state of the GPUs", error=str(error))
            await asyncio.sleep(self._sample_s)

    async def _new_devices(self) -> bool:
        """Now and then: whether devices have come that may be had. Those that have gone need no look, for
        their samples tell."""
        if self._clock.boot() - self._looked < LOOK_S:
            return False
        self._looked = self._clock.boot()
        new = [device for device in await self._backend.look() if device.uuid not in self._devices]
        if not new:
            return False
        try:
            self._lock(new)
        except GpuBackendError as error:
            uuids = frozenset(device.uuid for device in new)
            if uuids != self._refused:
                log.warning("a GPU has come that cannot be used", error=str(error))
            self._refused = uuids
            return False
        log.info("GPUs have come", uuids=[device.uuid for device in new])
        return True

    async def sample(self) -> None:
        """Takes one sample of every device."""
        sick = {}
        samples = await self._backend.sample()
        self.usage.observe(samples)
        for sample in samples:
            self._samples[sample.uuid] = sample
            self.history.observe(sample)
            if sample.error is None:
                self._failures.pop(sample.uuid, None)
                continue
            failures = self._failures[sample.uuid] = self._failures.get(sample.uuid, 0) + 1
            if failures >= TOLERATED_FAILURES or _silent(sample.error):
                sick[sample.uuid] = sample.error
        await self._set_unhealthy(sick)

    async def _set_unhealthy(self, sick: dict[str, str]) -> None:
        before, self._unhealthy = self._unhealthy, sick
        if sick.keys() != before.keys() or not self._unhealthy_is_noted:
            self._unhealthy_is_noted = False
            self._tell(before, sick)
            await self._store.write(ledger.note_service, self._clock.wall(), sick)
            self._unhealthy_is_noted = True

    def _tell(self, before: Mapping[str, str], sick: Mapping[str, str]) -> None:
        for uuid in sick.keys() - before.keys():
            log.warning("a GPU is out of service", uuid=uuid, reason=sick[uuid])
        for uuid in before.keys() - sick.keys():
            log.info("a GPU is back in service", uuid=uuid)
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    async def _write_now_and_then(self) -> None:
        since = self._clock.boot() - self._written
        if since >= (WRITE_S if self.usage.any_held else 3600.0):
            await self.write()

    async def write(self) -> None:
        """Stores what the samples amount to since the last time."""
        self._written = self._clock.boot()
        uses, idle = self.usage.take_unwritten()
        if not uses and not idle:
            return
        try:
            await self._store.write(ledger.add_use, uses, idle, wakes_scheduler=False)
        except sqlite3.Error:
            self.usage.restore(uses, idle)
            raise

    async def close(self) -> None:
        """Writes what is left and lets the backend go."""
        try:
            await self.write()
        except sqlite3.Error as error:
            log.warning("the last samples could not be recorded", error=str(error))
        await self._backend.close()


def _silent(error: str) -> bool:
    """No answer, a device that is gone, or one that needs a reset: not worth a second try."""
    return any(words in error.lower() for words in ("no answer", "lost", "reset", "missing", "not present"))
