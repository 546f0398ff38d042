"""Results of a benchmark: rows of figures, each with its bar.

A part of the benchmarks is a module of this package with `run(place, runs) -> list[Row]`: `place` is an empty
directory of its own, `runs` how often it measures. Every run measures leptond, the floor and the peers one
after the other, so that all of them see the same machine; value number i of each belongs to run number i.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FLOOR = "floor"
"""`Row.against` for the floor; any other word names a peer."""

Verdict = Literal["stretch", "met", "missed", "skipped", "no bar"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: a value for each run, all in `unit`.

    `against` says what `bar` and `stretch` are about: the value itself (empty), or its ratio to the floor or
    to a peer, run by run. Without values, or without those of what it is held against, it counts as skipped;
    `note` then says why.
    """

    figure: str
    unit: str
    leptond: tuple[float, ...]
    floor: tuple[float, ...] = ()
    peers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    against: str = ""
    bar: float | None = None
    stretch: float | None = None
    better: Literal["lower", "higher"] = "lower"
    note: str = ""

    def judged(self) -> tuple[float, ...]:
        """Return what is compared with the bar, run by run; empty if not measured."""
        if not self.against:
            return self.leptond
        other = self.floor if self.against == FLOOR else self.peers.get(self.against, ())
        if not other:
            return ()
        return tuple(ours / theirs for ours, theirs in zip(self.leptond, other, strict=True))

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
        return {**asdict(self), "result": self.result(), "verdict": self.verdict()}


def row_of(found: Mapping[str, Any]) -> Row:
    """The row that :meth:`Row.as_json` gave."""
    values = {name: found[name] for name in Row.__dataclass_fields__}
    for name in ("leptond", "floor"):
        values[name] = tuple(values[name])
    values["peers"] = {name: tuple(peer) for name, peer in values["peers"].items()}
    return Row(**values)


def median(values: tuple[float, ...]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None
