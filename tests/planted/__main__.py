"""``python -m tests.planted``: plants every bug, one at a time, and prints which the tests caught."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.planted.plant import bugs, hunt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="begin of the names of bugs; all without")
    parser.add_argument("--quick", action="store_true", help="only those that take seconds")
    parser.add_argument("--no-healthy", action="store_true", help="leave out the run without the bug")
    wanted = parser.parse_args()
    caught = missed = 0
    with tempfile.TemporaryDirectory(prefix="lept-") as place:
        for bug in bugs():
            if wanted.names and not bug.name.startswith(tuple(wanted.names)):
                continue
            if wanted.quick and not bug.quick:
                continue
            verdict = hunt(bug, Path(place), healthy=not wanted.no_healthy)
            caught += verdict.caught
            missed += not verdict.caught
            word = "caught" if verdict.caught else "MISSED"
            print(f"{word}  {verdict.seconds:6.1f} s  {bug.name:32} {verdict.words}", flush=True)
    print(f"{caught} caught, {missed} missed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
