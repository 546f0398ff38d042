"""The events of the daemon's log: their meanings, and the table of them that docs/operations.md shows. Levels
and fields are read from the calls in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LEVELS = ("debug", "info", "warning", "error", "exception")

MEANINGS: Mapping[str, str] = {
    "access.not_recorded": "The event of what an administrator did could not be stored; it was done.",
    "arrays.not_expanded": "Members of a large array could not be written. It is tried again.",
    "attempt.adopted": "A job that runs since before the daemon's start is supervised again.",
    "attempt.end_not_recorded": "The end of an attempt could not be stored. It is tried again.",
    "attempt.ended": "An attempt has ended; `cause` is its class, `rule` the rule that decided it.",
    "attempt.files_not_brought": "The output of a job stays in the directory that was copied.",
    "accounts.submitters_forgotten": "Jobs run as their submitters from this start on. Those that were"
    " submitted before have no account on record any more, and end with a sentence that says so.",
    "attempt.look_failed": "A fault of leptond while it looked for changed files of a command.",
    "attempt.lost": "A fault of leptond while it followed an attempt. The next start takes it up.",
    "attempt.source_changed": "A file that a command names was changed between the submit and the start.",
    "attempt.started": "The command of an attempt has begun.",
    "attempt.stopping": "A job is asked to stop; it is killed after its grace.",
    "backup.taken": "A backup of the database was written.",
    "daemon.note": "Something about this machine that users should know.",
    "daemon.ready": "The daemon schedules.",
    "daemon.stopping": "The daemon ends on a signal. Running jobs go on.",
    "database.mark_not_written": "The mark by which a restored copy is recognised could not be written.",
    "database.restored": "The database was older than the jobs on this machine; what it lacked was taken in.",
    "disk.ballast_failed": "The ballast could not be allocated.",
    "disk.filled": "A write found no space: the ballast is released; nothing starts until there is space.",
    "disk.recovered": "There is space again, and the queue goes on.",
    "exit_record.unreadable": "The record of an attempt's end could not be read. It is tried again.",
    "file_look.no_answer": "A disk did not answer when the files that a job names were looked at.",
    "gpus.failed": "A GPU does not answer and is out of service.",
    "gpus.found": "New GPUs were found.",
    "gpus.note": "Something about the GPUs or their driver that users should know.",
    "gpus.not_given": "A job uses a GPU that it was not given, says the driver. Its attempt has a note.",
    "gpus.note_lost": "That note could not be stored.",
    "gpus.open_failed": "The GPUs cannot be used. Jobs without GPUs still start; it is tried again.",
    "gpus.recovered": "A GPU answers again and is back in service.",
    "gpus.refused": "New GPUs were found that another leptond has.",
    "gpus.sample_failed": "The driver did not answer. It is asked again at the next sample.",
    "gpus.usage_lost": "The last minute of GPU usage could not be stored when the daemon ended.",
    "handover.deferred": "A fault in a part of a hand-over that can wait. The next scheduling pass does it.",
    "hang.not_stopped": "A job without progress could not be stopped yet. It is tried again.",
    "hang.stopped": "A job made no progress within its limit and is stopped.",
    "http.client_faults": "What clients did wrong within a minute: no HTTP, left before the answer, slow, or"
    " refused for too many connections.",
    "http.connection_failed": "A fault of leptond or its HTTP library on a connection, which is closed.",
    "http.request_failed": "A fault of leptond in answering a request; the answer has the same `request_id`.",
    "locks.unavailable": "Locks of this machine cannot be used, so that a second leptond is not kept away.",
    "machine.restarted": "The machine was started anew since the last start of the daemon.",
    "orphan.killed": "Processes of an attempt that had ended were killed.",
    "output_copy.failed": "The output of a job could not be put where `--output` says.",
    "process.ended": "A process of an attempt that is over or has lost its shim gets SIGTERM, then SIGKILL.",
    "progress.no_socket": "The socket for reports of an account's jobs cannot be made. It is tried again.",
    "progress.message_refused": "A message on the progress socket could not be read.",
    "progress.write_failed": "Progress could not be stored. It is tried again.",
    "retention.purged": "Jobs, outputs or events past their limits were removed.",
    "retention.remove_failed": "Files of a job that was removed could not be deleted.",
    "scheduler.failed": "A scheduling pass failed for the database. It is tried again.",
    "service.failed": "A background service failed for the database or the disk. It is tried again.",
    "shim.overdue": "A shim has not ended its attempt in time and is killed.",
    "socket.gone": "A socket is gone from its path. It is made again as soon as it can be.",
    "socket.made_again": "A socket is at its path again.",
    "spare_shims.unavailable": "Shims could not be started ahead of need; jobs start a little later.",
    "standby.killed": "The shim of a prepared attempt of an earlier daemon did not end by itself.",
    "standby.lost": "A prepared job has lost its shim and is prepared again.",
    "standby.paused": "Jobs cannot be prepared ahead of their start; it is tried again.",
    "starts.blocked": "Nothing can be started, because files of attempts cannot be written.",
    "state.moved": "The queue has gone on in another state directory; the one that it has left says so.",
    "successor.claimed": "A job that took over a slot before a crash is recorded as started.",
    "successor.killed": "A job that took over a slot, and that cannot be recorded, is killed.",
    "sweeps.trials_stopped": "Trials of a sweep were stopped early.",
    "warm_record.unreadable": "What was learned of an interpreter cannot be read. It is found out again.",
    "warm_record.unwritten": "What was learned of an interpreter cannot be written. Warm starts go on.",
    "warm_process.ended": "A process for warm starts was ended.",
    "warm_process.ready": "A process for warm starts is ready.",
    "warm_process.refused": "Jobs with this Python start cold.",
    "webhooks.attempt_failed": "A webhook did not accept an event. It is sent again.",
    "webhooks.delivery_failed": "An event was refused by a webhook, or given up.",
    "zygote.lost": "The process that forks shims has ended; until it is back, shims start by themselves.",
}
"""Meaning of each event, as a sentence for operators."""


@dataclass(frozen=True)
class LogCall:
    """A call that logs. `event` is None where its name is not a literal."""

    place: str
    level: str
    event: str | None
    fields: tuple[str, ...]


def calls(package: Path = PACKAGE) -> list[LogCall]:
    """Return every ``log.<level>(...)`` of the modules of `package` that log by structlog."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text()
        if "import structlog" in text:
            name = path.relative_to(package).as_posix()
            found += [
                _call(name, node)
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call) and _logs(node)
            ]
    return found


def _logs(node: ast.Call) -> bool:
    match node.func:
        case ast.Attribute(value=ast.Name(id="log"), attr=level):
            return level in LEVELS
    return False


def _call(name: str, node: ast.Call) -> LogCall:
    assert isinstance(node.func, ast.Attribute)
    first = node.args[0] if len(node.args) == 1 else None
    return LogCall(
        place=f"{name}:{node.lineno}",
        level="error" if node.func.attr == "exception" else node.func.attr,
        event=first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None,
        fields=tuple(keyword.arg or "**" for keyword in node.keywords),
    )


def table(found: Iterable[LogCall] | None = None) -> str:
    """Return the table of all events in Markdown. Raises KeyError for one without a meaning."""
    levels: dict[str, list[str]] = {}
    fields: dict[str, list[str]] = {}
    for one in calls() if found is None else found:
        if one.event is not None:
            levels.setdefault(one.event, []).append(one.level)
            fields.setdefault(one.event, []).extend(one.fields)
    lines = ["| event | level | fields | meaning |", "|---|---|---|---|"]
    for event in sorted(levels):
        level = ", ".join(dict.fromkeys(levels[event]))
        shown = ", ".join(f"`{field}`" for field in dict.fromkeys(fields[event]))
        lines.append(f"| `{event}` | {level} | {shown} | {MEANINGS[event]} |")
    return "\n".join(lines)
