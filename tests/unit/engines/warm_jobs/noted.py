"""A module that a warm process imports in the tests: it reads a variable, as libraries do."""

import os

LEVEL = os.environ.get("NOTED_LEVEL", "none")
