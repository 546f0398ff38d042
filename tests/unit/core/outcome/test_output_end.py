"""The error that ended a job is told from those that it survived, and from what launchers say after it."""

# ruff: noqa: E501 - output as programs print it

import signal
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptond.core.outcome.classify import EARLIER, LOG_TAIL_BYTES, classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.outcome.output_end import SENTENCE_CHARS, UNIT_CHARS, Child, read_end


def trace(error, file="/home/ana/train.py"):
    return (
        f'Traceback (most recent call last):\n  File "{file}", line 88, in <module>\n    main()\n'
        f'  File "{file}", line 12, in main\n    step()\n    ^^^^^^\n{error}\n'
    )


def logged(error):
    return f"ERROR:root:going on without it\n{trace(error)}"


TORCHRUN = """W1130 16:50:31.041 10874 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 10921 closing signal SIGTERM
E1130 16:50:31.043 10874 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {code}) local_rank: 1 (pid: 10922) of binary: /usr/bin/python
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/lib/torch/distributed/run.py", line 1032, in <module>
    main()
  File "/lib/torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:{space}
=======================================================
train.py FAILED
-------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-30_16:50:31
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 10921)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 10921
-------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_16:50:31
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 10922)  (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 10922
=======================================================
"""


def torchrun(code):
    return TORCHRUN.format(code=code, space=" ")


ENDS = [
    ("a traceback", "step 1\n" + trace("KeyError: 'x'"), "KeyError: 'x'"),
    ("one without a message", trace("AssertionError"), "AssertionError"),
    ("an exception with a name of its own", trace("pkg.Diverged: at step 3"), "pkg.Diverged: at step 3"),
    ("a survived one before it", logged("ImportError: apex") + trace("OSError: gone"), "OSError: gone"),
    ("a printed line before it", "CUDA out of memory: halving\n" + trace("OSError: x"), "OSError: x"),
    ("only a survived one", logged("ImportError: apex") + "epoch 1\n" * 9, None),
    ("a printed line long before", "fatal: trying again\nepoch 1\nepoch 2\n", None),
    ("a syntax error", '  File "x.py", line 1\n    a b\n      ^\nSyntaxError: bad', "SyntaxError: bad"),
    ("a chain", trace("KeyError: 1") + "\nDuring handling of the above exception, another exception"
     " occurred:\n\n" + trace("RuntimeError: cannot go on"), "RuntimeError: cannot go on"),
    ("a tracker behind it", trace("ValueError: nan") + "wandb: \nwandb: View run at https://x/y\n",
     "ValueError: nan"),
    ("a bar behind it", trace("ValueError: nan") + "\r 30%|###   | 3/10 [00:01<00:02]\n", "ValueError: nan"),
    ("a destructor behind it", trace("ValueError: nan") + "Exception ignored in: <function X.__del__>\n"
     + trace("TypeError: 'NoneType'"), "ValueError: nan"),
    ("a message of several lines", trace("RuntimeError: in loading state_dict for Net:\n\tsize mismatch"),
     "RuntimeError: in loading state_dict for Net:"),
    ("a CUDA error", trace("torch.AcceleratorError: CUDA error: unspecified launch failure\nCUDA kernel errors might"
     " be asynchronously reported\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
     "Compile with `TORCH_USE_CUDA_DSA`\n"), "torch.AcceleratorError: CUDA error: unspecified launch failure"),
    ("a group", "  + Exception Group Traceback (most recent call last):\n  |   File \"x.py\", line 1, in <module>\n"
     "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n  +-+---------------- 1 -------\n"
     "    | Traceback (most recent call last):\n    |   File \"x.py\", line 5, in f\n    | ValueError: inner\n"
     "    +------------------------------------\n", "ValueError: inner"),
    ("C++", "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no device\n", None),
    ("a missing script", "python: can't open file '/w/trian.py': [Errno 2] No such file or directory\n",
     "python: can't open file '/w/trian.py': [Errno 2] No such file or directory"),
    ("a program by its path", "/opt/env/bin/python3: No module named nope\n", "python3: No module named nope"),
    ("argparse", "usage: t.py [-h] --lr LR\nt.py: error: the following arguments are required: --lr\n",
     "t.py: error: the following arguments are required: --lr"),
    ("click", "Usage: t [OPTIONS]\nTry 't --help' for help.\n\nError: No such option: --x\n", "Error: No such option: --x"),
    ("a box", "╭─ Error ─────╮\n│ No such option: --x  │\n╰─────────────╯\n", "No such option: --x"),
    ("fire", "ERROR: Could not consume arg: --foo\nUsage: t.py --lr=1\n\nFor detailed information on this command,"
     " run:\n  t.py --help\n", "ERROR: Could not consume arg: --foo"),
    ("a port", trace("OSError: [Errno 98] Address already in use"), "OSError: [Errno 98] Address already in use"),
    ("a shell around it", trace("OSError: x") + "make: *** [all] Error 1\n", "OSError: x"),
    ("a Python launcher around it", trace("OSError: x") + trace(
        "subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 1."), "OSError: x"),
    ("torchrun around it", trace("ValueError: no") + torchrun(1), "ValueError: no"),
    ("ranks with names", "[rank1]: " + trace("ValueError: first").strip().replace("\n", "\n[rank1]: ")
     + "\n[rank0]: " + trace("RuntimeError: peer").strip().replace("\n", "\n[rank0]: ") + "\n" + torchrun(1),
     "ValueError: first"),
    ("nothing", "", None),
    ("no error", "step 1\nstep 2\n", None),
    ("colours and control characters", "\x1b[31mfatal:\x00 no\x07 room\x1b[0m\r\n", "fatal: no room"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "line"), [one[1:] for one in ENDS if one[0] != "C++"],
                         ids=[one[0] for one in ENDS if one[0] != "C++"])  # fmt: skip
def test_the_line_that_ended_it(tail, line):
    assert read_end(tail).line == line


def test_a_cpp_program_says_what():
    tail = "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no device\n"
    assert read_end(tail).line == "no device"


@pytest.mark.parametrize("rows", ["epoch 1\n", "epoch 1\n" * 5])
def test_no_class_rests_on_what_other_output_follows(rows):
    tail = logged("ModuleNotFoundError: No module named 'apex'") + rows
    verdict = classify(Evidence(exit_code=1, run_s=100, log_tail=tail))
    assert verdict.cause == "user"
    assert EARLIER + "ModuleNotFoundError: No module named 'apex'" in verdict.evidence or rows == "epoch 1\n"


@pytest.mark.parametrize(
    "line",
    ["ModuleNotFoundError: No module named extra (using the slow path)", "CUDA out of memory: halving"],
)
def test_a_line_that_was_survived_is_a_hint(line):
    tail = line + "\n" + trace("ConnectionResetError: peer")
    verdict = classify(Evidence(exit_code=1, run_s=5, log_tail=tail))
    assert (verdict.cause, verdict.explanation) == (
        "user",
        "failed with exit code 1: ConnectionResetError: peer",
    )
    assert verdict.evidence[-1] == EARLIER + line
    alone = classify(Evidence(exit_code=1, run_s=500, log_tail=line + "\n", quiet_s=400.0))
    assert (alone.cause, alone.explanation) == ("user", "failed with exit code 1")


@pytest.mark.parametrize(
    "text", ["GPU has fallen off the bus", "all CUDA-capable devices: device unavailable"]
)
def test_only_the_driver_says_that_a_gpu_failed(text):
    verdict = classify(Evidence(exit_code=3, log_tail=text + "\n"))
    assert (verdict.cause, verdict.rule) == ("user", "exit-user")
    assert "the driver reports no fault" in verdict.explanation
    verdict = classify(Evidence(exit_code=3, log_tail=text + "\n", gpu_faults=["GPU-0: is lost"]))
    assert (verdict.cause, verdict.by_text) == ("infra-gpu", False)
    other = classify(Evidence(exit_code=3, log_tail=trace("KeyError: 1"), gpu_faults=["GPU-0: is lost"]))
    assert other.cause == "user"


LAUNCHED = [
    ("torchrun", 1, torchrun(-9), "rank 1", "SIGKILL"),
    ("an old torchrun", 1, torchrun(-9).partition("Traceback")[0], "rank 1", "SIGKILL"),
    ("accelerate", 1, trace("subprocess.CalledProcessError: Command '['x']' died with <Signals.SIGKILL: 9>."),
     "a process of the job", "SIGKILL"),
    ("spawn", 1, trace("torch.multiprocessing.spawn.ProcessExitedException: process 0 terminated with signal"
     " SIGKILL"), "a process of the job", "SIGKILL"),
    ("mpirun", 1, "mpirun noticed that process rank 0 with PID 0 on node a exited on signal 9 (Killed).\n",
     "a process of the job", "SIGKILL"),
    ("a data loader", 1, trace("RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed. "),
     "a process of the job", "SIGKILL"),
    ("torchrun that was told itself", 1,
     trace("torch.distributed.elastic.multiprocessing.api.SignalException: Process 12 got signal: 15"),
     "a process of the job", "SIGTERM"),
    ("a shell", 137, "train.sh: line 3: 12 Killed   python train.py\n", "a process of the job", "SIGKILL"),
    ("a Python launcher", 247, "", "a process of the job", "SIGKILL"),
    ("a shell that was told", 143, "", "a process of the job", "SIGTERM"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "tail", "who", "name"), [one[1:] for one in LAUNCHED],
                         ids=[one[0] for one in LAUNCHED])  # fmt: skip
def test_a_launcher_does_not_hide_the_death_of_its_child(code, tail, who, name):
    verdict = classify(Evidence(exit_code=code, run_s=100, log_tail=tail))
    assert (verdict.cause, verdict.rule, verdict.by_text) == ("external-kill", "killed-by-others", False)
    assert verdict.explanation == f"{who} was ended by {name}, which leptond did not send"


def test_the_exit_code_of_a_rank_is_that_of_the_job():
    tail = "usage: t.py [-h]\nt.py: error: unrecognized arguments: --x\n" + torchrun(2)
    assert read_end(tail).child == Child(who="rank 1", exit_code=2)
    assert classify(Evidence(exit_code=1, run_s=60, log_tail=tail)).rule == "exit-2-usage"
    crash = classify(Evidence(exit_code=1, run_s=60, log_tail=torchrun(-11)))
    assert (crash.cause, crash.explanation) == ("signal", "rank 1 crashed with SIGSEGV")
    hang = "[rank1]:[E1130] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)\n"
    assert classify(Evidence(exit_code=1, run_s=60, log_tail=hang + torchrun(-6))).cause == "hang"


def test_a_launchers_words_that_other_output_follows_are_no_end():
    tail = torchrun(-9) + "trying again\n" + "epoch 1\n" * 5
    assert read_end(tail).child is None


@pytest.mark.parametrize(("run_s", "cause"), [(0.3, "config"), (90.0, "config")])
def test_arguments_that_are_not_accepted_are_not_tried_again_however_late(run_s, cause):
    tail = "usage: t.py [-h]\nt.py: error: unrecognized arguments: --x\n"
    verdict = classify(Evidence(exit_code=2, run_s=run_s, log_tail=tail))
    assert verdict.cause == cause
    assert verdict.explanation == "t.py: error: unrecognized arguments: --x (exit code 2)"
    assert classify(Evidence(exit_code=2, run_s=90.0, log_tail="done\n")).cause == "user"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, None), (None, 128 + signal.SIGUSR1)])
def test_a_warning_that_leptond_sent_is_not_the_jobs_crash(number, code):
    seen = Evidence(signal=number, exit_code=code, warned_by=signal.SIGUSR1)
    assert (classify(seen).cause, classify(seen).rule) == ("timeout", "own-warning")
    assert classify(Evidence(signal=signal.SIGUSR1)).cause == "signal"
    assert classify(Evidence(signal=signal.SIGSEGV, warned_by=signal.SIGUSR1)).cause == "signal"


def test_a_kill_outweighs_what_was_printed_before_it():
    tail = trace("torch.OutOfMemoryError: CUDA out of memory")
    assert classify(Evidence(signal=signal.SIGKILL, log_tail=tail)).cause == "external-kill"


def test_secrets_are_not_quoted():
    tail = trace("RuntimeError: login with s3cr3t-value at https://me:pw@hub/x?api_key=abcd1234 failed")
    verdict = classify(Evidence(exit_code=1, log_tail=tail, secrets=["s3cr3t-value"]))
    assert verdict.explanation == (
        "failed with exit code 1: RuntimeError: login with *** at https://***@hub/x?api_key=*** failed"
    )
    assert "s3cr3t" not in str(verdict)


PARTS = st.sampled_from(
    [trace("KeyError: 1"), logged("ImportError: x"), torchrun(-9), "Traceback (most recent call last)", "fatal: x\n",
     "epoch 1\n", "\x1b[", "\x1b]0;", "\r", "\n", "\0", "  what():  ", "[rank1]: ", "usage: x\n", "=" * 90, "│ ", "+ ",
     "Exception ignored in: x\n", "Root Cause (first observed failure)\n", "  exitcode  : 99999999999999999999 (pid",
     "  rank      : 1 (", "\ufffd", "é", "x" * 5000]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(PARTS, st.text(max_size=40)), max_size=30).map("".join), st.integers(0, 255))
@example("[1]" * 20000, 1)
def test_any_output_is_read(tail, code):
    end = read_end(tail)
    assert end.line is None or 0 < len(end.line) <= SENTENCE_CHARS
    assert len(end.text) <= UNIT_CHARS
    verdict = classify(Evidence(exit_code=code, log_tail=tail))
    assert not any(char < " " or char == "\x7f" for char in verdict.explanation)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300), st.sampled_from([one for one in ENDS if one[2] and one[0] != "C++"]))
def test_what_was_printed_before_does_not_matter(before, end):
    assert read_end(before + "\nepoch 7\n" + end[1]).line == end[2]


@pytest.mark.parametrize(
    "piece", ["x", "=", "- ", "a.", "(", "\x1b[", "Error ", "3%|", "wandb", "  at\n", "Aa: x\n", "│\n"]
)
def test_the_work_is_bounded(piece):
    tail = (piece * LOG_TAIL_BYTES)[:LOG_TAIL_BYTES]
    begin = time.process_time()
    classify(Evidence(exit_code=1, log_tail=tail))
    assert time.process_time() - begin < 1.0
