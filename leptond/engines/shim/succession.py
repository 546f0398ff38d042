"""The shim's place in a succession: it waits for its turn, takes the slot of an attempt that has ended well,
and hands its own slot on at its end. The daemon has no part in this, and can take the shim out of it
(:mod:`leptond.engines.successions`)."""

from __future__ import annotations

import json
import os
import select
import socket
import time

from leptond.base import failpoints
from leptond.engines import protocol
from leptond.engines.shim import gate
from leptond.engines.shim.clock import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Succession:
    """One attempt's part in a succession; nothing as long as the daemon has not said SUCCEED or HAND_ON."""

    def __init__(self) -> None:
        self._assignments: dict[str, dict[str, Any]] | None = None
        self._slots: int | None = None
        self._turn: int | None = None
        self._has_turn = False
        self._next: int | None = None
        self._hand_on: int | None = None
        self._name = ""
        self._until: float | None = None

    # -- before the start --------------------------------------------------------------------------

    def wait(self) -> dict[str, Any] | None:
        """Wait at the gate for GO, or in the succession for a slot. Return the assignment; None: the command
        never starts."""
        while True:
            # the daemon goes first: what it takes back has not started
            message = gate.receive_now() if self._is_waiting else gate.receive()
            if message is not None:
                word, text, descriptors = message
                if word == protocol.GO:
                    self.leave()
                    assignment: dict[str, Any] | None = json.loads(text) if text else None
                    return assignment
                if not self._obey(word, text, descriptors):
                    return None
                continue
            taken = self._look()
            if taken is not None:
                return taken

    @property
    def _is_waiting(self) -> bool:
        return self._slots is not None

    def _obey(self, word: str, text: str, descriptors: list[int]) -> bool:
        """Do what the daemon says; False if it says nothing that is known here."""
        if word == protocol.SUCCEED:
            self.leave()
            order = json.loads(text)
            self._slots, self._hand_on, self._turn = descriptors
            self._assignments = order["slots"]
            self._name, self._until = order["name"], order["until"]
        elif word == protocol.BEFORE:
            if descriptors:
                self._close("_next")
                (self._next,) = descriptors
        elif word == protocol.WITHDRAW:
            self.leave()
            failpoints.fp("shim_before_withdrawn")
            gate.send(protocol.WITHDRAWN)
            failpoints.fp("shim_after_withdrawn")
        elif word == protocol.HAND_ON:
            gate.close_all(descriptors)
        else:
            return False
        return True

    def _look(self) -> dict[str, Any] | None:
        """Sleep until something happens. Return the assignment of a slot that was taken."""
        poll = select.poll()
        poll.register(protocol.GATE_FD, select.POLLIN)
        where = self._slots if self._has_turn else self._turn
        assert where is not None
        poll.register(where, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        if protocol.GATE_FD in ready or where not in ready:
            return None
        if not self._has_turn:
            self._has_turn = bool(os.read(where, 1))
            if not self._has_turn:
                self.leave()  # the one before it is gone: the daemon finds that out
            return None
        return self._take(where)

    def _take(self, slots: int) -> dict[str, Any] | None:
        with socket.socket(fileno=os.dup(slots)) as channel:
            try:
                token = channel.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        if not token:
            self.leave()
            return None
        failpoints.fp("shim_after_slot")
        after, slot = protocol.read_slot_token(token)
        assignments = self._assignments or {}
        if slot not in assignments:
            self.leave()
            return None
        if self._next is not None:
            try:
                os.write(self._next, b"1")
            except OSError:
                pass  # nobody waits any more
        assignment = assignments[slot]
        times = {"claimed_at": time.time(), "claimed_boot": boot_now(), "after": after}
        assignment["claim"].update(times)
        gate.hold_back(protocol.TOOK, json.dumps({**times, "slot": slot}))
        for name in ("_slots", "_turn", "_next"):
            self._close(name)
        failpoints.fp("shim_after_turn")
        return assignment

    def leave(self) -> None:
        """Let go of everything."""
        for name in ("_slots", "_turn", "_next", "_hand_on"):
            self._close(name)
        self._has_turn, self._assignments = False, None

    def _close(self, name: str) -> None:
        fd = getattr(self, name)
        if fd is not None:
            os.close(fd)
            setattr(self, name, None)

    # -- at the end --------------------------------------------------------------------------------

    def hand_on(self, attempt_id: str, gpus: list[dict[str, Any]], record: dict[str, Any]) -> str:
        """Hand the slot of an attempt (its GPUs) on, if its end allows that. Return the name of the
        succession if it is written: the slot is no longer free then, unless nobody takes it; else an empty
        string."""
        while (message := gate.receive_now()) is not None:
            word, text, descriptors = message
            if not word:
                return ""  # the daemon is gone: nothing new starts
            if word == protocol.HAND_ON:
                self._close("_hand_on")
                (self._hand_on,) = descriptors
                order = json.loads(text)
                self._name, self._until = order["name"], order["until"]
            else:
                gate.close_all(descriptors)
        if self._hand_on is None:
            return ""
        if not ended_well(record) or (self._until is not None and boot_now() >= self._until):
            return ""
        failpoints.fp("shim_before_hand_on")
        token = protocol.slot_token(attempt_id, ",".join(gpu["uuid"] for gpu in gpus))
        with socket.socket(fileno=os.dup(self._hand_on)) as channel:
            try:
                channel.send(token, socket.MSG_DONTWAIT)
            except OSError:
                return ""
        failpoints.fp("shim_after_hand_on")
        return self._name


def ended_well(record: dict[str, Any]) -> bool:
    """Return True if an end leaves nothing to be judged
    (:func:`leptond.core.scheduling.standby.ended_well`)."""
    return record.get("exit_code") == 0 and not any(
        record.get(name) for name in ("stop_reason", "exec_error", "killed", "unkillable", "oom_kills")
    )
