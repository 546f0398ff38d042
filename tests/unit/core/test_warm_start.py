"""Whether a job may start warm, and what is kept for it."""

import pytest

from leptond.core.warm_start import (
    Command,
    WarmProcess,
    base_environment,
    environment_key,
    parse_command,
    processes_to_stop,
)


@pytest.mark.parametrize(
    ("argv", "how", "target", "args"),
    [
        (["python", "train.py", "-m", "x"], "script", "train.py", ["-m", "x"]),
        (["/v/bin/python3.12", "-m", "pkg.train", "--lr=1"], "module", "pkg.train", ["--lr=1"]),
        (["python3", "-u", "-c", "print(1)", "-O"], "code", "print(1)", ["-O"]),
    ],
)
def test_calls_of_python(argv, how, target, args):
    found = parse_command(argv, {"PYTHONUNBUFFERED": "1"})
    assert found == Command(python=argv[0], how=how, target=target, args=args)


@pytest.mark.parametrize(
    ("argv", "env", "why"),
    [
        (["/bin/sh", "-c", "python train.py"], {}, "not a Python"),
        (["python-config"], {}, "not a Python"),
        (["/usr/bin/torchrun", "train.py"], {}, "starts its workers itself"),
        (["python", "-m", "torch.distributed.run", "t.py"], {}, "starts its workers itself"),
        (["venv/bin/python", "t.py"], {}, "relative path"),
        (["python"], {}, "standard input"),
        (["python", "-"], {}, "standard input"),
        (["python", "-O", "t.py"], {}, "option -O"),
        (["python", "-Xdev", "t.py"], {}, "option -Xdev"),
        (["python", "-u", "t.py"], {}, "option -u"),
        (["python", "-c"], {}, "nothing follows -c"),
        (["python", "t.py"], {"LD_PRELOAD": "x.so"}, "LD_PRELOAD"),
        (["python", "t.py"], {"PYTHONMALLOC": "debug"}, "PYTHONMALLOC"),
        (["python", "t.py"], {"PYTHONPATH": "/a:b"}, "relative part"),
    ],
)
def test_what_starts_cold(argv, env, why):
    found = parse_command(argv, env)
    assert isinstance(found, str)
    assert why in found


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
