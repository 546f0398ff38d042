"""The process that becomes the command."""

import os
import signal
import sys

import pytest

from tests.unit.engines.shim.harness import TOP, Shim

FORKING = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import command, program
command.Command.forks = True
program.main()
os._exit(0)
"""
"""The shim, as where a command has to enter a cgroup."""


@pytest.mark.parametrize("away", [False, True])
def test_the_command_stays_on_the_cpus_near_its_gpus_where_it_may(tmp_path, away, born):
    mine = sorted(os.sched_getaffinity(0))
    near = [4095] if away else [mine[-1], 4095]
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    shim = Shim(tmp_path, [sys.executable, "-c", show], cpus=near)
    assert shim.line().startswith("READY")
    shim.go()
    assert shim.line().startswith("STARTED")
    assert shim.end()["exit_code"] == 0
    assert (shim.directory / "output.log").read_text() == f"{mine if away else mine[-1:]}\n"


def test_a_command_that_was_forked_in_advance_starts_with_go_and_not_without(tmp_path):
    for name, go in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        shim = Shim(tmp_path / name, ["sh", "-c", "echo $X; exit 4"], program=("-c", FORKING, str(TOP)))
        assert shim.line().startswith("READY")
        if go:
            shim.go({"X": "here"})
            assert shim.line().startswith("STARTED")
            assert shim.end()["exit_code"] == 4
            assert (shim.directory / "output.log").read_text() == "here\n"
        else:
            shim.gate.close()
            assert shim.end()["never_started"] is True


@pytest.mark.parametrize("place", ["shim_before_fork", "shim_after_fork", "shim_before_start"])
def test_what_was_forked_in_advance_ends_with_its_shim(tmp_path, place):
    shim = Shim(
        tmp_path,
        ["touch", str(tmp_path / "ran")],
        program=("-c", FORKING, str(TOP)),
        failpoints=f"{place}=kill",
    )
    if shim.line():
        shim.go()
    assert shim.process.wait(60) == -signal.SIGKILL
    assert shim.line() == "", "nobody holds the other end any more"
    shim.gate.close()
    assert not (tmp_path / "ran").exists()
