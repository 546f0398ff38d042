"""NVIDIA GPUs, through a helper process with a deadline for every question.

A driver call that blocks cannot be interrupted, and its process may not even be killable. So the helper is
asked, and when it does not answer in time it is killed, left to its fate, and replaced later; meanwhile
its devices are not given away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from leptond.gpus.base import Device, GpuBackendError, Sample

HELPER = (sys.executable, "-m", "leptond.gpus.nvml_helper")
MAX_STUCK = 3
"""Helpers that could not be killed. With that many, no further one is tried."""
RESTART_S, RESTART_MAX_S = 2.0, 60.0
LINE_LIMIT = 4 * 1024 * 1024


class _Silent(GpuBackendError):
    """The helper did not answer in time, or is gone."""


class NvmlBackend:
    """`timeout_s` bounds every question. With `optional`, a machine without a driver has no GPUs instead
    of an error. `on_note` is told of trouble with the helper."""

    name = "nvml"

    def __init__(
        self,
        *,
        timeout_s: float,
        optional: bool,
        helper: Sequence[str] = HELPER,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.note: str | None = None
        self._timeout_s = timeout_s
        self._optional = optional
        self._command = helper
        self._on_note = on_note
        self._helper: asyncio.subprocess.Process | None = None
        self._stuck: list[asyncio.subprocess.Process] = []
        self._devices: list[Device] = []
        self._restart_s = RESTART_S
        self._restart_at = 0.0
        self._silent_since: float | None = None

    async def open(self) -> list[Device]:
        """The devices. Raises GpuBackendError; not for a missing driver, if GPUs are optional."""
        answer = await self._ask("list")
        if "error" in answer:
            if answer.get("missing") and self._optional:
                self.note = "no NVIDIA driver was found: only jobs without GPUs can run"
                await self.close()
                return []
            raise GpuBackendError(answer["error"])
        self._devices = [msgspec.convert(device, Device) for device in answer["devices"]]
        return list(self._devices)

    async def sample(self) -> list[Sample]:
        """One sample a device; while the driver is silent, samples that say so, at once after the
        deadline."""
        if not self._devices:
            return []
        try:
            answer = await self._ask("sample")
            if "error" in answer:
                return self._all(answer["error"])
        except _Silent:
            since = self._silent_since or time.monotonic()
            return self._all(f"no answer from the driver for {time.monotonic() - since:.0f} s")
        samples = [msgspec.convert(sample, Sample) for sample in answer["samples"]]
        seen = {sample.uuid for sample in samples}
        gone = [device for device in self._devices if device.uuid not in seen]
        return samples + [self._failed(device, "the device is not present any more") for device in gone]

    async def close(self) -> None:
        """Ends the helper; one that cannot be ended is left."""
        if self._helper is not None:
            helper, self._helper = self._helper, None
            await self._end(helper)

    def _all(self, error: str) -> list[Sample]:
        return [self._failed(device, error) for device in self._devices]

    @staticmethod
    def _failed(device: Device, error: str) -> Sample:
        return Sample(uuid=device.uuid, sampled_at=time.time(), error=error)

    async def _ask(self, call: str) -> dict[str, Any]:
        """The helper's answer. Raises _Silent."""
        try:
            async with asyncio.timeout(self._timeout_s):
                helper = await self._ready()
                assert helper.stdin is not None
                assert helper.stdout is not None
                helper.stdin.write(json.dumps({"call": call}).encode() + b"\n")
                await helper.stdin.drain()
                line = await helper.stdout.readline()
                if not line:
                    raise ConnectionError("the helper has ended")
        except (TimeoutError, OSError, ValueError) as error:
            await self._give_up(error)
            raise _Silent("the NVIDIA driver does not answer") from error
        self._silent_since = None
        self._restart_s = RESTART_S
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _ready(self) -> asyncio.subprocess.Process:
        """The helper, started anew where that is due. Raises OSError."""
        if self._helper is None:
            self._stuck = [helper for helper in self._stuck if helper.returncode is None]
            if len(self._stuck) >= MAX_STUCK:
                raise OSError(f"{MAX_STUCK} helpers hang in the driver and cannot be killed")
            if time.monotonic() < self._restart_at:
                raise OSError("waiting before the next try")
            self._helper = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=LINE_LIMIT,
                start_new_session=True,
            )
        return self._helper

    async def _give_up(self, error: Exception) -> None:
        if self._silent_since is None:
            self._silent_since = time.monotonic() - (
                self._timeout_s if isinstance(error, TimeoutError) else 0
            )
        if self._helper is None:
            return
        helper, self._helper = self._helper, None
        self._restart_at = time.monotonic() + self._restart_s
        self._restart_s = min(RESTART_MAX_S, self._restart_s * 2)
        self._on_note(f"the helper that asks the NVIDIA driver was given up: {error or 'no answer'}")
        if not await self._end(helper):
            self._stuck.append(helper)

    async def _end(self, helper: asyncio.subprocess.Process) -> bool:
        """Kills a helper; whether it ended within a second."""
        assert helper.stdin is not None
        helper.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            helper.kill()
        try:
            async with asyncio.timeout(1.0):
                await helper.wait()
        except TimeoutError:
            return False
        return True
