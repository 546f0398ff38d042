"""Runs a shim in an interpreter of its own: ``python -I -S -X utf8 .../shim/__main__.py``."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # -I and -S leave no path to import from: a bare package leads to our files, and to nothing else
    package = type(sys)("leptond")
    package.__path__ = [os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))]
    sys.modules["leptond"] = package
    sys.dont_write_bytecode = True  # the disk is the attempt's

    from leptond.engines.shim import program

    try:
        program.main()
    finally:
        sys.stderr.flush()
    os._exit(0)  # nothing is left to do: spare the interpreter's shutdown
