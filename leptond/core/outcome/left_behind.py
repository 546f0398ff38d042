"""What a job left behind at its end, in a sentence for its owner. Pure."""

from __future__ import annotations

from leptond.core.jobs.model import ExitRecord
from leptond.core.jobs.sources import Note


def left_behind(record: ExitRecord | None) -> Note | None:
    """Return the note about processes that outlived the command, or the grace of a stop; None where there
    were none.

    >>> left_behind(ExitRecord(attempt_id="a", boot_id="b", leftovers=1)).text
    '1 process was left behind and ended'
    """
    if record is None or not (record.leftovers or record.killed_processes):
        return None
    if record.stop_reason is not None and not record.killed_after_s and not record.leftovers:
        return None  # a stop without a grace: killed, as it was asked for
    killed, left = record.killed_processes, record.leftovers
    after = f" after {record.killed_after_s:.0f} s" if record.killed_after_s is not None else ""
    if record.stop_reason is not None and killed:
        text = (
            f"{_processes(killed)} had not ended when the grace was over, and {_were(killed)} killed{after}"
        )
    elif killed >= max(left, 1):
        text = f"{_processes(killed)} {_were(killed)} left behind and killed{after}"
    elif killed:
        text = (
            f"{_processes(left)} were left behind: {killed} {_were(killed)} killed{after}, the others ended"
        )
    else:
        text = f"{_processes(left)} {_were(left)} left behind and ended"
    return Note(kind="left-behind", text=text)


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
