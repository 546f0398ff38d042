"""A module that a warm process imports in the tests: it reads a variable, and those with a prefix, as
libraries do."""

import os

LEVEL = os.environ.get("NOTED_LEVEL", "none")
COLOURS = {name[6:].lower(): value for name, value in os.environ.items() if name.startswith("NOTES_")}
