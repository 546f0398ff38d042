"""Which jobs share a warm process, and which of them are kept."""

from leptond.core.warm_start import (
    WarmProcess,
    base_environment,
    environment_key,
    processes_to_stop,
)


def test_jobs_share_a_process_unless_they_differ_in_what_is_read_unseen():
    one = {"SEED": "1", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "GPU-1", "TORCHELASTIC_ERROR_FILE": "/a"}
    two = {"SEED": "2", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "GPU-2", "TORCHELASTIC_ERROR_FILE": "/b"}
    assert environment_key("/p", one) == environment_key("/p", two)
    assert environment_key("/p", one) != environment_key("/q", one)
    for name in ("OMP_NUM_THREADS", "TORCH_LOGS", "LC_ALL", "NCCL_DEBUG", "PYTHONPATH", "TZ"):
        assert environment_key("/p", one) != environment_key("/p", {**one, name: "4"}), name
    assert base_environment({**one, "LEPTOND_JOB_ID": "7"}) == {
        "SEED": "1",
        "HOME": "/h",
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_the_longest_unused_goes_first():
    stands = [
        WarmProcess(key=name, used_at=at, size_bytes=10) for name, at in (("b", 20), ("a", 10), ("c", 30))
    ]
    wide = {"now": 31.0, "idle_s": 100.0, "most": 9, "most_bytes": 1000}
    assert processes_to_stop(stands, **wide) == []
    assert processes_to_stop(stands, **{**wide, "most": 2}) == ["a"]
    assert processes_to_stop(stands, **{**wide, "most_bytes": 10}) == ["a", "b"]
    assert processes_to_stop(stands, **{**wide, "idle_s": 15.0}) == ["a"]
    assert processes_to_stop(stands, **{**wide, "most_bytes": 5}) == ["a", "b", "c"]
