"""Classify the end of an attempt: evidence in, failure class out, with the rule that fired.

The order of the rules is the order of trust: what leptond did itself, then whether the machine went away,
then what the kernel says, then what the job's framework wrote down, then what it printed, and last the
bare exit code. torchrun, for one, exits with 1 after a SIGTERM although every worker saved and left
cleanly, so an exit code never outweighs what we asked for.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Callable, Sequence

import msgspec

from leptond.core.jobs.model import FailureClass, StopReason
from leptond.core.outcome.evidence import Evidence
from leptond.core.outcome.failure_fingerprint import failure_fingerprint

LOG_TAIL_BYTES = 64 * 1024
"""The bytes at the end of an attempt's output that the patterns are matched against."""

QUICK_EXIT_S = 5.0
"""argparse and most command lines leave with 2, at once, when they do not understand their arguments."""

EXIT_TEMPFAIL = 75  # sysexits.h: try again later


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A class, the name of the rule that chose it, the lines it saw, and a sentence for people. The
    `failure_fingerprint` is equal for equal failures."""

    cause: FailureClass
    rule: str
    evidence: list[str]
    explanation: str
    failure_fingerprint: str | None = None


_TEXT_RULES: tuple[tuple[str, FailureClass, re.Pattern[str], str], ...] = (
    (
        "text-gpu-lost",
        FailureClass.INFRA_GPU,
        re.compile(
            r"uncorrectable ECC error|no CUDA-capable device|GPU is lost|fallen off the bus"
            r"|CUDA-capable device\(s\) is/are busy or unavailable|device unavailable",
            re.IGNORECASE,
        ),
        "the GPU failed or could not be used",
    ),
    (
        "text-cuda-oom",
        FailureClass.USER_OOM_GPU,
        re.compile(r"torch\.(cuda\.)?OutOfMemoryError|CUDA out of memory|CUDA error: out of memory"),
        "the job needed more GPU memory than the device has",
    ),
    (
        "text-nccl-hang",
        FailureClass.HANG,
        re.compile(r"Watchdog caught collective operation timeout|ProcessGroupNCCL.*heartbeat.*stuck"),
        "a collective operation hung until its watchdog ended the job",
    ),
    (
        "text-cuda-fault",
        FailureClass.APP_GPU,
        re.compile(r"illegal memory access|device-side assert triggered"),
        "the job's own code made the GPU fault",
    ),
    (
        "text-import",
        FailureClass.CONFIG,
        re.compile(r"^(ModuleNotFoundError|SyntaxError|IndentationError|TabError): .*", re.MULTILINE),
        "the program cannot be loaded, and would fail the same way again",
    ),
)


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``SIG34`` for a number that has no name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def classify(seen: Evidence) -> Verdict:
    """The class of an ended attempt."""
    verdict = _judged(seen)
    if seen.exit_code == 0 or seen.stop_reason is not None:
        return verdict
    fingerprint = failure_fingerprint(
        verdict.cause, _end(seen), error_file=seen.error_file, log_tail=seen.log_tail
    )
    return msgspec.structs.replace(verdict, failure_fingerprint=fingerprint)


def _judged(seen: Evidence) -> Verdict:
    verdict = next((verdict for rule in RULES if (verdict := rule(seen)) is not None), None)
    if verdict is None:
        verdict = _verdict(
            FailureClass.INFRA_NODE, "no-record", [], "the end of the attempt was not recorded by anyone"
        )
    if not seen.unkillable:
        return verdict
    left = f"{seen.unkillable} unkillable {'process' if seen.unkillable == 1 else 'processes'}"
    return _verdict(
        verdict.cause,
        verdict.rule,
        [*verdict.evidence, f"{left} left after SIGKILL"],
        f"{verdict.explanation}; {left} left, so its GPUs are drained",
    )


def _verdict(cause: FailureClass, rule: str, evidence: list[str], explanation: str) -> Verdict:
    return Verdict(cause=cause, rule=rule, evidence=evidence, explanation=explanation)


def _end(seen: Evidence) -> str:
    if seen.signal is not None:
        return f"ended by {signal_name(seen.signal)}"
    if seen.exit_code is not None:
        return f"exit code {seen.exit_code}"
    return "no exit code"


def _own_doing(seen: Evidence) -> Verdict | None:
    match seen.stop_reason:
        case StopReason.CANCEL:
            return _verdict(FailureClass.CANCELLED, "we-cancelled", [_end(seen)], "cancelled on request")
        case StopReason.TIMEOUT:
            return _verdict(
                FailureClass.TIMEOUT, "we-timed-out", [_end(seen)], "stopped at its wall-clock limit"
            )
        case StopReason.PREEMPT if seen.exit_code != 0:
            return _verdict(
                FailureClass.PREEMPTED, "we-preempted", [_end(seen)], "made room for a better placed job"
            )
        case StopReason.HALVING:
            return _verdict(
                FailureClass.STOPPED_EARLY,
                "we-stopped-early",
                [_end(seen)],
                seen.stop_note or "stopped early by its sweep",
            )
        case StopReason.HANG:
            return _verdict(
                FailureClass.HANG,
                "we-stopped-a-hang",
                [_end(seen)],
                "stopped because it made no progress for longer than it allows itself",
            )
    return None


def _node(seen: Evidence) -> Verdict | None:
    if seen.never_started:
        return _verdict(
            FailureClass.NEVER_STARTED, "never-started", [], "the daemon went away before the command started"
        )
    if seen.boot_changed:
        return _verdict(
            FailureClass.INFRA_NODE, "boot-changed", ["the boot id differs"], "the machine was restarted"
        )
    if seen.shim_lost:
        return _verdict(
            FailureClass.INFRA_NODE,
            "shim-lost",
            ["no exit record, and the supervising process is gone"],
            "the process that supervised the job was killed, so its end is unknown",
        )
    return None


_NODE_ERRNOS = frozenset({5, 11, 12, 23, 24, 28, 30, 122})
"""EIO, EAGAIN, ENOMEM, ENFILE, EMFILE, ENOSPC, EROFS, EDQUOT: the machine's, whatever the command is."""


def _exec(seen: Evidence) -> Verdict | None:
    if seen.exec_error is None:
        return None
    if seen.exec_errno in _NODE_ERRNOS:
        return _verdict(
            FailureClass.INFRA_NODE, "exec-resources", [seen.exec_error], "the machine was out of resources"
        )
    return _verdict(FailureClass.CONFIG, "exec-failed", [seen.exec_error], seen.exec_error)


def _memory(seen: Evidence) -> Verdict | None:
    if seen.oom_kills > 0:
        return _verdict(
            FailureClass.OOM_HOST,
            "cgroup-oom",
            [f"memory.events: oom_kill rose by {seen.oom_kills}"],
            "the kernel killed it because the host ran out of memory",
        )
    return None


_WORDS = {
    "resume": (FailureClass.TEMPFAIL, "saved its work and asked to be run again"),
    "limit": (FailureClass.TIMEOUT, "saved its work and left because its wall-clock limit was near"),
    "diverged": (FailureClass.DIVERGED, "its loss went wrong and did not recover"),
}


def _own_word(seen: Evidence) -> Verdict | None:
    """The statement of the job itself, where it did not succeed: launchers such as torchrun turn the exit
    code that its rank chose into 1."""
    if seen.word is None or seen.word.reason not in _WORDS or seen.exit_code in (0, None):
        return None
    cause, explanation = _WORDS[seen.word.reason]
    more = f": {seen.word.detail}" if seen.word.detail else ""
    return _verdict(cause, f"word-{seen.word.reason}", [_end(seen)], explanation + more)


def _framework(seen: Evidence) -> Verdict | None:
    """The root exception as torchrun recorded it, judged by the same patterns as the output."""
    if seen.error_file is None:
        return None
    return _match_text(seen.error_file, "error-file", seen)


def _text(seen: Evidence) -> Verdict | None:
    if seen.exit_code == 0:
        return None  # what a successful job printed is its own business
    return _match_text(seen.log_tail, "", seen)


def _match_text(text: str, source: str, seen: Evidence) -> Verdict | None:
    for rule, cause, pattern, explanation in _TEXT_RULES:
        match = pattern.search(text)
        if match is None:
            continue
        if cause is FailureClass.CONFIG and seen.exit_code != 1:
            continue  # Python's exit code for an uncaught exception is 1
        if cause is FailureClass.HANG and seen.signal != signals.SIGABRT:
            continue
        line = _line_around(text, match)
        notes: Sequence[str] = ()
        if cause is FailureClass.USER_OOM_GPU:
            notes = seen.memory_notes
            if seen.own_overran:
                explanation = "the job used more GPU memory than the share that it asked for"
            elif seen.foreign_gpu_memory:
                cause = FailureClass.INFRA_OOM_GPU
                explanation = "others had GPU memory there that they were not given"
        evidence = [line, _end(seen), *notes]
        return _verdict(cause, f"{source}:{rule}" if source else rule, evidence, explanation)
    return None


def _line_around(text: str, match: re.Match[str]) -> str:
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[begin : end if end >= 0 else len(text)].strip()[:300]


def _exit_code(seen: Evidence) -> Verdict | None:
    code = seen.exit_code
    if code is None:
        return None
    end = [_end(seen)]
    if code == 0:
        return _verdict(FailureClass.OK, "exit-0", end, "finished")
    if code in (126, 127):
        what = "command not found" if code == 127 else "command found but not executable"
        return _verdict(FailureClass.CONFIG, f"exit-{code}", end, f"exit code {code}: {what}")
    if code == 2 and seen.run_s < QUICK_EXIT_S:
        return _verdict(
            FailureClass.CONFIG,
            "exit-2-at-once",
            [*end, f"after {seen.run_s:.1f} s"],
            "exit code 2 at once: the command did not accept its arguments",
        )
    if code == EXIT_TEMPFAIL:
        return _verdict(FailureClass.TEMPFAIL, "exit-75", end, "asked to be tried again later (exit code 75)")
    if code > 128 and code - 128 in signals.valid_signals():
        name = signal_name(code - 128)
        return _verdict(
            FailureClass.USER,
            "exit-user",
            end,
            f"exit code {code}, as a shell reports a child ended by {name}",
        )
    return _verdict(FailureClass.USER, "exit-user", end, f"failed with exit code {code}")


_FAULTS = frozenset({signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE})
_KILLS = frozenset({signals.SIGKILL, signals.SIGTERM, signals.SIGHUP})


def _signal(seen: Evidence) -> Verdict | None:
    if seen.signal is None:
        return None
    name = signal_name(seen.signal)
    if seen.signal == seen.warned_by:
        return _verdict(
            FailureClass.TIMEOUT,
            "own-warning",
            [name],
            f"ended by {name}, by which leptond warned it of its time limit",
        )
    if seen.signal in _KILLS:
        return _verdict(
            FailureClass.EXTERNAL_KILL,
            "killed-by-others",
            [name],
            f"ended by {name}, which leptond did not send",
        )
    hint = "; a full /dev/shm does this" if seen.signal == signals.SIGBUS else ""
    rule = "fault-signal" if seen.signal in _FAULTS else "other-signal"
    return _verdict(FailureClass.SIGNAL, rule, [name], f"crashed with {name}{hint}")


RULES: tuple[Callable[[Evidence], Verdict | None], ...] = (
    _own_doing,
    _node,
    _exec,
    _memory,
    _own_word,
    _framework,
    _text,
    _exit_code,
    _signal,
)
"""The rules in the order in which they are asked."""
