"""A job's life on a real daemon: starts, ends, retries, limits, dependencies, arrays."""

import json
import sys
import time

import pytest

PYTHON = sys.executable


def test_a_job_gets_its_gpus_and_its_environment(daemon):
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    job = daemon.submit(PYTHON, "-c", show, gpus=2, env={"MINE": "1"}, name="env", time_limit_s=60)
    done = daemon.finished(job)
    assert (done["state"], done["exit_code"], done["class"]) == ("succeeded", 0, "ok")
    env = json.loads(daemon.output(job))
    uuids = [gpu["uuid"] for gpu in done["attempts"][0]["gpus"]]
    assert env["CUDA_VISIBLE_DEVICES"] == ",".join(uuids)
    assert len(uuids) == 2
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["MINE"] == "1"
    assert (env["LEPTOND_JOB_ID"], env["LEPTOND_JOB_NAME"], env["LEPTOND_ATTEMPT"]) == (str(job), "env", "1")
    assert env["LEPTOND_GPU_IDS"] == "0,1"
    assert env["LEPTOND_RESUME"] == "0"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "45"
    assert 1024 < int(env["MASTER_PORT"]) < 65536
    assert abs(float(env["LEPTOND_DEADLINE"]) - time.time() - 60) < 60
    assert not any(name.startswith("SLURM_") for name in env)
    assert "PYTHONPATH" not in env, "the daemon's own environment does not pass"
    assert done["gpu_seconds"] > 0


def test_a_job_without_gpus_sees_none(daemon):
    script = 'echo "$CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER"'
    numbers = daemon.submit("sh", "-c", script, gpus=2, cuda_devices="index")
    assert daemon.finished(numbers)["cuda_devices"] == "index"
    assert daemon.output(numbers) == "0,1 PCI_BUS_ID\n"
    again = daemon.get(f"/v1/jobs/{numbers}").json["resubmit"]
    assert "--cuda-devices index" in again
    job = daemon.submit("sh", "-c", 'echo "[$CUDA_VISIBLE_DEVICES]${CUDA_VISIBLE_DEVICES-unset}"')
    daemon.finished(job)
    assert daemon.output(job) == "[]\n"


@pytest.mark.parametrize(
    ("argv", "spec", "state", "cause"),
    [
        (["sh", "-c", "exit 7"], {}, "failed", "user"),
        (["no-such-command-here"], {}, "failed", "config"),
        (["true"], {"cwd": "/no/such/place"}, "failed", "config"),
        (["/dev/null"], {}, "failed", "config"),
        (["sh", "-c", "exit 2"], {"retries": 3}, "failed", "config"),
        (["sh", "-c", "kill -SEGV $$"], {}, "failed", "signal"),
        (["echo $((6*7)) | tr -d '\\n'"], {"shell": True}, "succeeded", "ok"),
    ],
)
def test_ends_are_told_apart(daemon, argv, spec, state, cause):
    done = daemon.finished(daemon.submit(*argv, **spec))
    assert (done["state"], done["class"]) == (state, cause)
    assert done["attempt"] == 1
    assert done["attempts"][0]["rule"]
    assert done["explanation"]


def test_arguments_arrive_byte_for_byte(daemon):
    words = ["$(touch x)", "a b", "*", "é\u2028\n", "-n", "'\"\\"]
    job = daemon.submit(PYTHON, "-c", "import sys; print(ascii(sys.argv[1:]))", *words)
    daemon.finished(job)
    assert daemon.output(job).strip() == ascii(words)


def test_a_failure_is_retried_after_a_backoff_and_can_resume(daemon, tmp_path):
    script = (
        'd="$LEPTOND_CHECKPOINT_DIR/n"; n=$(cat $d 2>/dev/null || echo 0); '
        'echo "resume=$LEPTOND_RESUME n=$n"; echo $((n+1)) > $d; [ $n -ge 2 ]'
    )
    begin = time.time()
    job = daemon.submit("sh", "-c", script, retries=3, retry_delay_s=0.4, gpus=1)
    done = daemon.finished(job)
    assert done["state"] == "succeeded"
    assert [one["class"] for one in done["attempts"]] == ["user", "user", "ok"]
    assert [daemon.output(job, n) for n in (1, 2, 3)] == [
        "resume=0 n=0\n",
        "resume=1 n=1\n",
        "resume=1 n=2\n",
    ]
    # between a half and all of 0.4 s, then of 0.8 s
    assert time.time() - begin >= 0.2 + 0.4


def test_a_job_in_backoff_says_so_and_can_be_hurried(daemon):
    job = daemon.submit("sh", "-c", "test $LEPTOND_ATTEMPT = 2", retries=1, retry_delay_s=3600)
    deadline = time.monotonic() + 60
    while daemon.job(job)["reason"] != "Backoff":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    why = daemon.get(f"/v1/jobs/{job}/why").json
    assert "retry in" in why["sentence"]
    assert daemon.post(f"/v1/jobs/{job}/retry").status == 200
    assert daemon.finished(job)["state"] == "succeeded"


def test_the_limit_signals_then_kills(daemon):
    polite = (
        "import signal,sys,time; signal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(0)));"
    )
    rude = "import signal,time; signal.signal(15, signal.SIG_IGN);"
    wait = "print('up', flush=True); time.sleep(600)"
    one = daemon.submit(PYTHON, "-c", polite + wait, time_limit_s=2, grace_s=50)
    two = daemon.submit(PYTHON, "-c", rude + wait, time_limit_s=2, grace_s=0.5)
    saved, killed = daemon.finished(one), daemon.finished(two)
    assert (saved["state"], saved["exit_code"], saved["class"]) == ("timed_out", 0, "timeout")
    assert "saved" in daemon.output(one)
    assert (killed["state"], killed["signal"]) == ("timed_out", "SIGKILL")
    assert 2.0 <= saved["attempts"][0]["run_s"]
    assert 2.5 <= killed["attempts"][0]["run_s"]


def test_a_warning_signal_comes_before_the_limit(daemon):
    script = (
        "import signal,time; b=time.time(); "
        "signal.signal(signal.SIGUSR1, lambda *_: print('warned', round(time.time()-b,1), flush=True)); "
        "signal.signal(15, lambda *_: exit(0)); print('up', flush=True)\nwhile True: time.sleep(0.05)"
    )
    job = daemon.submit(
        PYTHON, "-c", script, time_limit_s=4, grace_s=5, warn_signal={"signal": "USR1", "before_s": 2}
    )
    assert daemon.finished(job)["state"] == "timed_out"
    assert "warned" in daemon.output(job)


def test_priority_then_order_of_submission(daemon, tmp_path):
    order = tmp_path / "order"
    blocker = daemon.submit("sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done", gpus=4)
    daemon.reached(blocker, "running")
    jobs = {
        name: daemon.submit("sh", "-c", f"echo {name} >> {order}", gpus=4, priority=priority)
        for name, priority in [("low", -5), ("first", 0), ("second", 0), ("high", 7)]
    }
    assert daemon.post(f"/v1/jobs/{jobs['low']}/cancel").status == 202
    listed = [job["id"] for job in daemon.get("/v1/jobs?order=queue").json["items"]]
    assert listed == [blocker, jobs["high"], jobs["first"], jobs["second"]]
    assert daemon.request("PATCH", f"/v1/jobs/{jobs['second']}", {"priority": 3}).status == 200
    (tmp_path / "go").touch()
    for name in ("high", "first", "second"):
        daemon.finished(jobs[name])
    assert order.read_text().split() == ["high", "second", "first"]


def test_dependencies(daemon):
    held = daemon.submit("true", hold=True)
    after_ok = daemon.submit("true", after=[str(held)])
    after_any = daemon.submit("true", after_any=[str(held)])
    after_fail = daemon.submit("true", after_fail=[str(held)])
    assert daemon.job(after_ok)["reason"] == "Dependency"
    assert daemon.post(f"/v1/jobs/{held}/release").status == 200
    assert daemon.finished(after_ok)["state"] == "succeeded"
    assert daemon.finished(after_any)["state"] == "succeeded"
    assert daemon.job(after_fail)["reason"] == "DependencyNeverSatisfied"
    failed = daemon.submit("false")
    assert daemon.finished(daemon.submit("true", after_fail=[str(failed)]))["state"] == "succeeded"
    assert daemon.post("/v1/jobs", {"argv": ["true"], "after": ["999999"]}).status == 422


def test_a_large_array_runs_to_its_last_member(daemon):
    """Members beyond the first get their rows while it runs, and after a restart too."""
    answer = daemon.post("/v1/jobs", {"argv": ["true"], "array": "0-159", "hold": True}).json
    array = answer["array_id"]
    assert daemon.get(f"/v1/arrays/{array}").json["counts"] == {"pending": 160}
    daemon.post(f"/v1/arrays/{array}/release")
    daemon.finished(f"{array}_3")
    daemon.kill()
    daemon.start()
    after = daemon.submit("true", after=[f"{array}_*"])
    assert daemon.finished(after)["state"] == "succeeded"
    assert daemon.get(f"/v1/arrays/{array}").json["counts"] == {"succeeded": 160}


def test_an_array_with_a_limit(daemon, tmp_path):
    script = (
        f"mkdir {tmp_path}/in.$LEPTOND_ARRAY_INDEX; ls -d {tmp_path}/in.* | wc -l >> {tmp_path}/most; "
        f"sleep 0.1; rmdir {tmp_path}/in.$LEPTOND_ARRAY_INDEX"
    )
    answer = daemon.post("/v1/jobs", {"argv": ["sh", "-c", script], "array": "0-7%2"}).json
    assert len(answer["ids"]) == 8
    assert answer["array_id"] == answer["id"] == answer["ids"][0]
    after = daemon.submit("true", after=[f"{answer['array_id']}_*"])
    assert daemon.finished(after)["state"] == "succeeded"
    third = daemon.get(f"/v1/jobs/{answer['array_id']}_3").json
    assert (third["array_index"], third["state"]) == (3, "succeeded")
    assert max(int(line) for line in (tmp_path / "most").read_text().split()) <= 2


def test_begin_time(daemon):
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    job = daemon.submit("true", begin_at=later)
    assert daemon.job(job)["reason"] == "BeginTime"
    assert daemon.request("PATCH", f"/v1/jobs/{job}", {"begin_at": None}).status == 200
    assert daemon.finished(job)["state"] == "succeeded"


def test_a_drained_gpu_gets_no_job(daemon):
    assert daemon.post("/v1/gpus/0/drain", {"reason": "fan"}).json["schedulable"] is False
    wide = daemon.submit("true", gpus=4)
    narrow = daemon.submit("true", gpus=1)
    assert [gpu["index"] for gpu in daemon.finished(narrow)["attempts"][0]["gpus"]] == [1]
    assert daemon.job(wide)["reason"] == "Draining"
    assert "fan" in daemon.job(wide)["reason_detail"]
    daemon.post("/v1/gpus/0/undrain")
    assert daemon.finished(wide)["state"] == "succeeded"


def test_a_retry_is_a_copy_that_shares_the_checkpoints(daemon):
    script = 'echo "$LEPTOND_RESUME" >> $LEPTOND_CHECKPOINT_DIR/x; cat $LEPTOND_CHECKPOINT_DIR/x; exit 3'
    first = daemon.finished(daemon.submit("sh", "-c", script))
    again = daemon.post(f"/v1/jobs/{first['id']}/retry")
    assert again.status == 201
    second = daemon.finished(again.json["id"])
    assert second["retry_of"] == first["id"]
    assert second["checkpoint_dir"] == first["checkpoint_dir"]
    assert daemon.output(second["id"]) == "0\n1\n"
    assert daemon.job(first["id"])["state"] == "failed"
    before = daemon.get("/v1/status").json["counts"]
    assert daemon.post(f"/v1/jobs/{first['id']}/retry", {"gpus": 99}).status == 422
    assert daemon.get("/v1/status").json["counts"] == before, "a change that is refused makes no copy"
    third = daemon.post(f"/v1/jobs/{first['id']}/retry", {"time_limit_s": 7200, "priority": 5}).json["id"]
    assert (daemon.job(third)["time_limit_s"], daemon.job(third)["priority"]) == (7200, 5)


def test_a_log_larger_than_its_budget_keeps_head_and_tail(daemon):
    script = "for i in range(60000): print(f'line {i:06d}')"
    job = daemon.submit(PYTHON, "-c", script, log_max_bytes=65536)
    done = daemon.finished(job)
    assert done["state"] == "succeeded"
    attempt = done["attempts"][0]
    assert attempt["log_bytes"] == 60000 * 12
    assert attempt["log_dropped_bytes"] > 0
    out = daemon.output(job)
    assert out.startswith("line 000000\n")
    assert out.endswith("line 059999\n")
    assert "bytes of output were not kept" in out
    files = list((daemon.state_dir / "jobs" / str(job) / "1").glob("output*.log"))
    assert sum(file.stat().st_size for file in files) <= 65536
    tail = daemon.get(f"/v1/jobs/{job}/log?tail=3").data.decode()
    assert tail == "line 059997\nline 059998\nline 059999\n"


def test_a_cancel_during_the_grace_of_a_limit_is_carried_out(daemon):
    stubborn = (
        "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    job = daemon.submit(PYTHON, "-c", stubborn, time_limit_s=1, grace_s=500, retries=3, retry_on=["timeout"])
    daemon.reached(job, "stopping")
    assert daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0}).status == 202
    done = daemon.finished(job)
    assert (done["state"], done["class"], done["attempt"]) == ("timed_out", "timeout", 1)
    assert done["attempts"][0]["signal"] == "SIGKILL"
