"""The client is tested against the stub server that the commands are tested against."""

from tests.unit.cli.conftest import cli, home, stub

__all__ = ["cli", "home", "stub"]
