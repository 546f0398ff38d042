"""Successions: starts without the daemon. In a succession running attempts and prepared ones are connected.
When a running one has ended well, its shim writes the name of its slot (its GPUs, or a CPU slot) into a
channel that all share; of those that wait, the one that has the turn reads it, passes the turn on to the
next, and starts its command. Nobody else takes part in that: the daemon learns it from the gates (TOOK), and
until a shim has answered a WITHDRAW it may start at any moment.

Who waits in which succession is decided in :mod:`leptond.scheduling.successions`; the shim's side is in
:mod:`leptond.engines.shim.succession`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog

from leptond.attempt_files.records import AttemptFiles
from leptond.base import failpoints
from leptond.base.clock import kernel_boot_id
from leptond.core.jobs.model import Identity, LeasedGpu
from leptond.engines import procs, protocol
from leptond.engines.base import Given, Taken
from leptond.engines.launch import assignment
from leptond.engines.shim_handle import OVERDUE_S, ShimHandle, ShimState

log = structlog.get_logger("leptond.engine")

WITHDRAW_S = 2.0
"""Longest time that a shim takes to answer a WITHDRAW before it is killed."""

PLACE_POLL_S = 0.02
"""The interval of checks of a directory that a shim may be about to move."""


class _Waiting:
    """An attempt that waits: the end of its turn's pipe that the daemon has, and the limit of its answer."""

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self.limit: asyncio.TimerHandle | None = None

    def give_turn(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._turn, b"1")

    def turn(self) -> int:
        """The descriptor by which the turn is given."""
        return self._turn

    def close(self) -> None:
        if self.limit is not None:
            self.limit.cancel()
        os.close(self._turn)


class Successions:
    """The successions of an engine, by name. `shims`, by attempt id, is shared with the rest of it."""

    def __init__(
        self, *, files: AttemptFiles, shims: MutableMapping[str, ShimHandle], cpu_affinity: bool
    ) -> None:
        self._files = files
        self._shims = shims
        self._cpu_affinity = cpu_affinity
        self._channels: dict[str, tuple[socket.socket, socket.socket]] = {}
        self._waiting: dict[str, _Waiting] = {}

    # -- offers ------------------------------------------------------------------------------------

    def succeed(
        self,
        name: str,
        attempt_id: str,
        slots: Sequence[Sequence[LeasedGpu]],
        *,
        behind: str | None,
        until_boot: float | None,
    ) -> bool:
        """Let a prepared attempt wait for one of these slots. False if its shim is gone."""
        shim = self._shims.get(attempt_id)
        if shim is None or shim.gate is None or attempt_id in self._waiting:
            return False
        order = {
            "name": name,
            "until": until_boot,
            "slots": {slot_name(gpus): self._assignment(shim, gpus) for gpus in slots},
        }
        readers, writers = self._channel(name)
        turn_read, turn_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            failpoints.fp("before_succeed")
            fds = [readers.fileno(), writers.fileno(), turn_read]
            if not shim.gate.send_descriptors(protocol.SUCCEED, json.dumps(order), fds):
                os.close(turn_write)
                return False
        finally:
            os.close(turn_read)
        failpoints.fp("after_succeed")
        waiting = self._waiting[attempt_id] = _Waiting(turn_write)
        before = self._shims.get(behind) if behind is not None else None
        if behind in self._waiting and before is not None and before.gate is not None:
            before.gate.send_descriptors(protocol.BEFORE, "", [waiting.turn()])
        else:
            waiting.give_turn()
        return True

    def hand_on(self, name: str, attempt_id: str, *, until_boot: float | None) -> bool:
        """Let a running attempt give its slot to a succession if it ends well. False where it cannot."""
        shim = self._shims.get(attempt_id)
        if shim is None or shim.gate is None:
            return False
        _, writers = self._channel(name)
        failpoints.fp("before_hand_on")
        return shim.gate.send_descriptors(
            protocol.HAND_ON, json.dumps({"name": name, "until": until_boot}), [writers.fileno()]
        )

    def give_turn(self, attempt_id: str) -> None:
        """Let an attempt that waits take the next slot."""
        waiting = self._waiting.get(attempt_id)
        if waiting is not None:
            waiting.give_turn()

    def _channel(self, name: str) -> tuple[socket.socket, socket.socket]:
        if name not in self._channels:
            readers, writers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._channels[name] = (readers, writers)
        return self._channels[name]

    def _assignment(self, shim: ShimHandle, gpus: Sequence[LeasedGpu]) -> dict[str, Any]:
        given = Given(gpus=gpus, claimed_at=0.0, claimed_boot=0.0)
        return assignment(given, cpu_affinity=self._cpu_affinity, by_index=shim.gpus_by_index)

    # -- what becomes of them ----------------------------------------------------------------------

    def withdraw(self, attempt_id: str) -> None:
        """Take an attempt out of its succession. A shim that does not answer is killed."""
        waiting, shim = self._waiting.get(attempt_id), self._shims.get(attempt_id)
        if waiting is None or shim is None or waiting.limit is not None:
            return
        failpoints.fp("before_withdraw")
        if shim.gate is not None:
            shim.gate.send(protocol.WITHDRAW)
        failpoints.fp("after_withdraw")
        loop = asyncio.get_running_loop()
        waiting.limit = loop.call_later(WITHDRAW_S, shim.kill_overdue)

    async def outcome(self, attempt_id: str, job_id: int, number: int) -> Taken | None:
        """Wait until a shim has started or has left its succession. One that has died tells by its
        directory."""
        shim = self._shims[attempt_id]
        try:
            word = text = ""
            if shim.gate is not None:
                word, text = await shim.gate.receive()
            failpoints.fp("after_outcome")
            if word == protocol.WITHDRAWN:
                return None
            if word == protocol.TOOK:
                shim.move(ShimState.RUNNING)
                told = json.loads(text)
                return Taken(
                    after=told["after"],
                    gpus=told["slot"].split(",") if told["slot"] else [],
                    claimed_at=told["claimed_at"],
                    claimed_boot=told["claimed_boot"],
                )
            # nothing else is said there: it is dead, or out of its mind
            procs.send(shim.pidfd, signal.SIGKILL)
            await procs.ended(shim.pidfd)
            taken = self._on_disk(job_id, number, attempt_id)
            if taken is not None:
                shim.move(ShimState.RUNNING)
            return taken
        finally:
            waiting = self._waiting.pop(attempt_id, None)
            if waiting is not None:
                waiting.close()

    def _on_disk(self, job_id: int, number: int, attempt_id: str) -> Taken | None:
        claim = self._files.claim_of(job_id, number, attempt_id)
        if claim is None:
            return None
        try:
            return Taken(
                after=claim.get("after"),
                gpus=[gpu["uuid"] for gpu in claim["gpus"]],
                claimed_at=float(claim["claimed_at"]),
                claimed_boot=float(claim["claimed_boot"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    async def taken(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> Taken | None:
        """Return how a shim of an earlier daemon has started; None if it has not. One that has moves its
        directory, any other ends, for its gate is shut; one that does neither is killed."""
        loop = asyncio.get_running_loop()
        until = loop.time() + OVERDUE_S
        while (taken := self._on_disk(job_id, number, attempt_id)) is None:
            pidfd = procs.pin(shim)
            if pidfd is None:
                taken = self._on_disk(job_id, number, attempt_id)
                if taken is None and shim.boot_id != kernel_boot_id():
                    self._files.remove_place(job_id, number)
                return taken
            try:
                if loop.time() >= until:
                    log.warning("process.ended", job=job_id, attempt=number, pid=shim.pid)
                    procs.send(pidfd, signal.SIGKILL)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PLACE_POLL_S):
                        await procs.ended(pidfd)
            finally:
                os.close(pidfd)
        return taken

    def end(self, name: str) -> None:
        """Forget a succession. Slots in its channel that nobody has read are gone with it."""
        for channel in self._channels.pop(name, ()):
            channel.close()

    def close(self) -> None:
        """Let go of everything: those that wait never start, for their gates are shut."""
        for name in list(self._channels):
            self.end(name)
        for waiting in self._waiting.values():
            waiting.close()
        self._waiting.clear()


def slot_name(gpus: Sequence[LeasedGpu]) -> str:
    """Return the name of a slot, as its shim makes it of its claim."""
    return ",".join(gpu.uuid for gpu in gpus)
