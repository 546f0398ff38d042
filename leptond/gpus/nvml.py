"""NVIDIA GPUs, through the helper process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from leptond.gpus.base import Device, GpuBackendError, Sample
from leptond.gpus.helper import Answer, Helper, NoAnswer, Times

HELPER = (sys.executable, "-P", str(Path(__file__).with_name("nvml_helper.py")))
"""By its path, not as a module: whatever lies in the daemon's directory must not be imported, and the
package need not be (asyncio and msgspec would only slow its start). -P: nor are the neighbours that it has
imported by their bare names."""

NO_DRIVER = "no NVIDIA driver found: jobs run without GPUs"
NO_GPUS = "the NVIDIA driver shows no GPU: jobs run without GPUs"
SILENT = "the NVIDIA driver does not answer: no job is given a GPU until it does"


class NvmlBackend:
    """With `optional`, a machine without a driver has no GPUs instead of an error. `on_note` gets
    a sentence at each fault of the helper. `helper` is the command that answers in its place."""

    name = "nvml"

    def __init__(
        self,
        *,
        optional: bool,
        times: Times | None = None,
        helper: Sequence[str] = HELPER,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.note: str | None = None
        self._optional = optional
        self._on_note = on_note
        self._helper = Helper(helper, times or Times(), on_note)
        self._lister = Helper(helper, times or Times(), lambda note: None)
        self._devices: list[Device] = []
        self._usual_note: str | None = None

    async def open(self) -> list[Device]:
        """Return the devices. Raises GpuBackendError; not for a missing driver, if GPUs are optional."""
        await self._helper.stop()  # a running one shows what was present when it was started
        try:
            answer = await self._helper.ask("list")
        except NoAnswer as error:
            self.note = SILENT
            raise GpuBackendError(f"the NVIDIA driver does not answer: {error}") from error
        if answer.error is not None:
            await self._helper.stop()
            if answer.missing and self._optional:
                self.note = NO_DRIVER
                return []
            self.note = f"the NVIDIA GPUs cannot be used: {answer.error}"
            raise GpuBackendError(self.note)
        for sentence in answer.problems:
            self._on_note(sentence)
        self._devices = answer.devices
        self.note = self._usual_note = "; ".join(answer.problems) or (None if answer.devices else NO_GPUS)
        return list(self._devices)

    async def rescan(self) -> list[Device]:
        """Return the devices that are present now. Asks a helper of its own: the driver goes on showing a
        process what it showed at its start, and the helper that samples keeps the driver loaded meanwhile.
        Raises GpuBackendError."""
        try:
            answer = await self._lister.ask("list")
        except NoAnswer as error:
            raise GpuBackendError(f"the NVIDIA driver does not answer: {error}") from error
        finally:
            await self._lister.stop()
        if answer.error is None:
            return answer.devices
        if answer.missing and self._optional:
            return []
        raise GpuBackendError(f"the NVIDIA GPUs cannot be used: {answer.error}")

    async def sample(self) -> list[Sample]:
        """Return one sample a device; while the driver is silent, samples with that error."""
        if not self._devices:
            return []
        try:
            answer = await self._helper.ask("sample")
        except NoAnswer as error:
            self.note = SILENT
            silent_s = time.monotonic() - error.since
            return self._all(f"no answer from the driver for {silent_s:.0f} s: {error}")
        self.note = self._usual_note
        return self._all(answer.error) if answer.error is not None else self._matched(answer)

    async def close(self) -> None:
        """End the helpers; one that cannot be ended is left."""
        await self._lister.close()
        await self._helper.close()

    def _matched(self, answer: Answer) -> list[Sample]:
        samples = {sample.uuid: sample for sample in answer.samples}
        gone = "the device is not present any more"
        return [samples.get(device.uuid) or self._failed(device, gone) for device in self._devices]

    def _all(self, error: str) -> list[Sample]:
        return [self._failed(device, error) for device in self._devices]

    @staticmethod
    def _failed(device: Device, error: str) -> Sample:
        return Sample(uuid=device.uuid, sampled_at=time.time(), error=error)


def deadlines(driver_timeout_s: float) -> Times:
    """Return all deadlines by the one that is set: a first answer may take three times as long, since a
    driver without persistence mode wakes each GPU for it, which takes seconds a GPU."""
    return msgspec.structs.replace(Times(), answer_s=driver_timeout_s, start_s=3 * driver_timeout_s)
