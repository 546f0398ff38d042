"""A disk that takes no attempt's files for a while: jobs wait for it, and spend nothing on it."""

import pytest

from tests.faults.campaign_io_errors import Fault, arm, heal
from tests.faults.rig import Templates
from tests.faults.template import why_not
from tests.support.daemon import until


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_cancel_that_the_disk_does_not_take_comes_when_it_does(tmp_path_factory):
    templates = Templates()
    try:
        with templates.rig(tmp_path_factory.mktemp("full")) as rig:
            fault = Fault(error="ENOSPC", calls="write,create", who="daemon", sticky=True, only="stop.json")
            arm(rig, fault, 1)
            daemon = rig.daemon
            daemon.start()
            job = daemon.submit(*rig.scenario.command, "60", "7", gpus=1, grace_s=30)
            until(lambda: rig.witness.exists() and rig.witness.read_text(), "its start")
            assert daemon.post(f"/v1/jobs/{job}/cancel").status == 202
            until(lambda: rig.fired >= 2, "a second try")
            assert daemon.job(job)["state"] == "stopping"
            heal(rig)
            ended = daemon.finished(job)
            # it got its signal and left by itself
            assert (ended["state"], ended["exit_code"]) == ("cancelled", 7)
            daemon.close()
    finally:
        templates.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_record_that_cannot_be_read_at_once_is_not_lost(tmp_path_factory):
    templates = Templates()
    try:
        with templates.rig(tmp_path_factory.mktemp("stumbles")) as rig:
            fault = Fault(error="EIO", calls="read", who="daemon", sticky=True, only="exit.json")
            daemon = rig.daemon
            daemon.start()
            job = daemon.submit(*rig.scenario.command, "0.3", "7", gpus=1)
            daemon.reached(job, "running")
            daemon.kill()  # a daemon that is there is told, and reads nothing
            until((rig.state / "jobs" / str(job) / "1" / "exit.json").exists, "the record")
            arm(rig, fault, 1)
            daemon.start()
            until(lambda: rig.fired >= 2, "a second try")
            assert daemon.job(job)["state"] == "running"
            heal(rig)
            ended = daemon.finished(job)
            assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("failed", 7, 1)
            assert rig.witness.read_text().count('"start"') == 1
            daemon.close()
    finally:
        templates.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize(("calls", "only"), [("create", "leptond.lock"), ("mkdir", "/s/jobs")])
def test_a_start_that_the_disk_does_not_allow_is_one_sentence(tmp_path_factory, calls, only):
    templates = Templates()
    try:
        with templates.rig(tmp_path_factory.mktemp("lock")) as rig:
            arm(rig, Fault(error="EIO", calls=calls, who="daemon", only=only), 1)
            with pytest.raises(AssertionError, match="ended with 74"):
                rig.daemon.start()
            assert "Input/output error" in rig.daemon.tail()
            assert "Traceback" not in rig.daemon.tail()
    finally:
        templates.close()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_full_disk_holds_starts_back_instead_of_failing_every_job(tmp_path_factory):
    templates = Templates()
    try:
        with templates.rig(tmp_path_factory.mktemp("full")) as rig:
            fault = Fault(
                error="ENOSPC", calls="write,create,mkdir", who="daemon", sticky=True, only="/s/jobs/"
            )
            arm(rig, fault, 1)
            daemon = rig.daemon
            daemon.plant = "tests.faults.plants:short_pauses"
            daemon.start()
            jobs = [daemon.submit(*rig.scenario.command, "0.01", str(i), gpus=1) for i in range(12)]
            until(lambda: rig.fired >= 8, "starts that are tried again and again")
            seen = [daemon.job(job) for job in jobs]
            assert {job["state"] for job in seen} <= {"pending", "starting"}
            assert max(job["attempt"] for job in seen) == 1, "a job was sent to fail twice"
            assert sum(job["attempt"] for job in seen) <= 4, "only the first four found the disk full"
            heal(rig)
            ends = [daemon.finished(job) for job in jobs]
            assert [job["exit_code"] for job in ends] == list(range(12))
            assert not any(job["held"] for job in ends)
            daemon.close()
    finally:
        templates.close()
