"""A place to break things in: a daemon from a template, the library of preload/ with its counter and trace,
the scenario and its witness."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from tests.faults.invariants import Evidence
from tests.faults.scenario import Crashed, Scenario, drained, finish
from tests.faults.template import ForkedDaemon, built
from tests.support.daemon import gone
from tests.support.template import Template

GPUS = ("--simulate-gpus", "4")
ENV = {
    "LEPTOND_QUEUE__CPU_SLOTS": "4",
    "LEPTOND_ENGINE__LINGER_S": "0.3",
    "LEPTOND_LOG__LEVEL": "warning",
}


class Rig:
    """A place with a daemon from a template, the counter and the trace of the library, and the witness."""

    def __init__(self, template: Template, place: Path) -> None:
        self.place = place
        self.state = place / "s"
        self.witness = place / "witness"
        self.counter = place / "counter"
        self.trace = place / "trace"
        self.counter.write_bytes(bytes(64))
        self.daemon = ForkedDaemon(template, self.state, *GPUS, env=ENV)
        self.scenario = Scenario([str(built("witness")), str(self.witness)])

    def arm(self, who: str, k: int, **more: str) -> None:
        """The next start of the daemon is with the library: `who` is "daemon" or "shim", k 0 only counts."""
        faults = {
            "COUNTER": str(self.counter),
            "DIR": str(self.state),
            "TRACE": str(self.trace),
            "MODE": "kill" if k else "count",
            "K": str(k),
            "RUNS": "1",
            **more,
        }
        self.daemon.faults = {f"LEPTOND_FAULTS_{name}": value for name, value in faults.items()}
        if who == "shim":
            self.daemon.faults |= in_shims()
        self.daemon.arm = who == "daemon"

    def cold_shims(self) -> None:
        """Lets each shim start an interpreter of its own."""
        self.daemon.env["LEPTOND_ENGINE__PREFORK"] = "false"

    def plain_order(self) -> None:
        """Lets the daemon go by priority and number alone, and the checker look for it."""
        self.daemon.env["LEPTOND_QUEUE__POLICY"] = "firstfit"
        self.scenario.ordered = True

    @property
    def counted(self) -> int:
        """Calls so far."""
        return int.from_bytes(self.counter.read_bytes()[:8], "little")

    @property
    def fired(self) -> int:
        """Faults so far."""
        return int.from_bytes(self.counter.read_bytes()[8:16], "little")

    def site(self, k: int) -> str:
        """What the k-th call was: its name and kind of file."""
        for line in self.trace.read_text().splitlines():
            number, _, call, path = line.split(" ", 3)
            if int(number) == k:
                return site_of(call, path, self.state)
        return "?"

    def sites(self) -> set[str]:
        """Every kind of call that was counted."""
        lines = (line.split(" ", 3) for line in self.trace.read_text().splitlines())
        return {site_of(call, path, self.state) for _, _, call, path in lines}

    def start_faulty(self) -> bool:
        """Whether the daemon got ready before its fault."""
        try:
            self.daemon.start()
        except (AssertionError, OSError, HTTPException):
            if not self.fired:
                raise
            return False
        return True

    def go_on(self) -> None:
        """Drives until the scenario has drained, or the daemon is killed by its fault."""
        with contextlib.suppress(Crashed):
            self.scenario.drive(self.daemon)
            drained(self.daemon)
            self.daemon.process.terminate()  # type: ignore[union-attr]
        process = self.daemon.process
        assert process is not None
        assert gone(process.pid, 60), "the daemon neither answers nor ends"
        code = process.poll()
        assert code in (0, -signal.SIGKILL), f"the daemon ended with {code}:\n{self.daemon.tail()}"
        assert code == 0 or self.fired, f"the daemon was killed, but not by us:\n{self.daemon.tail()}"

    def recover(self) -> Evidence:
        """A sound start, the rest of the scenario, and the judgement."""
        self.daemon.start()
        return finish(self.scenario, self.daemon, self.witness)

    def close(self) -> None:
        """Ends the daemon and its jobs, if a trial broke off."""
        process = self.daemon.process
        if process is not None and process.poll() is None:
            self.daemon.close()


def in_shims() -> dict[str, str]:
    """What arms the library in the shims, whichever way they start."""
    return {
        "LEPTOND_FAULTS_TARGET": "engines/shim/",
        "LEPTOND_FAULTS_FORKED": "zygote.py",
        "LD_PRELOAD": str(built("faults")),
    }


def site_of(call: str, path: str, state: Path) -> str:
    """A kind of call: numbers and the place left out."""
    short = path.removeprefix(str(state)).lstrip("/") or "state directory"
    if call in ("posix_spawn", "fork"):
        short = ""
    return f"{call} {re.sub('[0-9]+', 'N', short)}".strip()


class Templates:
    """As many templates as threads, lent out."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[Template] = queue.SimpleQueue()
        self._all: list[Template] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def rig(self, place: Path) -> Iterator[Rig]:
        """A rig on a template of its own."""
        try:
            template = self._free.get_nowait()
        except queue.Empty:
            template = Template(built("faults"))
            with self._lock:
                self._all.append(template)
        rig = Rig(template, place)
        try:
            yield rig
        finally:
            with contextlib.suppress(Exception):
                rig.close()
            self._free.put(template)

    def close(self) -> None:
        """Ends all."""
        for template in self._all:
            template.close()
