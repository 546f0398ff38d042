"""A wall clock that is set by ten years, under a running daemon (the library of the fault campaigns stands
between it and its clocks)."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.campaign_clocks import YEAR_S, shifted, why_not
from tests.support.daemon import until


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_jump_makes_no_job_older_and_brings_begin_times(tmp_path):
    with shifted(tmp_path, LEPTOND_GPUS__SAMPLE_S="0.3") as (daemon, clocks):
        runs = daemon.submit("sleep", "600")
        daemon.reached(runs, "running")
        begin_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        waits = daemon.submit("sleep", "600", gpus=1, begin_at=begin_at)
        assert daemon.job(waits)["reason"] == "BeginTime"
        clocks.set(wall_s=10 * YEAR_S)
        assert daemon.job(waits)["reason"] in ("BeginTime", None), "not resources, for there are free GPUs"
        until(lambda: daemon.job(waits)["state"] == "running", "its time has come")
        assert daemon.job(runs)["run_s"] < 3600
        clocks.set(wall_s=-10 * YEAR_S)
        assert 0 < daemon.job(runs)["run_s"] < 3600
