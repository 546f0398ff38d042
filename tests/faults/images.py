"""The disk of a machine that lost its power, built from a record of what was written.

The library of preload/ appends a record for every write, sync, truncation, creation, rename, unlink and
directory below the state directory, in the one order of all processes; the driver adds marks ("these jobs
were answered", "this job was seen to have ended"). :class:`Disk` plays the record up to a moment, and
:meth:`Disk.image` makes one state in which the power may have failed then:

- what was synced is there: a sync counts from the moment that it returned, for what was written before it
  was called;
- of what was written later, any part may be there, whole or torn at 512 bytes or 4 KiB;
- what a failed sync did not bring to the disk is never brought there by a later one (Linux drops the pages
  and forgets the error), unless it is written again;
- creations, renames and unlinks without a later sync of their directory may have happened or not: either
  those up to some moment (a journalled file system), or any of them (all that POSIX promises).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: W write, T truncate, F allocate, C create, R rename, U unlink, D directory, s a sync is
    called, S it has returned, X it has failed, M a mark of the driver."""

    kind: str
    number: int
    path: str
    second: str
    data: bytes


def records(file: Path) -> Iterator[Record]:
    """The whole entries of a record file."""
    text = file.read_bytes()
    at = 0
    while (end := text.find(b"\n", at)) >= 0:
        kind, number, length, paths = text[at:end].decode().split(" ", 3)
        data = text[end + 1 : end + 1 + int(length)]
        assert len(data) == int(length), f"the record of {paths} is cut off"
        path, _, second = paths.partition("\t")
        yield Record(kind, int(number), path, second, data)
        at = end + 1 + int(length)


def mark(file: Path, what: str, value: Any) -> None:
    """A mark of the driver: from here on, this is known."""
    data = json.dumps(value).encode()
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.write(fd, f"M 0 {len(data)} {what}\n".encode() + data)
    os.close(fd)


@dataclass(slots=True)
class _Inode:
    """`synced`: what the disk certainly holds; `pending`: what was written since, in order; `called`: how
    much of it the sync under way covers; `dropped`: what a sync failed for, and may or may not be there;
    `reserved`: how long the file is at least (the ballast is 32 MiB of nothing)."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)
    called: int = 0
    dropped: list[Record] = field(default_factory=list)
    directory: bool = False
    reserved: int = 0


@dataclass(slots=True)
class _Change:
    """A change of names in one directory: `path` now names `inode` (None: nothing); `gone`: a name that
    ended with it (of a rename)."""

    path: str
    inode: _Inode | None
    gone: str = ""


def _apply(content: bytearray, change: Record, torn: list[tuple[int, int]] | None = None) -> None:
    if change.kind == "T":
        if change.number < len(content):
            del content[change.number :]
        else:
            content.extend(bytes(change.number - len(content)))
        return
    if change.kind == "F":
        return  # see _reserved
    end = change.number + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    for begin, stop in torn if torn is not None else [(0, len(change.data))]:
        content[change.number + begin : change.number + stop] = change.data[begin:stop]


def _reserved(length: int, change: Record) -> int:
    """How long a file is at least, after a change."""
    if change.kind == "F":
        return max(length, change.number)
    return min(length, change.number) if change.kind == "T" else length


class Disk:
    """What is known of a disk after a number of records."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.names: dict[str, _Inode] = {}  # as programs see them
        self.synced_names: dict[str, _Inode] = {}
        self.changes: list[_Change] = []  # of names, not yet synced
        self._called: dict[str, int] = {}  # directory: how many of them its sync covers
        self._moved: list[tuple[str, str]] = []

    def play(self, record: Record) -> None:
        """Takes one more record into account."""
        kind, path = record.kind, self._where(record.path)
        if kind in ("W", "T", "F"):
            self.names.setdefault(path, _Inode()).pending.append(record)
        elif kind == "C":
            self.names[path] = _Inode()
            self.changes.append(_Change(path, self.names[path]))
        elif kind == "D":
            self.names[path] = _Inode(directory=True)
            self.changes.append(_Change(path, self.names[path]))
        elif kind == "R":
            change = _Change(record.second, self.names.get(path) or _Inode(), gone=path)
            _rename(self.names, change)
            if change.inode is not None and change.inode.directory:
                self._move(path, record.second)
            self.changes.append(change)
        elif kind == "U":
            if self.names.pop(path, None) is not None:
                self.changes.append(_Change(path, None))
        elif kind == "s":
            if self._is_file(path):
                self.names[path].called = len(self.names[path].pending)
            else:
                self._called[path] = len(self.changes)
        elif kind == "X":
            if self._is_file(path):
                inode = self.names[path]
                inode.dropped += inode.pending
                inode.pending, inode.called = [], 0
        elif kind == "S":
            if self._is_file(path):
                self._file_synced(self.names[path])
            else:
                self._directory_synced(path)

    def _where(self, path: str) -> str:
        """Where what was opened by `path` is now."""
        for old, new in self._moved:
            path = _below(path, old, new)
        return path

    def _move(self, old: str, new: str) -> None:
        """A directory has moved: what was changed in it goes with it, or not at all."""
        self._moved.append((old, new))
        for change in self.changes:
            change.path, change.gone = _below(change.path, old, new), _below(change.gone, old, new)

    def _is_file(self, path: str) -> bool:
        return path in self.names and not self.names[path].directory

    @staticmethod
    def _file_synced(inode: _Inode) -> None:
        covered = inode.pending[: inode.called]
        # a page that is written again goes to the disk whole, with what was dropped of it
        pages = {page for change in covered for page in _pages(change)}
        for change in inode.dropped:
            if pages & _pages(change):
                _apply(inode.synced, change)
        inode.dropped = [change for change in inode.dropped if not pages & _pages(change)]
        for change in covered:
            _apply(inode.synced, change)
            inode.reserved = _reserved(inode.reserved, change)
        del inode.pending[: inode.called]
        inode.called = 0

    def _directory_synced(self, path: str) -> None:
        covered, self.changes = (
            self.changes[: self._called.get(path, 0)],
            self.changes[self._called.get(path, 0) :],
        )
        here = [change for change in covered if change.path.rpartition("/")[0] == path]
        self.changes[:0] = [change for change in covered if change not in here]
        for change in here:
            _rename(self.synced_names, change)

    def image(self, dice: random.Random, to: Path) -> None:
        """Writes one state that the disk may be in after a power failure now to `to`."""
        names = dict(self.synced_names)
        if dice.random() < 0.5:  # a journal keeps their order
            for change in self.changes[: dice.randint(0, len(self.changes))]:
                _rename(names, change)
        else:
            for change in self.changes:
                if dice.random() < 0.5:
                    _rename(names, change)
        # from nothing of what was not synced to all of it
        share = dice.choice([0.0, 1.0, dice.random(), dice.random()])
        for path, inode in names.items():
            if not self._reachable(path, names):
                continue
            if inode.directory:
                (to / path.removeprefix(self.top).lstrip("/")).mkdir(mode=0o700, parents=True, exist_ok=True)
                continue
            content, length = bytearray(inode.synced), inode.reserved
            for change in inode.dropped:
                if dice.random() < share:
                    _apply(content, change)
            for change in inode.pending:
                if dice.random() < share:
                    _apply(content, change, _torn(change, dice))
                    length = _reserved(length, change)
            file = to / path.removeprefix(self.top).lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            if length > len(content):
                os.truncate(file, length)

    def _reachable(self, path: str, names: dict[str, _Inode]) -> bool:
        """Whether the directories above it are there; those that the record does not know are."""
        above = path.rpartition("/")[0]
        while len(above) > len(self.top):
            if above in self.names and above not in names:
                return False
            above = above.rpartition("/")[0]
        return True


def _pages(change: Record) -> set[int]:
    """The pages that a write touches; a change of length is a page of its own."""
    if change.kind != "W":
        return {-1}
    return set(range(change.number // 4096, (change.number + max(1, len(change.data)) - 1) // 4096 + 1))


def _below(path: str, old: str, new: str) -> str:
    """`path`, if it is in the directory `old`, as a path in `new`."""
    return new + path.removeprefix(old) if path.startswith(f"{old}/") else path


def _rename(names: dict[str, _Inode], change: _Change) -> None:
    if change.gone:
        names.pop(change.gone, None)
        if change.inode is not None and change.inode.directory:
            for path in [path for path in names if path.startswith(f"{change.gone}/")]:
                names[_below(path, change.gone, change.path)] = names.pop(path)
    if change.inode is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.inode


def _torn(change: Record, dice: random.Random) -> list[tuple[int, int]] | None:
    """Which parts of a write got to the disk; None: all of it."""
    if change.kind != "W" or dice.random() < 0.7:
        return None
    sector = dice.choice([512, 4096])
    first = change.number % sector
    edges = [0, *range(sector - first, len(change.data), sector), len(change.data)]
    return [part for part in pairwise(edges) if dice.random() < 0.5]
