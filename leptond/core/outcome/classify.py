"""Classify the end of an attempt: evidence in, failure class out, with the rule that fired.

The order of the rules is the order of trust: what leptond did itself, then whether the machine went away,
then what the kernel says, then what the job said of itself, then what the driver says, then the error that
its output ends with, and last the bare exit code. torchrun, for one, exits with 1 after a SIGTERM although
every worker saved and left cleanly, so an exit code never outweighs what we asked for. Output alone gives no
retry that the job has not asked for: a class that it chose is `by_text`.
"""

from __future__ import annotations

import json
import re
import signal as signals
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from leptond.core.jobs.model import FailureClass, StopReason
from leptond.core.jobs.timespec import format_size
from leptond.core.outcome.evidence import Evidence
from leptond.core.outcome.failure_fingerprint import failure_fingerprint
from leptond.core.outcome.output_end import OutputEnd, read_end, sentence
from leptond.core.outcome.text_rules import DEVICE_ERROR, GPU_LOST, TEXT_RULES, TextRule

LOG_TAIL_BYTES = 64 * 1024
"""The bytes at the end of an attempt's output that the patterns are matched against."""

QUICK_EXIT_S = 5.0
"""argparse and most command lines leave with 2, at once, when they do not understand their arguments."""

EXIT_TEMPFAIL = 75  # sysexits.h: try again later


EARLIER = "earlier in its output: "
"""Begins the evidence about an error line that the job survived."""

QUIET_S = 10.0
"""An error line that was printed longer before the end did not end the job."""
QUIET_AFTER_TRACEBACK_S = 60.0
"""The same for a traceback that is quoted: an interpreter may take its time to leave."""


OWN_LIMIT = "own-memory-limit"
"""The rule of a job that was ended at its own limit of memory: it would be again."""

NEAR = 0.95
"""The part of its limit that an attempt has used that the kernel killed for it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A class, the name of the rule that chose it, the lines it saw, and a sentence for people. `by_text`:
    the class rests on the output. The `failure_fingerprint` is equal for equal failures."""

    cause: FailureClass
    rule: str
    evidence: list[str]
    explanation: str
    by_text: bool = False
    failure_fingerprint: str | None = None

    @property
    def is_own(self) -> bool:
        """True if retries are the job's own affair, whatever the class: the machine's fault is not shown."""
        return self.by_text or self.rule == OWN_LIMIT


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``SIG34`` for a number that has no name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"


class _Seen(Evidence, frozen=True, kw_only=True):
    """Evidence with what the end of the output says. `exit_code` and `signal` are those of the program, also
    below a launcher (`who` says of which process); `told` is the end of the command itself. `recorded`: the
    framework has recorded the error."""

    out: OutputEnd = OutputEnd()
    recorded: bool = False
    who: str | None = None
    told: str = ""


def classify(evidence: Evidence) -> Verdict:
    """The class of an ended attempt."""
    seen = _seen(evidence)
    verdict = _judged(seen)
    if evidence.exit_code == 0 or evidence.stop_reason is not None:
        return verdict
    earlier = _earlier(seen, verdict)
    return msgspec.structs.replace(
        verdict,
        evidence=[*verdict.evidence, *earlier],
        failure_fingerprint=failure_fingerprint(verdict.cause, seen.told, seen.out.line),
    )


def _seen(evidence: Evidence) -> _Seen:
    told = _end(evidence.exit_code, evidence.signal)
    facts: dict[str, Any] = {name: getattr(evidence, name) for name in Evidence.__struct_fields__}
    if evidence.exit_code == 0 or evidence.stop_reason is not None:
        return _Seen(**facts, told=told)
    out = read_end(evidence.log_tail, evidence.secrets)
    recorded = _recorded(evidence)
    if recorded is not None:
        out = msgspec.structs.replace(recorded, child=out.child)
    elif evidence.quiet_s is not None and evidence.quiet_s > QUIET_S:
        keep = out.uncaught and evidence.quiet_s <= QUIET_AFTER_TRACEBACK_S
        out = msgspec.structs.replace(out, final=False, block="", line=out.line if keep else None)
    facts["recorded"] = recorded is not None
    code, child = evidence.exit_code, out.child
    if code == 1 and child is not None:
        facts |= {"exit_code": child.exit_code, "signal": child.signal}
        return _Seen(**facts, out=out, who=child.who, told=told)
    if code is not None and (number := _child_signal(code)) is not None:
        facts |= {"exit_code": None, "signal": number}
        return _Seen(**facts, out=out, who="a process of the job", told=told)
    return _Seen(**facts, out=out, told=told)


def _child_signal(code: int) -> int | None:
    """The signal of a child, where an exit code tells it: 128 + N of a shell, and -N of a Python launcher."""
    if code - 128 in _PASSED_ON:
        return code - 128
    return 256 - code if 256 - code in _KILLS else None


def _recorded(evidence: Evidence) -> OutputEnd | None:
    """The root exception as torchrun's workers record it."""
    try:
        value: Any = json.loads(evidence.error_file or "")
    except ValueError:
        return None
    while isinstance(value, dict):
        value = value.get("message")
    lines = [line.strip() for line in value.splitlines() if line.strip()] if isinstance(value, str) else []
    if not lines:
        return None
    found = read_end("\n".join(lines), evidence.secrets)
    line = found.line or sentence(lines[-1], evidence.secrets)
    return OutputEnd(line=line, final=True, uncaught=True, text=line, block=line)


def _earlier(seen: _Seen, verdict: Verdict) -> list[str]:
    """The newest line that one of the text rules knows, if it is not the one that ended the job."""
    lowered = seen.log_tail.lower()
    found = [match for rule in (GPU_LOST, *TEXT_RULES) if (match := rule.newest(seen.log_tail, lowered))]
    if not found:
        return []
    newest = max(found, key=re.Match.start)
    line = sentence(_line_around(seen.log_tail, newest), seen.secrets)
    known = [*verdict.evidence, seen.out.line or ""]
    return [] if any(line in one or (one and one in line) for one in known) else [EARLIER + line]


def _judged(seen: _Seen) -> Verdict:
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


def _end(exit_code: int | None, signal: int | None) -> str:
    if signal is not None:
        return f"ended by {signal_name(signal)}"
    return f"exit code {exit_code}" if exit_code is not None else "no exit code"


def _with_line(explanation: str, seen: _Seen) -> str:
    """A sentence with the error line that the output ends with."""
    return f"{explanation}: {seen.out.line}" if seen.out.line is not None else explanation


def _own_doing(seen: _Seen) -> Verdict | None:
    match seen.stop_reason:
        case StopReason.CANCEL:
            return _verdict(FailureClass.CANCELLED, "we-cancelled", [seen.told], "cancelled on request")
        case StopReason.TIMEOUT:
            return _verdict(
                FailureClass.TIMEOUT, "we-timed-out", [seen.told], "stopped at its wall-clock limit"
            )
        case StopReason.PREEMPT if seen.exit_code != 0:
            return _verdict(
                FailureClass.PREEMPTED, "we-preempted", [seen.told], "made room for a better placed job"
            )
        case StopReason.HALVING:
            return _verdict(
                FailureClass.STOPPED_EARLY,
                "we-stopped-early",
                [seen.told],
                seen.stop_note or "stopped early by its sweep",
            )
        case StopReason.HANG:
            return _verdict(
                FailureClass.HANG,
                "we-stopped-a-hang",
                [seen.told],
                "stopped because it made no progress for longer than it allows itself",
            )
    return None


def _node(seen: _Seen) -> Verdict | None:
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


def _exec(seen: _Seen) -> Verdict | None:
    if seen.exec_error is None:
        return None
    if seen.exec_errno in _NODE_ERRNOS:
        return _verdict(
            FailureClass.INFRA_NODE, "exec-resources", [seen.exec_error], "the machine was out of resources"
        )
    return _verdict(FailureClass.CONFIG, "exec-failed", [seen.exec_error], seen.exec_error)


def _memory(seen: _Seen) -> Verdict | None:
    limit = format_size(seen.mem_bytes) if seen.mem_bytes is not None else None
    if seen.over_memory_bytes and limit is not None:
        used = format_size(seen.over_memory_bytes)
        return _verdict(
            FailureClass.OOM_HOST,
            OWN_LIMIT,
            [f"its processes used {seen.over_memory_bytes} bytes of {seen.mem_bytes}"],
            f"ended because it used {used} of memory, more than its limit of {limit}",
        )
    if seen.oom_kills == 0:
        return None
    evidence = [f"oom_kill rose by {seen.oom_kills}"]
    if limit is None or seen.mem_bytes is None or seen.peak_mem_bytes < NEAR * seen.mem_bytes:
        reason = "the kernel killed it because the host ran out of memory"
        return _verdict(FailureClass.OOM_HOST, "cgroup-oom", evidence, reason)
    peak = format_size(seen.peak_mem_bytes)
    return _verdict(
        FailureClass.OOM_HOST,
        OWN_LIMIT,
        evidence,
        f"killed by the kernel: its memory limit of {limit} was reached (peak {peak})",
    )


_WORDS = {
    "resume": (FailureClass.TEMPFAIL, "saved its work and asked to be run again"),
    "limit": (FailureClass.TIMEOUT, "saved its work and left because its wall-clock limit was near"),
    "diverged": (FailureClass.DIVERGED, "its loss went wrong and did not recover"),
}


def _own_word(seen: _Seen) -> Verdict | None:
    """The statement of the job itself, where it did not succeed: launchers such as torchrun turn the exit
    code that its rank chose into 1."""
    if seen.word is None or seen.word.reason not in _WORDS or seen.told in ("exit code 0", "no exit code"):
        return None
    if seen.signal is not None and seen.who is None:
        return None
    cause, explanation = _WORDS[seen.word.reason]
    more = f": {seen.word.detail}" if seen.word.detail else ""
    return _verdict(cause, f"word-{seen.word.reason}", [seen.told], explanation + more)


def _device(seen: _Seen) -> Verdict | None:
    """What the driver says of the attempt's GPUs, where the job failed with an error of a device."""
    if not seen.gpu_faults or seen.exit_code == 0 or seen.signal in _KILLS:
        return None
    about = (
        seen.signal is not None
        or DEVICE_ERROR.search(seen.out.text)
        or GPU_LOST.pattern.search(seen.out.text)
    )
    if not about:
        return None
    evidence = [*seen.gpu_faults, *([seen.out.line] if seen.out.line else []), seen.told]
    return _verdict(
        FailureClass.INFRA_GPU, "driver", evidence, _with_line("the GPU failed, as the driver says", seen)
    )


def _text(seen: _Seen) -> Verdict | None:
    if seen.told == "exit code 0" or seen.signal in _KILLS:
        return None  # what a successful job printed is its own business; the kernel knows who was killed
    for rule in TEXT_RULES:
        if rule.cause is FailureClass.HANG:
            where = seen.out.block if seen.signal == signals.SIGABRT else ""
        else:
            where = seen.out.text if seen.out.final else ""
        match = rule.pattern.search(where)
        if match is None:
            continue
        if rule.cause is FailureClass.CONFIG and not _cannot_load(seen, match):
            continue
        return _by_text(seen, rule, sentence(_line_around(where, match), seen.secrets))
    return None


def _cannot_load(seen: _Seen, match: re.Match[str]) -> bool:
    """Python's exit code for an uncaught exception is 1."""
    return seen.exit_code == 1 and (seen.out.uncaught or "python" in match[0].partition(":")[0])


def _by_text(seen: _Seen, rule: TextRule, line: str) -> Verdict:
    cause, explanation, by_text = rule.cause, rule.explanation, True
    notes: Sequence[str] = ()
    if cause is FailureClass.USER_OOM_GPU:
        notes = seen.memory_notes
        if seen.own_overran:
            explanation = "the job used more GPU memory than the share that it asked for"
        elif seen.foreign_gpu_memory:
            cause, by_text = FailureClass.INFRA_OOM_GPU, False
            explanation = "others had GPU memory there that they were not given"
    name = f"error-file:{rule.name}" if seen.recorded else rule.name
    return msgspec.structs.replace(
        _verdict(cause, name, [line, seen.told, *notes], f"{explanation}: {line}"), by_text=by_text
    )


def _line_around(text: str, match: re.Match[str]) -> str:
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[begin : end if end >= 0 else len(text)]


def _exit_code(seen: _Seen) -> Verdict | None:
    code = seen.exit_code
    if code is None:
        return None
    end = [seen.told]
    if code == 0:
        return _verdict(FailureClass.OK, "exit-0", end, "finished")
    if code in (126, 127):
        what = "command not found" if code == 127 else "command found but not executable"
        explanation = f"{seen.out.line} (exit code {code})" if seen.out.line else f"exit code {code}: {what}"
        return _verdict(FailureClass.CONFIG, f"exit-{code}", end, explanation)
    if code == 2 and (seen.run_s < QUICK_EXIT_S or (seen.out.usage and seen.out.final)):
        explanation = "exit code 2 at once, as of a command that does not accept its arguments"
        if seen.out.line is not None:
            explanation = f"{seen.out.line} (exit code 2)"
        rule = "exit-2-usage" if seen.out.usage else "exit-2-at-once"
        return _verdict(FailureClass.CONFIG, rule, [*end, f"after {seen.run_s:.1f} s"], explanation)
    if code == EXIT_TEMPFAIL:
        return _verdict(FailureClass.TEMPFAIL, "exit-75", end, "asked to be tried again later (exit code 75)")
    who = f"{seen.who} " if seen.who is not None else ""
    explanation = _with_line(f"{who}failed with exit code {code}", seen)
    lines = [seen.out.line] if seen.out.line is not None else []
    if seen.out.final and GPU_LOST.pattern.search(seen.out.text):
        explanation += " (the driver reports no fault of its GPUs)"
    return _verdict(FailureClass.USER, "exit-user", [*end, *lines], explanation)


_FAULTS = frozenset({signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE})
_KILLS = frozenset({signals.SIGKILL, signals.SIGTERM, signals.SIGHUP})
_PASSED_ON = (
    _FAULTS
    | _KILLS
    | {
        *(
            signals.SIGINT,
            signals.SIGQUIT,
            signals.SIGTRAP,
            signals.SIGABRT,
            signals.SIGUSR1,
            signals.SIGUSR2,
        ),
        *(signals.SIGPIPE, signals.SIGALRM, signals.SIGXCPU, signals.SIGXFSZ, signals.SIGSYS),
    }
)
"""Signals whose 128 + N is taken for a shell's report."""


def _signal(seen: _Seen) -> Verdict | None:
    if seen.signal is None:
        return None
    name, who = signal_name(seen.signal), f"{seen.who} was " if seen.who is not None else ""
    evidence = [name] if seen.who is None else [name, seen.told]
    if seen.signal == seen.warned_by:
        return _verdict(
            FailureClass.TIMEOUT,
            "own-warning",
            evidence,
            f"{who}ended by {name}, by which leptond warned it of its time limit",
        )
    if seen.signal in _KILLS:
        return _verdict(
            FailureClass.EXTERNAL_KILL,
            "killed-by-others",
            evidence,
            f"{who}ended by {name}, which leptond did not send",
        )
    hint = "; a full /dev/shm does this" if seen.signal == signals.SIGBUS else ""
    rule = "fault-signal" if seen.signal in _FAULTS else "other-signal"
    crashed = f"{seen.who} crashed" if seen.who is not None else "crashed"
    explanation = _with_line(f"{crashed} with {name}{hint}", seen)
    lines = [seen.out.line] if seen.out.line is not None else []
    return _verdict(FailureClass.SIGNAL, rule, [*evidence, *lines], explanation)


RULES: tuple[Callable[[_Seen], Verdict | None], ...] = (
    _own_doing,
    _node,
    _exec,
    _memory,
    _own_word,
    _device,
    _text,
    _exit_code,
    _signal,
)
"""The rules in the order in which they are asked."""
