"""The interface of a training script to leptond: progress, checkpoints, knobs and stops. Standard library
only; outside a leptond job every function does nothing, so a script can keep its calls wherever it runs.

    from leptond import job

    for step in range(first, total):
        rate = job.knob("lr", 3e-4, low=0, high=1)     # leptonctl tune JOB lr=1e-4
        loss = train_one_step(rate)
        job.report(step=step + 1, total=total, loss=loss, lr=rate)
        if job.should_stop():
            save(job.checkpoint_dir)
            job.checkpointed(step + 1)
            job.leave()                                # the exit code that says: resume me

A report is one datagram to the daemon, sent without waiting: when the daemon is away or busy it is dropped.
Nothing depends on a single one, because each carries the whole state (step, newest metrics, last checkpoint),
so the next one mends what was missed. Reports go out five times a second at most; calling :func:`report` in
every step costs a microsecond or two.

`checkpoint_dir` (Path), `attempt` (from 1), `resume`, `deadline` (Unix seconds), `active` and `params` (those
of a sweep's trial, or of `leptonctl submit --param`, by name) are read from the environment each time: None,
1, False, None, False and {} outside leptond."""

from __future__ import annotations

import atexit
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat

EXIT_RESUME = 75
"""sysexits.h, EX_TEMPFAIL: saved, and wants to be run again (class ``tempfail`` when leptond did
not ask it to stop; after a cancel, a limit or a preemption of leptond's own the code does not matter)."""

EXIT_DIVERGED = 65
"""sysexits.h, EX_DATAERR: the loss is past saving; running it again unchanged would end the same way."""

INTERVAL_S = 0.2
"""Shortest time between two reports; first progress, checkpoints and the end do not wait for it."""

MAX_BYTES = 8192
MAX_METRICS = 32

active: bool
checkpoint_dir: Path | None
attempt: int
resume: bool
deadline: float | None
params: dict[str, int | float | str]


def __getattr__(name: str) -> Any:
    env = os.environ
    match name:
        case "active":
            return "LEPTOND_ATTEMPT_ID" in env
        case "checkpoint_dir":
            return Path(env["LEPTOND_CHECKPOINT_DIR"]) if env.get("LEPTOND_CHECKPOINT_DIR") else None
        case "attempt":
            return int(env.get("LEPTOND_ATTEMPT") or 1)
        case "resume":
            return env.get("LEPTOND_RESUME") == "1"
        case "deadline":
            return float(env["LEPTOND_DEADLINE"]) if env.get("LEPTOND_DEADLINE") else None
        case "params":
            return json.loads(env.get("LEPTOND_SWEEP_PARAMS") or "{}")
    raise AttributeError(f"module 'leptond.job' has no attribute {name!r}")


class Channel:
    """The state of a job's progress, and the socket that sends it to the daemon. `environ` is that of a job
    of leptond; a rank other than 0 reports only metrics of its own (``everyone=True``)."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        env = dict(os.environ if environ is None else environ)
        self._id = env.get("LEPTOND_ATTEMPT_ID", "")
        self._path = env.get("LEPTOND_SOCKET", "")
        self.directory = env.get("LEPTOND_ATTEMPT_DIR", "")
        self.rank = int(env.get("RANK") or 0)
        first, eta, self._rung_metric = (*env.get("LEPTOND_SWEEP_RUNGS", "0:0:").split(":"), "")[:3]
        self._first_rung, self._eta = int(first), int(eta)
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {}
        self._metrics: dict[str, float | None] = {}
        self._sent_at = -math.inf
        self._unsent = False
        self._tune_seen: tuple[int, int] | None = None
        self.wanted: dict[str, float] = {}
        self.wanted_version = 0
        self.wanted_versions: dict[str, int] = {}

    def report(self, step: int | None, total: int | None, metrics: dict[str, Any], *, everyone: bool) -> None:
        """Take the metrics into the state, and send it when it is time."""
        if self.rank != 0 and not everyone:
            return
        with self._lock:
            now = time.monotonic()
            first = step is not None and "step" not in self._state
            rung = self._rung_between(self._state.get("step"), step, total) if self.rank == 0 else None
            due = first or now - self._sent_at >= INTERVAL_S or rung is not None
            if self.rank == 0:
                if step is not None:
                    self._state["step"] = int(step)
                    self._state.setdefault("first_at", time.time())
                    self._state.setdefault("first_step", int(step))
                if total is not None:
                    self._state["total"] = int(total)
            for name, value in metrics.items():
                # a tensor is read only when it is sent: reading it waits for the GPU
                if value is None or not (due or isinstance(value, int | float)):
                    continue
                key = name if self.rank == 0 else f"{name}@{self.rank}"
                if key in self._metrics or len(self._metrics) < MAX_METRICS:
                    number = float(value.detach() if hasattr(value, "detach") else value)
                    self._metrics[key] = number if math.isfinite(number) else None
            if rung is not None and self._rung_metric in self._metrics:
                # part of the state, which every report carries: one that is lost takes no rung with it
                rungs = self._state.setdefault("rungs", {})
                rungs[str(rung)] = [step, self._metrics[self._rung_metric]]
            self._unsent = True
            if due:
                self._send(now)

    def _rung_between(self, before: int | None, step: int | None, total: int | None) -> int | None:
        """The highest rung of the sweep that has been reached since the step `before`: all trials are
        measured there, so it is sent at once. After a resume those that lie behind are not made up for."""
        if not self._eta or step is None:
            return None
        if not self._first_rung and total is not None:
            self._first_rung = max(1, int(total) // self._eta**3)
        before = step - 1 if before is None else before
        found, rung = None, self._first_rung
        while 0 < rung <= step and (total is None or rung < total):
            found = rung if rung > before else found
            rung *= self._eta
        return found

    def set(self, **values: Any) -> None:
        """Add to the state and send it at once."""
        with self._lock:
            self._state.update(values)
            self._unsent = True
            self._send(time.monotonic())

    def flush(self) -> None:
        """Send the state if it has changed since it was sent."""
        with self._lock:
            if self._unsent:
                self._send(time.monotonic())

    def close(self) -> None:
        """Flush, and close the socket."""
        self.flush()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _send(self, now: float) -> None:
        self._sent_at = now
        if not (self._id and self._path):
            return
        body = {"v": 1, "attempt": self._id, "at": time.time(), **self._state, "metrics": self._metrics}
        data = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        if len(data) > MAX_BYTES:
            data = json.dumps({**body, "metrics": {}}, allow_nan=False).encode()
        try:
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
            self._socket.sendto(data, self._path)
        except OSError:
            return  # no daemon, or one that is behind: the next report says it all again
        self._unsent = False

    def leave_word(self, reason: str, detail: str) -> None:
        """Write the reason of the end to a file for the daemon. Every rank does so before it ends: when the
        first of them is gone, the launcher ends the others, which may not have come so far. The reason of
        rank 0 is the one that stays."""
        if not self.directory:
            return
        word = json.dumps({"attempt_id": self._id, "reason": reason, "detail": detail[:500]})
        temporary, place = f"{self.directory}/.word.{self.rank}.tmp", f"{self.directory}/word.json"
        try:
            with open(temporary, "w") as file:
                file.write(word)
            if self.rank == 0:
                os.replace(temporary, place)
            else:
                try:
                    os.link(temporary, place)  # unless there is one
                finally:
                    os.unlink(temporary)
        except OSError:
            pass  # the exit code says it too

    def tuned(self) -> dict[str, float]:
        """The values that were asked for with ``leptonctl tune``; one stat(2) unless they changed."""
        if not self.directory:
            return self.wanted
        path = f"{self.directory}/tune.json"
        try:
            seen = os.stat(path)
        except OSError:
            return self.wanted
        mark = (seen.st_mtime_ns, seen.st_ino)
        if mark != self._tune_seen:
            self._tune_seen = mark
            try:
                with open(path) as file:
                    wanted = json.load(file)
                self.wanted = {name: float(value) for name, value in wanted["values"].items()}
                self.wanted_versions = {name: int(n) for name, n in wanted["versions"].items()}
                self.wanted_version = int(wanted["version"])
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                self._tune_seen = None  # not ours, or gone again: look at it at the next step
        return self.wanted


_channel: Channel | None = None
_knobs: dict[str, dict[str, float]] = {}
_term = threading.Event()
_catching = False
_near = False


def channel() -> Channel | None:
    """This process's channel; None outside a leptond job."""
    global _channel
    if _channel is None:
        if "LEPTOND_ATTEMPT_ID" not in os.environ:
            return None
        _channel = Channel()
        atexit.register(_channel.close)
    return _channel


def report(
    *,
    step: int | None = None,
    total: int | None = None,
    loss: SupportsFloat | None = None,
    lr: SupportsFloat | None = None,
    tokens: SupportsFloat | None = None,
    everyone: bool = False,
    **metrics: SupportsFloat | None,
) -> None:
    """Report the training's progress: `step` of `total` are done, with these metrics. A loss that is not a
    finite number is passed on as such.

    Under torchrun only rank 0 reports, unless `everyone` is set: then the metrics of rank N are named
    ``metric@N``. Values may be tensors: they are read only when a report is really sent.
    """
    one = channel()
    if one is not None:
        one.report(step, total, {"loss": loss, "lr": lr, "tokens": tokens, **metrics}, everyone=everyone)


def checkpointed(step: int) -> None:
    """Say that a checkpoint of `step` is safely on disk: leptond counts on it when it chooses a job to
    preempt, and for the work that is not lost."""
    one = channel()
    if one is not None and one.rank == 0:
        one.set(checkpoint={"step": int(step), "at": time.time()})


def knob(name: str, value: float, *, low: float, high: float) -> float:
    """A number that may be changed while the job runs (``leptonctl tune JOB name=value``), within
    [low, high]: what was asked for last, else `value`. Call it in every step; it costs one stat(2).

    What was asked for outlives the attempt: a retry begins with it. Under torchrun ask on rank 0 and give
    the answer to the others, or they take it in different steps (:class:`leptond.train.loop.Training` does).
    """
    if not -math.inf < low <= value <= high < math.inf:
        raise ValueError(
            f"the knob {name} is {value}, which is not within [{low}, {high}], or these are not finite"
        )
    one = channel()
    if one is None:
        return value
    wanted = one.tuned().get(name)
    if wanted is not None and low <= wanted <= high:
        value = wanted
    setting = {"value": float(value), "low": float(low), "high": float(high)}
    if _knobs.get(name) != setting:
        _knobs[name] = setting
        if one.rank == 0:
            one.set(knobs=dict(_knobs), tuned=one.wanted_version)
    return value


def should_stop(margin_s: float = 0.0) -> bool:
    """Return True if the job should finish this step, save, and leave: leptond sent SIGTERM (a cancel, a
    preemption, the time limit), or less than `margin_s` seconds are left until the limit.

    The first call begins to catch SIGTERM, so make one before the first step (from the main thread; a handler
    that was there before is called as well). The limit's own SIGTERM is followed by the grace; a margin helps
    a job whose checkpoint takes longer than that. Each rank decides for itself: under torchrun agree on it,
    or they leave in different steps (:class:`leptond.train.loop.Training` does)."""
    if "LEPTOND_ATTEMPT_ID" not in os.environ:
        return False
    global _near
    catch_sigterm()
    _near = _limit_near(margin_s)
    return _term.is_set() or _near


def _limit_near(margin_s: float) -> bool:
    end: float | None = __getattr__("deadline")
    return end is not None and time.time() >= end - margin_s


def catch_sigterm() -> None:
    """From now on SIGTERM sets a flag instead of ending the process. Only the main thread can do this;
    anywhere else it does nothing."""
    global _catching
    if _catching or threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: Any) -> None:
        _term.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, note)
    _catching = True


def stop_reason(margin_s: float = 0.0) -> str | None:
    """Return the reason to stop: ``limit``, ``cancel``, ``preempt``, ``hang``, ``halving`` (its sweep), or
    ``signal`` when SIGTERM came from another process; None when there is no reason."""
    if not should_stop(margin_s):
        return None
    one = channel()
    if one is not None and one.directory and _term.is_set():
        try:
            with open(f"{one.directory}/stop.json") as file:
                wanted = json.load(file)
            if wanted.get("attempt_id") == os.environ["LEPTOND_ATTEMPT_ID"]:
                return str(wanted["reason"])
        except (OSError, ValueError, KeyError, AttributeError):
            pass
    return "limit" if _limit_near(max(margin_s, 1.0)) else "signal"


def leave(reason: str | None = None, detail: str = "") -> NoReturn:
    """End the process and say why: ``resume`` (saved, run me again; exit code 75), ``limit`` (saved, and
    the time limit is near: counts as the limit's own stop; exit code 75) or ``diverged`` (exit code 65).
    None is ``limit`` when :func:`should_stop` said so for its margin, else ``resume``.

    The reason is also left in a file, because launchers pass no exit code on: torchrun makes it 1. Raises
    SystemExit.
    """
    if reason is None:
        reason = "limit" if _near and not _term.is_set() else "resume"
    codes = {"resume": EXIT_RESUME, "limit": EXIT_RESUME, "diverged": EXIT_DIVERGED}
    if reason not in codes:
        raise ValueError(f"a job leaves with one of {', '.join(codes)}, not {reason!r}")
    one = channel()
    if one is not None:
        one.flush()
        one.leave_word(reason, detail)
    sys.exit(codes[reason])
