"""The mark of a state directory: ``lineage.json``, beside the database."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from leptond.base.durable import write_durably

MARK = "lineage.json"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory: its path, and the numbers by which the kernel knows it until the next boot."""

    path: str
    device: int
    inode: int


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of ``lineage.json``: which database lies here, and how often a daemon has started on it;
    `place`: where that was at the last start (None before 0.5); `former`: paths where it was before, the
    newest first; `moved_to`: where the queue went on, in a directory that it has left."""

    lineage: str
    starts: int
    place: Place | None = None
    former: tuple[str, ...] = ()
    moved_to: Place | None = None


def read_mark(state_dir: Path) -> Mark | None:
    """Return the mark of a state directory; None where there is none that can be read."""
    try:
        return msgspec.json.decode((state_dir / MARK).read_bytes(), type=Mark)
    except (OSError, msgspec.DecodeError):
        return None


def write_mark(state_dir: Path, mark: Mark) -> None:
    """Replace the mark, durably. Raises OSError."""
    write_durably(str(state_dir), MARK, json.dumps(msgspec.to_builtins(mark)))
