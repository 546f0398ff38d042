"""Writes the snapshot of a release. It is made once, by that release's own code, and never again::

    git archive COMMIT | tar x -C OLD                   # a checkout of the release
    cp -r tests/compat tests/support OLD/tests/         # this program, as it is now
    cd OLD && python -m tests.compat.make --out DIR     # writes DIR/VERSION/*.json

`--live N` observes the daemon N times; where the observations differ, the snapshot holds types only."""

from __future__ import annotations

import argparse
from functools import reduce
from pathlib import Path

from leptond import __version__
from tests.compat import parts
from tests.compat.compare import merge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=parts.HERE)
    parser.add_argument("--live", type=int, default=5)
    asked = parser.parse_args()
    place: Path = asked.out / __version__
    place.mkdir()
    found = parts.of_code() | reduce(merge, (parts.of_daemon() for _ in range(asked.live)))
    for part in parts.PARTS:
        (place / f"{part}.json").write_text(parts.text(found[part]) + "\n")
    print(f"{place}: {sum(file.stat().st_size for file in place.iterdir())} bytes")


if __name__ == "__main__":
    main()
