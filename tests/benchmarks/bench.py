"""What a part of the benchmarks is given: its place, how often it measures, and what it may use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.figures import ALL_PEERS
from tests.benchmarks.load import Load
from tests.benchmarks.rows import left_out

PACKAGES = "tqdm transformers lightning accelerate wandb matplotlib"
"""Packages of the environment where people work."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One run of a part.

    `place` is an empty directory of its own, `load` what runs beside it. `packages` is the virtual
    environment with torch and PACKAGES, `ray` the one with torch and Ray Tune; None for those that are not
    there. `peers` are the peers that are asked for.
    """

    place: Path
    runs: int
    load: Load = field(default_factory=Load)
    peers: frozenset[str] = ALL_PEERS
    packages: Path | None = None
    ray: Path | None = None

    def rounds(self, name: str = "") -> Iterator[tuple[int, Path]]:
        """Yield the number of each run and a new directory for it. A part that goes round several times names
        each of them."""
        for number in range(self.runs):
            here = self.place / name / str(number)
            here.mkdir(parents=True)
            yield number, here

    def lacks(self, peer: str) -> str:
        """Return why a peer cannot be measured; empty when it can."""
        return peers.missing(peer, self.ray) if peer in self.peers else left_out(peer)

    def python_with_packages(self) -> str:
        """Return the interpreter with PACKAGES; empty when there is none."""
        return _python(self.packages)


def _python(environment: Path | None) -> str:
    python = environment / "bin" / "python" if environment is not None else None
    return str(python) if python is not None and python.exists() else ""
