"""A stop of real trees of wrappers."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import until
from tests.unit.engines.shim.harness import SHIM, TOP, Shim, stop
from tests.unit.engines.shim.trees import PROGRAM, faults_of_seed

TREES = 16
"""How many trees are stopped here; a campaign has hundreds."""


def test_every_program_hears_a_stop_once_and_has_its_time_and_nothing_goes_on():
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(range(TREES), pool.map(faults_of_seed, range(TREES)), strict=True))
    assert not {shape: faults for shape, faults in found.values() if faults}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 240, 40))
def test_a_campaign_of_trees(first):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(faults_of_seed, range(1000 + first, 1040 + first)))
    assert not {shape: faults for shape, faults in found if faults}


IMPATIENT_TORCHRUN = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import processes, program
processes._can_be_told = lambda pid: False
program.main()
os._exit(0)
"""
"""The shim beside a torchrun that cannot be told how long its ranks need."""


@pytest.mark.slow
@pytest.mark.parametrize("can_be_told", [True, False])
def test_ranks_of_torchrun_have_the_whole_grace(tmp_path, can_be_told):
    pytest.importorskip("torch")
    (tmp_path / "program.py").write_text(PROGRAM)
    text = (
        "import os, runpy, sys; sys.argv[1] += os.environ['RANK']; runpy.run_path({!r}, run_name='__main__')"
    )
    (tmp_path / "rank.py").write_text(text.format(str(tmp_path / "program.py")))
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    patience = "60" if can_be_told else "1"
    one = Shim(
        tmp_path,
        [*run, str(tmp_path / "rank.py"), str(tmp_path / "place"), "polls", "4", "0"],
        program=(str(SHIM),) if can_be_told else ("-c", IMPATIENT_TORCHRUN, str(TOP)),
        env={"PATH": os.environ["PATH"], "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": patience, "OMP_NUM_THREADS": "1"},
    )
    one.line()
    one.go()
    one.line()
    places = [tmp_path / f"place{rank}" for rank in (0, 1)]
    until(lambda: all(place.exists() and "up" in place.read_text() for place in places))
    stop(one, 60.0)
    record = one.end()
    assert [place.read_text() for place in places] == ["up\nheard\nsaved\n"] * 2
    assert not record["killed"]
