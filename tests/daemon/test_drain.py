"""Devices that fail while the daemon runs: no job starts there, and the others go on."""

import json

from tests.support.daemon import Daemon, until


def test_a_sick_gpu_gets_no_job_and_comes_back(tmp_path):
    state = tmp_path / "gpus.json"
    one = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "2",
        env={"LEPTOND_GPUS__STATE_FILE": str(state), "LEPTOND_GPUS__SAMPLE_S": "0.2"},
    )
    one.start()
    try:
        state.write_text(json.dumps({"devices": {"0": {"error": "GPU is lost: it has fallen off the bus"}}}))
        until(lambda: not one.get("/v1/gpus").json["items"][0]["schedulable"])
        wide, narrow = one.submit("true", gpus=2), one.submit("true", gpus=1)
        assert [gpu["index"] for gpu in one.finished(narrow)["attempts"][0]["gpus"]] == [1]
        waiting = one.job(wide)
        assert waiting["reason"] == "GpuUnhealthy"
        assert "fallen off the bus" in waiting["reason_detail"]
        assert any("fallen off the bus" in warning for warning in one.get("/v1/status").json["warnings"])
        state.write_text("{}")
        assert one.finished(wide)["state"] == "succeeded"
    finally:
        one.close()


def test_a_driver_that_is_silent_at_the_start_is_asked_again(tmp_path):
    state = tmp_path / "gpus.json"
    one = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "1",
        env={"LEPTOND_GPUS__STATE_FILE": str(state), "LEPTOND_GPUS__SAMPLE_S": "0.2"},
    )
    one.start()
    one.terminate()
    state.write_text('{"hang": true}')
    one.start()
    try:
        job = one.submit("true", gpus=1)
        assert one.job(job)["reason"] == "GpuUnhealthy"
        assert one.finished(one.submit("true"))["state"] == "succeeded", "others go on"
        state.write_text("{}")
        assert one.finished(job)["state"] == "succeeded"
    finally:
        one.close()
