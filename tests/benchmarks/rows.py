"""Results of a benchmark: rows of figures, each with its bar.

A part of the benchmarks is a module of this package with `run(bench) -> list[Row]`. Every run measures
leptond, the floor and the peers one after the other, so that all of them see the same machine; value number i
of each belongs to run number i.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

FLOOR = "floor"
"""`Row.against` for the floor; any other word names a peer."""

Verdict = Literal["stretch", "met", "missed", "skipped", "no bar"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure under one load: a value for each run, all in `unit`.

    `against` says what `bar` and `stretch` are about: the value itself (empty), or its ratio to the floor or
    to a peer, run by run; with `times_sooner` the ratio of theirs to ours. Without values, or without those
    of what it is held against, it counts as skipped; `note` then says why. A peer that is measured once has
    one value.
    """

    figure: str
    unit: str
    leptond: tuple[float, ...]
    load: str = "quiet"
    floor: tuple[float, ...] = ()
    peers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    against: str = ""
    times_sooner: bool = False
    bar: float | None = None
    stretch: float | None = None
    better: Literal["lower", "higher"] = "lower"
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The figure and its load, which name a row."""
        return self.figure, self.load

    @property
    def label(self) -> str:
        """The name of the row in one line."""
        return self.figure if self.load == "quiet" else f"{self.figure} (cores busy)"

    def judged(self) -> tuple[float, ...]:
        """Return what is compared with the bar, run by run; empty if not measured."""
        if not self.against:
            return self.leptond
        other = self.floor if self.against == FLOOR else self.peers.get(self.against, ())
        if not other:
            return ()
        pairs = zip(self.leptond, other, strict=True)
        return tuple(theirs / ours if self.times_sooner else ours / theirs for ours, theirs in pairs)

    def result(self) -> float | None:
        """Return the median of :meth:`judged`; None if not measured."""
        values = self.judged()
        return statistics.median(values) if values else None

    def verdict(self) -> Verdict:
        """Return which of stretch and bar is reached."""
        result = self.result()
        if result is None:
            return "skipped"
        if self.bar is None and self.stretch is None:
            return "no bar"
        if self.stretch is not None and self._reaches(result, self.stretch):
            return "stretch"
        if self.bar is not None and self._reaches(result, self.bar):
            return "met"
        return "missed"

    def _reaches(self, result: float, limit: float) -> bool:
        return result <= limit if self.better == "lower" else result >= limit

    def as_json(self) -> dict[str, Any]:
        """The row with what came of it."""
        return {**asdict(self), "judged": self.judged(), "result": self.result(), "verdict": self.verdict()}


def row_of(found: Mapping[str, Any]) -> Row:
    """Return the row that :meth:`Row.as_json` gave, also one of before there were loads."""
    values = {name: found[name] for name in Row.__dataclass_fields__ if name in found}
    for name in ("leptond", "floor"):
        values[name] = tuple(values[name])
    values["peers"] = {name: tuple(peer) for name, peer in values["peers"].items()}
    return Row(**values)


def merged(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with those of the same figure and load put together, run after run: a long part can be
    measured in several goes. A peer that some of them lack keeps its values only where nothing is held
    against it."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        found[row.key] = _both(found[row.key], row) if row.key in found else row
    return list(found.values())


def left_out(peer: str) -> str:
    """Return the note on a peer that was not asked for."""
    return f"{peer} was left out"


def _both(first: Row, second: Row) -> Row:
    if not first.leptond or not second.leptond:
        return first if first.leptond else second
    peers = {
        name: (*first.peers.get(name, ()), *second.peers.get(name, ()))
        for name in {**first.peers, **second.peers}
        if name != first.against or (name in first.peers and name in second.peers)
    }
    floor = (*first.floor, *second.floor)
    if first.against == FLOOR and not (first.floor and second.floor):
        floor = ()
    told = dict.fromkeys([*first.note.split("; "), *second.note.split("; ")])
    note = "; ".join(words for words in told if words and words not in {left_out(peer) for peer in peers})
    joined = (*first.leptond, *second.leptond)
    return replace(second, leptond=joined, floor=floor, peers=peers, note=note)


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None
