"""The end of an attempt's output: the error that ended it, if the output says so. Pure, and bounded in work.

An error ended the job only if nothing else came after it: what a program printed and survived, a caught
exception in a log for one, is followed by other output. Launchers and experiment trackers add words of their
own behind the error of the program; those are known and passed over.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from leptond.core.jobs.secret_values import hide

LINES = 600
"""The last lines that are read."""
LINE_CHARS = 2000
"""The beginning of a line that is read."""
SENTENCE_CHARS = 300
UNIT_CHARS = 4000
STRAY_LINES = 3
"""Lines that may come behind a traceback which is still quoted as the error, though no class rests on it."""


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a process below a launcher, as the launcher tells it."""

    who: str
    exit_code: int | None = None
    signal: int | None = None


class OutputEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of an output says. `line`: the error line, or None. `final`: nothing came after it.
    `uncaught`: a traceback stands before it. `text`: the line with the lines that belong to it. `block`: all
    lines behind the last ordinary one. `usage`: the program explains its arguments there."""

    line: str | None = None
    final: bool = False
    uncaught: bool = False
    text: str = ""
    block: str = ""
    usage: bool = False
    child: Child | None = None


class _Kind(Enum):
    PASSED = 1  # says nothing about the job: blank, a launcher's, a tracker's, a progress bar
    INSIDE = 2  # indented: belongs to a traceback or a message
    WEAK = 3  # names the failure of another program, not its cause
    EXCEPTION = 4
    ERROR = 5
    ORDINARY = 6


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_RANK = re.compile(r"^\[(?:[A-Za-z][A-Za-z_]*[ _]?)?(\d+)\]: ?")
_GROUP = re.compile(r"^ *[|+] ?(?=\S|  )")  # the rails of an exception group
_TRACEBACK = "Traceback (most recent call last)"
_CHAIN = re.compile(
    r"^(During handling of the above exception|The above exception was the direct cause"
    r"|\[Previous line repeated|Original Traceback)"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)\b(?=:|$)")
_NAMED = re.compile(r"^[A-Za-z_][\w.]*(?::\s|$)")
_WHAT = re.compile(r"^\s+what\(\):\s+")
_ERROR = re.compile(
    r"\b(errors?|fatal|panic(ked)?|abort(ed)?|assert(ion)?|cannot|can't|could not|couldn't|failed|failure"
    r"|no such|not found|no module named|denied|refused|invalid|killed|segmentation fault|bus error"
    r"|out of memory|illegal memory access|device-side assert|timed ?out|timeout|terminat(e|ed|ing)"
    r"|uncorrectable|fallen off the bus|GPU is lost|no CUDA-capable|unavailable|unrecognized)\b",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"ChildFailedError|SignalException|ProcessExitedException"
    r"|CalledProcessError: Command .* (?:returned non-zero|died with)"
    r"|^make(\[\d+\])?: \*\*\*|^(srun|slurmstepd|mpirun|mpiexec)\b"
)
_PASSED = re.compile(
    r"torch[./]distributed[./](elastic|run|launcher)|(?-i:^\S+ FAILED$)|^Failures:$|^\[\d+\]:?$"
    r"|^Root Cause \(first observed failure\)|^(?=.{0,40}[-=~*_]{8})[-=~*_+ \d]+$"
    r"|destroy_process_group|resource_tracker|^::leptond$"
    r"|^wandb\b|^(\W{0,4}\s*)View (run|experiment) .*https?://"
    r"|\d%\|.*\|"
    r"|^(usage|options|positional arguments|optional arguments):|^Try .*--?h(elp)?\b"
    r"|^For (detailed )?(help|information|more)\b.*|^(Aborted!|Aborted\.?)$"
    r"|^(CUDA kernel errors|For debugging consider|Compile with|Device-side assertion|Search for `)"
    r"|^(Exception raised from|frame #\d+|C\+\+ CapturedTraceback|Please refer to|See https?://)",
    re.IGNORECASE,
)
_USAGE = re.compile(r"^\s*usage:", re.IGNORECASE | re.MULTILINE)
_PROGRAM = re.compile(r"^/(?:[^/\s:]+/)+(?=[^/\s:]+: )")  # the directory of the program that speaks
_IGNORED = re.compile(r"^Exception ignored in")
_FRAMES = 400  # most lines of a traceback


def read_end(tail: str, secrets: Sequence[str] = ()) -> OutputEnd:
    """Read the end of an output. `secrets` do not appear in what is returned.

    >>> read_end("step 1\\nTraceback (most recent call last):\\n  File ...\\nKeyError: 'x'\\n").line
    "KeyError: 'x'"
    """
    lines = _lines(tail)
    child = _child(lines)
    if child is not None and child.who.startswith("rank "):
        # each rank prints its own error, and that of the first one to fail counts
        first = [line for line in lines if (match := _RANK.match(line)) and f"rank {match[1]}" == child.who]
        found = _find([_RANK.sub("", line) for line in first], secrets)
        if found.line is not None:
            return msgspec.structs.replace(found, child=child)
    return msgspec.structs.replace(_find([_RANK.sub("", line) for line in lines], secrets), child=child)


def clean(line: str) -> str:
    """A line without colours, control characters and needless space."""
    line = _CONTROLS.sub(" ", _ESCAPES.sub("", line[:LINE_CHARS]))
    return " ".join(line.strip("│┃╭╮╰╯─━ \t").split())


def sentence(line: str, secrets: Iterable[str] = ()) -> str:
    """A line as it is quoted to people, of at most SENTENCE_CHARS characters.

    >>> sentence("\\x1b[31mValueError:  bad\\x00 row\\x1b[0m  ")
    'ValueError: bad row'
    """
    line = hide(_PROGRAM.sub("", clean(line)), secrets)
    return line if len(line) <= SENTENCE_CHARS else line[: SENTENCE_CHARS - 3].rstrip() + "..."


def _lines(tail: str) -> list[str]:
    lines = [line for line in tail.replace("\r", "\n").split("\n") if line][-LINES:]
    return [_GROUP.sub("", _printable(line[:LINE_CHARS])) for line in lines]


def _printable(line: str) -> str:
    if not line.isprintable():
        line = _CONTROLS.sub("", _ESCAPES.sub("", line))
    return line.rstrip()


def _kind(lines: Sequence[str], at: int) -> _Kind:
    line = lines[at]
    if not line.strip() or _PASSED.search(line):
        return _Kind.PASSED
    if _TRACEBACK in line or _CHAIN.match(line):
        return _Kind.INSIDE
    if _WHAT.match(line):
        return _Kind.ERROR
    if line[0] in " \t│┃╭╰":
        return _Kind.ERROR if line[0] in "│┃" and _ERROR.search(line) else _Kind.INSIDE
    if _WEAK.search(line):
        return _Kind.WEAK
    if _EXCEPTION.match(line) or (_NAMED.match(line) and _traceback(lines, at) is not None):
        return _Kind.EXCEPTION
    return _Kind.ERROR if _ERROR.search(line) else _Kind.ORDINARY


def _traceback(lines: Sequence[str], at: int) -> int | None:
    """The line at which the traceback before the exception at `at` begins; None if there is none."""
    in_file = False
    for before in range(at - 1, max(-1, at - _FRAMES), -1):
        line = lines[before]
        if _TRACEBACK in line:
            return before
        if line and line[0] not in " \t│┃╭╰" and not _CHAIN.match(line):
            return before + 1 if in_file else None
        in_file = in_file or 'File "' in line
    return 0 if in_file else None


def _find(lines: Sequence[str], secrets: Sequence[str]) -> OutputEnd:
    """Go back from the end to the error that nothing but known epilogues follow."""
    at, stray = len(lines) - 1, 0
    loose = weak = chosen = None
    first = 0  # where the final block begins
    while at >= 0:
        kind, begin = _kind(lines, at), None
        if kind in (_Kind.EXCEPTION, _Kind.WEAK):
            begin = _traceback(lines, at)
        if begin is not None and begin > 0 and _IGNORED.match(lines[begin - 1]):
            at = begin - 2  # at the end of the interpreter, in a destructor
            continue
        match kind:
            case _Kind.EXCEPTION if begin is not None:
                chosen, first = at, max(first, begin)
                break
            case _Kind.WEAK:
                weak = weak if weak is not None or stray else at
                at = begin if begin is not None else at
            case _Kind.EXCEPTION | _Kind.ERROR:
                loose = loose if loose is not None or stray else at
            case _Kind.ORDINARY:
                first = first if stray else at + 1
                stray += 1
                if loose is not None or stray > STRAY_LINES:
                    break
        at -= 1
    block = "\n".join(lines[first:])
    usage = _USAGE.search(block) is not None
    uncaught = chosen is not None
    final = not uncaught or (stray == 0 and loose is None)
    chosen = chosen if chosen is not None else loose if loose is not None else weak
    if chosen is None:
        return OutputEnd(block=block, usage=usage)
    text = "\n".join(lines[chosen:])[:UNIT_CHARS] if uncaught else lines[chosen]
    line = sentence(_WHAT.sub("", lines[chosen]), secrets)
    return OutputEnd(
        line=line or None, final=final, uncaught=uncaught, text=hide(text, secrets), block=block, usage=usage
    )


_ROOT = re.compile(r"^Root Cause \(first observed failure\)")
_FIELD = re.compile(r"^\s+(rank|exitcode)\s*: (-?\d{1,6})\b")
_FAILED = re.compile(r"\bfailed \(exitcode: (-?\d{1,6})\) local_rank: (\d{1,6})")
_SUMMARY_LINES = 12
_ONE_LINE = (
    re.compile(r"CalledProcessError: Command .* died with <Signals\.SIG\w+: (?P<number>\d{1,3})>"),
    re.compile(r"terminated with signal (?P<name>SIG\w+)"),
    re.compile(r"exited on signal (?P<number>\d{1,3}) \("),
    re.compile(r"exits with return code = -(?P<number>\d{1,3})"),
    re.compile(r"SignalException: Process \d+ got signal: (?P<number>\d{1,3})"),
    re.compile(r"DataLoader worker \(pid \d+\) is killed by signal: (?P<words>[A-Z][a-z ]+)"),
)


def _child(lines: Sequence[str]) -> Child | None:
    """The child whose end a launcher tells, at the end of its output."""
    stray = 0
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if _ROOT.match(line):
            fields = (_FIELD.match(one) for one in lines[at : at + _SUMMARY_LINES])
            told = {match[1]: match[2] for match in fields if match is not None}
            if "exitcode" in told:
                return _ended(f"rank {told.get('rank', '?')}", int(told["exitcode"]))
        failed = _FAILED.search(line)
        if failed is not None:
            return _ended(f"rank {failed[2]}", int(failed[1]))
        for pattern in _ONE_LINE:
            match = pattern.search(line)
            number = _number(match) if match is not None else None
            if number is not None:
                return Child(who="a process of the job", signal=number)
        if _kind(lines, at) is _Kind.ORDINARY:
            stray += 1
            if stray > STRAY_LINES:
                return None
    return None


def _ended(who: str, code: int) -> Child:
    return Child(who=who, signal=-code) if code < 0 else Child(who=who, exit_code=code)


def _number(match: re.Match[str]) -> int | None:
    found = match.groupdict()
    if found.get("number"):
        number = int(found["number"])
        return number if number in set(signal.valid_signals()) else None
    if found.get("name"):
        return getattr(signal, found["name"], None)
    words = (found.get("words") or "").strip()
    return next((int(one) for one in signal.Signals if signal.strsignal(one) == words), None)
