"""What submit sends, and that its line can be had back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.usage import UsageError
from leptond.cli.commands import submit as submit_module
from leptond.cli.commands.submit import submit_command
from leptond.cli.framework import refs
from leptond.cli.framework.click_bridge import as_click
from leptond.cli.framework.session import Session
from leptond.client import job_spec
from leptond.core.jobs import resubmit
from leptond.core.jobs.model import JobSpec
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, ended, make_job, page, problem, submitted

SH = "/bin/sh"


@pytest.fixture(autouse=True)
def path(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with one program on it."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


@pytest.fixture
def sent(cli: Cli, stub: Stub):
    """`sent("-g", "2", "true")` is the body that arrives at the daemon; it must be a valid spec."""
    stub.on("POST", "/v1/jobs", submitted())

    def call(*words: str) -> dict[str, Any]:
        result = cli("submit", *words)
        assert result.code == 0, result.err
        body: dict[str, Any] = stub.of("POST", "/v1/jobs")[-1].body
        msgspec.convert(body, JobSpec)
        return body

    return call


def test_a_plain_command_runs_here_with_the_program_that_path_finds(sent, path: Path):
    body = sent("python", "train.py", "--lr", "3")
    assert body == {
        "argv": [str(path / "python"), "train.py", "--lr", "3"],
        "cwd": str(Path.cwd()),
        "env": {"PATH": os.environ["PATH"]},
    }, "what is not said is the daemon's to decide"


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["-g", "2"], "gpus", 2),
        (["--gpus", "0"], "gpus", 0),
        (["--gpu-type", "h100"], "gpus", 1),
        (["--gpus=4"], "gpus", 4),
        (["-t", "2h"], "time_limit_s", 7200),
        (["--time", "45"], "time_limit_s", 2700),
        (["-t", "1-12:00:00"], "time_limit_s", 129600),
        (["-p", "-5"], "priority", -5),
        (["-n", "big"], "name", "big"),
        (["--project", "p"], "project", "p"),
        (["--label", "a=b", "--label", "c="], "labels", {"a": "b", "c": ""}),
        (["--retries", "3"], "retries", 3),
        (["--retries", "0"], "retries", 0),
        (["--retry-delay", "30"], "retry_delay_s", 30),
        (["--retry-max-delay", "10m"], "retry_max_delay_s", 600),
        (["--retry-on", "75,SIGSEGV", "--retry-on", "timeout"], "retry_on", ["75", "SIGSEGV", "timeout"]),
        (["--no-retry-on", "1"], "no_retry_on", ["1"]),
        (["--no-requeue"], "requeue", False),
        (["--no-fail-fast"], "fail_fast", False),
        (["--fail-fast"], "fail_fast", True),
        (["--array", "0-9%4"], "array", "0-9%4"),
        (["--grace", "120"], "grace_s", 120),
        (["--grace", "0"], "grace_s", 0),
        (["--signal", "USR1@120"], "warn_signal", {"signal": "USR1", "before_s": 120}),
        (["--signal", "B:USR1@9"], "warn_signal", {"signal": "USR1", "before_s": 9, "batch": True}),
        (["--begin", "2026-12-24T18:00:00Z"], "begin_at", "2026-12-24T18:00:00Z"),
        (["--hold"], "hold", True),
        (["--log-max", "64M"], "log_max_bytes", 64 << 20),
        (["-C", "/tmp"], "cwd", "/tmp"),
    ],
)
def test_each_option_has_its_field(sent, words, field, value):
    assert sent(*words, "--", "true")[field] == value


def test_options_behind_the_command_belong_to_the_command(sent):
    assert sent("-g", "1", "true", "-g", "8", "--json", "--", "x")["argv"][1:] == [
        "-g",
        "8",
        "--json",
        "--",
        "x",
    ]


def test_a_shell_job_is_one_string(sent, cli: Cli):
    body = sent("--shell", "python train.py && echo done")
    assert (body["argv"], body["shell"]) == (["python train.py && echo done"], True)
    refused = cli("submit", "--shell", "echo", "a")
    assert refused.code == 2
    assert "quotes" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ["-g", "many", "true"],
        ["-t", "soon", "true"],
        ["-t", "0", "true"],
        ["--signal", "KILL@1", "true"],
        ["--begin", "someday", "true"],
        ["--log-max", "big", "true"],
        ["--label", "a", "true"],
        ["-e", "NOT_SET_ANYWHERE", "true"],
        ["--export", "NOT_SET_ANYWHERE", "true"],
        ["--user", "bo", "true"],
        ["--after", "afterwards:4", "true"],
        [],
    ],
)
def test_what_makes_no_sense_is_a_usage_error_and_sends_nothing(cli: Cli, stub: Stub, words):
    assert cli("submit", *words).code == 2
    assert stub.asked == []


# -- environment ---------------------------------------------------------------------------------------


def test_the_environment_that_is_active_travels_and_the_rest_does_not(sent, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/venv")
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("SECRET", "x")
    assert set(sent("true")["env"]) == {"PATH", "VIRTUAL_ENV", "CONDA_PREFIX"}
    assert "env" not in sent("--export", "NONE", "true")
    assert sent("--export", "SECRET", "true")["env"]["SECRET"] == "x"
    assert sent("-e", "SECRET", "-e", "A=b=c", "--export", "none", "true")["env"] == {
        "SECRET": "x",
        "A": "b=c",
    }


def test_export_all_leaves_out_what_leptond_sets_itself(sent, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "MASTER_PORT", "LEPTOND_JOB_ID", "PWD", "MINE", "BASH_FUNC_x%%"):
        monkeypatch.setenv(name, "v")
    env = sent("--export", "ALL", "true")["env"]
    assert env["MINE"] == "v"
    assert not {"CUDA_VISIBLE_DEVICES", "MASTER_PORT", "LEPTOND_JOB_ID", "PWD", "BASH_FUNC_x%%"} & set(env)


def test_bytes_that_are_no_text_are_refused_by_name(cli: Cli, stub: Stub, sent, monkeypatch):
    monkeypatch.setitem(os.environ, "ODD", os.fsdecode(b"\xff"))
    for words in (
        ["-e", "ODD", "true"],
        ["true", os.fsdecode(b"a\xff")],
        ["-C", os.fsdecode(b"/\xff"), "true"],
    ):
        result = cli("submit", *words)
        assert result.code == 2
        assert "not UTF-8" in result.err
    assert stub.asked == []
    assert "ODD" not in sent("--export", "ALL", "true")["env"]


# -- programs and scripts ------------------------------------------------------------------------------


def write(name: str, text: str, mode: int = 0o644) -> str:
    file = Path(name)
    file.write_text(text)
    file.chmod(mode)
    return str(file.absolute())


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_shell_script_is_sent_as_it_is_now(sent, mode):
    script = write("job.sh", "#!/usr/bin/env -S bash -e\necho hi\n", mode)
    body = sent("./job.sh", "arg")
    assert body["argv"] == [script, "arg"]
    assert body["script"] == "#!/usr/bin/env -S bash -e\necho hi\n"
    assert body["name"] == "job.sh"


def test_a_script_behind_its_interpreter_is_not_copied(sent):
    write("job.sh", "echo hi\n")
    body = sent("--", SH, "job.sh")
    assert body["argv"] == [SH, "job.sh"]
    assert "script" not in body


def test_an_executable_of_another_language_is_the_program(sent):
    script = write("go", "#!/usr/bin/python3\n", 0o755)
    body = sent("./go", "x")
    assert (body["argv"], body.get("script")) == ([script, "x"], None)


def test_a_daemon_that_keeps_no_scripts_gets_the_file_and_the_user_a_word(cli: Cli, stub: Stub):
    script = write("job.sh", "echo hi\n")
    refusal = {
        "title": "The request is not valid",
        "status": 422,
        "detail": "Object contains unknown field `script`",
    }
    stub.on("POST", "/v1/jobs", Answer(refusal, status=422), submitted())
    result = cli("submit", "job.sh")
    assert result.code == 0
    assert "keeps no copy" in result.err
    assert stub.asked[-1].body["argv"] == [SH, script]
    assert "script" not in stub.asked[-1].body


def test_from_a_directory_that_is_gone(cli: Cli, stub: Stub, tmp_path: Path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["submit", "--", "true"], ["run", "--", "true"], ["sweep", "--grid", "a=1", "--", "true"]):
        result = cli(*words)
        assert result.code == 2
        assert "the directory you are in cannot be used" in result.err
    assert stub.asked == []
    stub.on("POST", "/v1/jobs", submitted())
    assert cli("submit", "-C", "/", "--", "true").code == 0
    monkeypatch.chdir("/")


def test_a_relative_program_is_looked_for_where_the_job_runs(sent):
    Path("sub").mkdir()
    script = write("sub/go", "#!/bin/sh\n", 0o755)
    assert sent("-C", "sub", "./go")["argv"] == [script]


def test_a_python_file_alone_is_refused_with_the_right_line(cli: Cli, stub: Stub):
    write("train.py", "print(1)\n")
    result = cli("submit", "train.py")
    assert result.code == 2
    assert "python train.py" in result.err


def test_an_unknown_program_is_sent_as_it_is(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", submitted())
    result = cli("submit", "no-such-program")
    assert result.code == 0
    assert stub.asked[-1].body["argv"] == ["no-such-program"]


def test_directives_in_a_script_are_options_that_the_command_line_overrules(sent):
    write(
        "job.sh",
        "#!/bin/sh\n# a comment\n#LEPTON --gpus 2 --time '1:30:00'  # two\n\n#LEPTON -n from-file\n"
        "echo\n#LEPTON --gpus 9\n",
    )
    body = sent("-n", "mine", "job.sh", "--gpus", "5")
    assert (body["gpus"], body["time_limit_s"], body["name"]) == (2, 5400, "mine")
    assert body["argv"][1:] == ["--gpus", "5"]
    assert "gpus" not in sent("--no-directives", "job.sh")


def test_a_bad_directive_is_a_usage_error(cli: Cli, stub: Stub):
    write("job.sh", "#LEPTON --gpus 'two\n")
    assert cli("submit", "job.sh").code == 2
    write("job.sh", "#LEPTON --no-such-option\n")
    assert cli("submit", "job.sh").code == 2
    assert stub.asked == []


# -- dependencies --------------------------------------------------------------------------------------


def test_dependencies_take_lists_members_arrays_names_and_slurms_form(sent, stub: Stub):
    stub.job(id=12)
    stub.job(id=13)
    stub.job(id=47, ref="47_0", array_id=47, array_index=0)
    stub.on("GET", "/v1/jobs", page(make_job(id=99)))
    body = sent("-d", "12,47_3", "-d", "47", "--after-any", "prep", "--after-fail", "@last,47_*", "true")
    assert body["after"] == ["12", "47_3", "47_*"]
    assert body["after_any"] == ["99"]
    assert body["after_fail"] == ["99", "47_*"]
    assert [asked.query for asked in stub.of("GET", "/v1/jobs")] == [
        {"name": "prep", "limit": "5"},
        {"user": refs.me(), "limit": "5"},
    ]
    slurm = sent("-d", "afterok:12:13,afternotok:47_1", "true")
    assert (slurm["after"], slurm["after_fail"]) == (["12", "13"], ["47_1"])


# -- answers -------------------------------------------------------------------------------------------


def test_submit_says_the_number_once_and_the_id_alone_when_asked(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", submitted())
    assert cli("submit", "true").out == "Submitted job 47\n"
    assert cli("submit", "-q", "true").out == "47\n"
    stub.on("POST", "/v1/jobs", submitted(47, ids=[47, 48], array_id=47))
    assert cli("submit", "--array", "0-1", "true").out == "Submitted array 47 (2 jobs)\n"
    assert cli("submit", "-q", "--array", "0-1", "true").out == "47\n"


def test_each_submit_has_a_key_of_its_own(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", Answer(broken=True), submitted())
    assert cli("submit", "true").code == 0
    assert cli("submit", "true").code == 0
    keys = [asked.headers["idempotency-key"] for asked in stub.asked]
    assert keys[0] == keys[1] != keys[2]


def test_warnings_go_to_standard_error(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", submitted(47, warnings=["the directory is\x1b[2J not there"]))
    result = cli("submit", "-q", "true")
    assert result.out == "47\n"
    assert result.err == "leptonctl: the directory is[2J not there\n".replace("[2J", "[2J")


def test_a_refusal_says_what_and_what_next(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", problem(422, "the job asks for 9 GPUs", hint="lower --gpus"))
    result = cli("submit", "-g", "9", "true")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == ["leptonctl: the job asks for 9 GPUs", "  lower --gpus"]


def test_submit_can_wait(cli: Cli, stub: Stub):
    from leptond.core.jobs.model import State

    stub.on("POST", "/v1/jobs", submitted())
    stub.on("GET", "/v1/jobs/47", ended(State.FAILED, exit_code=9))
    result = cli("submit", "-q", "--wait", "true")
    assert (result.code, result.out) == (9, "47\n")


def test_a_contact_from_the_command_line_or_the_script(sent, tmp_path: Path):
    assert sent("--contact", "Ana, #night", "true")["contact"] == "Ana, #night"
    assert "contact" not in sent("true")
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n#SBATCH --mail-user=ana@example.org\ntrue\n")
    assert sent(str(script))["contact"] == "ana@example.org"
    script.write_text("#!/bin/sh\n#LEPTON --contact bo\n#SBATCH --mail-user=ana@example.org\ntrue\n")
    assert sent(str(script))["contact"] == "bo"
    assert sent("--contact", "cy", str(script))["contact"] == "cy"


# -- and back again ------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
seconds = st.floats(0.001, 86400).map(lambda s: round(s, 3))
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
specs = st.fixed_dictionaries(
    {"argv": st.lists(words, min_size=1, max_size=4)},
    optional={
        "gpus": st.integers(1, 8),
        "priority": st.integers(-1000, 1000).filter(bool),
        "name": names,
        "project": names,
        "labels": st.dictionaries(names, words, min_size=1, max_size=2),
        "time_limit_s": seconds,
        "grace_s": st.just(0.0) | seconds,
        "warn_signal": st.fixed_dictionaries({"signal": st.just("USR1"), "before_s": seconds}),
        "retries": st.integers(0, 9),
        "retry_delay_s": seconds,
        "retry_max_delay_s": seconds,
        "retry_on": st.lists(st.sampled_from(["75", "SIGSEGV", "timeout"]), min_size=1, max_size=2),
        "no_retry_on": st.just(["1"]),
        "requeue": st.just(False),
        "fail_fast": st.just(False),
        "after": st.just(["12_3", "13_*"]),
        "after_any": st.just(["14_1"]),
        "hold": st.just(True),
        "begin_at": st.just("2026-12-24T18:00:00Z"),
        "log_max_bytes": st.integers(65536, 1 << 40),
        "env": st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), words, min_size=1),
    },
)


@given(specs)
def test_the_line_that_show_prints_makes_the_same_job_again(given_spec):
    wanted = {"gpus": 0, **given_spec, "cwd": "/nowhere/at all"}
    # as submit stores it: a program that was found has its full path
    wanted["argv"] = [f"/nowhere/{wanted['argv'][0]}", *wanted["argv"][1:]]
    line = resubmit.words(wanted, name=wanted.get("name", "job"))
    context = as_click(submit_command).make_context("submit", line[1:], resilient_parsing=False)
    params = {k: v for k, v in context.params.items() if k not in ("parsable", "wait_for_it")}
    body = submit_module.job_spec(_Silent(), params)
    assert body == {"name": "job", **wanted}


class _Silent(Session):
    def say(self, message: str) -> None:
        pass


@given(st.lists(words, min_size=1, max_size=4))
def test_a_shell_reads_quoted_words_back(some):
    line = " ".join(map(resubmit.quote, some))
    assert all(char.isprintable() or not char.isascii() for char in line)
    if line.isprintable() and "$'" not in line:
        assert shlex.split(line) == some


def test_bash_reads_control_characters_back():
    some = ["a\nb", "\x1b[31m", "it's\x07", "\x9b", "\\n\t", "é\x01"]
    program = [sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))"]
    line = " ".join(map(resubmit.quote, [*program, *some]))
    shown = subprocess.run(
        ["bash", "-c", line], capture_output=True, check=True, text=True, env={"LANG": "C.UTF-8"}
    )
    assert shown.stdout.strip() == ascii(some)


def test_secrets_that_the_api_hides_are_taken_from_the_shell_again():
    line = resubmit.line({"argv": ["true"], "env": {"API_KEY": "***", "A": "b"}}, name="x")
    assert "--env API_KEY --env A=b" in line


def test_a_variable_that_is_not_set_cannot_be_copied():
    with pytest.raises(UsageError, match="not set here"):
        job_spec.build_env({}, None, ["MISSING"])


def test_nproc_runs_a_python_script_as_ranks(sent, cli: Cli):
    for words, tail in (
        (("-g", "4", "--nproc", "auto", "python", "train.py", "--lr", "3"), ["train.py", "--lr", "3"]),
        (("--nproc", "4", "python", "-u", "-m", "a.b", "x"), ["-m", "a.b", "x"]),
    ):
        argv = sent(*words)["argv"]
        assert argv[0].endswith("/python")
        assert argv[1:7] == ["-m", "torch.distributed.run", "--nproc-per-node", "4", "--max-restarts", "0"]
        assert argv[7:] == tail
    for words in (
        ("--nproc", "auto", "python", "train.py"),  # no GPUs
        ("--nproc", "0", "python", "train.py"),
        ("--nproc", "x", "python", "train.py"),
        ("--nproc", "2", "true"),
        ("--nproc", "2", "python"),
        ("--nproc", "2", "python", "-c", "pass"),
        ("--nproc", "2", "--shell", "python train.py"),
    ):
        assert cli("submit", *words).code == 2, words
