"""`python -m leptond.cli` is leptonctl."""

from leptond.cli import program

program()
