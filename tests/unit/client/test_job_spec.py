"""From a command line to a job's spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptond.base.usage import UsageError
from leptond.client import job_spec
from leptond.core.jobs.scripts import MAX_SCRIPT_BYTES

HERE = {"PATH": "/bin", "HOME": "/h", "VIRTUAL_ENV": "/v", "TOKEN": "t", "LEPTOND_HOST": "x", "PWD": "/"}


@pytest.mark.parametrize(
    ("export", "settings", "env"),
    [
        (None, [], {"PATH": "/bin", "VIRTUAL_ENV": "/v"}),
        ("NONE", ["A=1=2"], {"A": "1=2"}),
        ("HOME, TOKEN", [], {"PATH": "/bin", "VIRTUAL_ENV": "/v", "HOME": "/h", "TOKEN": "t"}),
        ("none", ["HOME"], {"HOME": "/h"}),
        ("ALL", ["HOME=/x"], {"PATH": "/bin", "HOME": "/x", "VIRTUAL_ENV": "/v", "TOKEN": "t"}),
    ],
)
def test_the_environment_that_travels(export: str | None, settings: list[str], env: dict[str, str]) -> None:
    assert job_spec.build_env(HERE, export, settings) == env


@pytest.mark.parametrize(
    ("export", "settings", "option"), [("NOT_THERE", [], "--export"), (None, ["NO"], "--env")]
)
def test_a_variable_that_is_not_set(export: str | None, settings: list[str], option: str) -> None:
    with pytest.raises(UsageError, match="is not set here") as caught:
        job_spec.build_env(HERE, export, settings)
    assert caught.value.option == option


def told(program: job_spec.Program) -> tuple[list[str], str | None, str | None]:
    """What a command became, without words for the user."""
    return program.argv, program.name, program.script


def test_all_leaves_out_names_and_values_that_no_job_can_take() -> None:
    environ = {"BASH_FUNC_f%%": "() { :; }", "RAW": "\udcff", "CUDA_VISIBLE_DEVICES": "0", "OK": "1"}
    assert job_spec.build_env(environ, "ALL", []) == {"OK": "1"}


def test_a_program_on_the_path_is_named_in_full_and_its_links_stay(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"\x7fELF")
    real.chmod(0o755)
    (tmp_path / "python").symlink_to(real)
    program = job_spec.resolve_command(["python", "-V"], cwd=tmp_path, path=str(tmp_path))
    assert told(program) == told(job_spec.Program([f"{tmp_path}/python", "-V"]))


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize("text", ["#!/usr/bin/env bash\necho\n", "#!/bin/zsh -e\n", "echo hi\n"])
def test_the_text_of_a_shell_script_is_sent_along(tmp_path: Path, text: str, mode: int) -> None:
    script = tmp_path / "go.sh"
    script.write_text(text)
    script.chmod(mode)
    program = job_spec.resolve_command(["./go.sh", "x"], cwd=tmp_path, path="")
    assert told(program) == told(job_spec.Program([str(script), "x"], "go.sh", text))


@pytest.mark.parametrize(
    ("mode", "before"), [(0o644, ["/usr/bin/env", "python3 -u"]), (0o755, [])], ids=["plain", "executable"]
)
def test_a_script_of_another_language_runs_from_where_it_lies(
    tmp_path: Path, mode: int, before: list
) -> None:
    script = tmp_path / "go"
    script.write_text("#!/usr/bin/env python3 -u\n")
    script.chmod(mode)
    program = job_spec.resolve_command(["./go", "x"], cwd=tmp_path, path="")
    assert told(program) == told(job_spec.Program([*before, str(script), "x"], "go"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"echo " + b"x" * MAX_SCRIPT_BYTES, "is larger than 256 KiB"),
        (b"#!/bin/bash\necho \xe9\n", "is not UTF-8"),
        (b"echo\n\0\0", "holds a NUL character"),
        (b"", None),
    ],
)
def test_a_script_that_cannot_be_kept_runs_as_it_is_then_and_that_is_said(
    tmp_path: Path, content: bytes, why: str | None
) -> None:
    script = tmp_path / "go.sh"
    script.write_bytes(content)
    program = job_spec.resolve_command(["go.sh"], cwd=tmp_path, path="")
    assert program.argv == ["/bin/bash" if content.startswith(b"#!") else "/bin/sh", str(script)]
    assert program.script is None
    assert [note for note in program.notes if why and why in note] == list(program.notes)


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ('cd "$(dirname "$0")"', True),
        ("HERE=$(cd $(dirname ${BASH_SOURCE[0]}) && pwd)", True),
        ('. "${0%/*}/env.sh"', True),
        ("x=`readlink -f $0`", True),
        ("awk '{print $0}' data", False),
        ('echo "usage: $0 FILE"', False),
        ("# cd $(dirname $0)", False),
    ],
)
def test_a_script_that_asks_where_it_lies_is_pointed_out(tmp_path: Path, line: str, asks: bool) -> None:
    script = tmp_path / "go.sh"
    script.write_text(f"#!/bin/sh\n# a comment\n{line}\n")
    notes = job_spec.resolve_command(["go.sh"], cwd=tmp_path, path="").notes
    assert [("in line 3" in note, "$LEPTOND_SCRIPT" in note) for note in notes] == [(True, True)] * asks


def test_a_spec_is_completed_with_what_it_takes_from_here(tmp_path: Path) -> None:
    (tmp_path / "go.sh").write_text("echo\n")
    here = {**HERE, "PATH": str(tmp_path)}
    spec = {"argv": ("go.sh", 1), "cwd": tmp_path, "env": {"VIRTUAL_ENV": "/mine", "A": "b"}, "gpus": 1}
    made, notes = job_spec.complete(spec, here)
    assert made == {
        "argv": [f"{tmp_path}/go.sh", "1"],
        "cwd": str(tmp_path),
        "env": {"PATH": str(tmp_path), "VIRTUAL_ENV": "/mine", "A": "b"},
        "gpus": 1,
        "name": "go.sh",
        "script": "echo\n",
    }
    assert notes == ()
    assert job_spec.complete({"argv": ["x"], "cwd": "/"}, here, export="NONE")[0] == {
        "argv": ["x"],
        "cwd": "/",
    }
    line = {"argv": ["go.sh | cat"], "shell": True, "cwd": "/"}
    assert job_spec.complete(line, {})[0] == line


def test_a_directory_that_is_gone_is_said_in_one_sentence(tmp_path: Path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the directory you are in cannot be used"):
        job_spec.complete({"argv": ["true"]}, HERE)
    assert job_spec.complete({"argv": ["true"], "cwd": "/tmp/x/.."}, HERE)[0]["cwd"] == "/tmp"
    monkeypatch.chdir("/")


def test_an_older_daemon_gets_the_interpreter_and_the_file() -> None:
    spec = {"argv": ["/w/go.sh", "x"], "script": "#!/bin/bash -e\n", "gpus": 1}
    assert job_spec.without_script(spec) == {"argv": ["/bin/bash", "-e", "/w/go.sh", "x"], "gpus": 1}
    assert job_spec.without_script({"argv": ["true"]}) == {"argv": ["true"]}


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize("first", ["#!/bin/bash", "#!/usr/bin/env python3", "echo"])
def test_dos_line_breaks_are_refused_as_by_sbatch(tmp_path: Path, first: str, mode: int) -> None:
    script = tmp_path / "go.sh"
    script.write_bytes(f"{first}\r\necho\r\n".encode())
    script.chmod(mode)
    with pytest.raises(UsageError, match=r"DOS line breaks.*sed -i"):
        job_spec.resolve_command(["go.sh"], cwd=tmp_path, path="")
    script.write_bytes(b"#!/bin/sh\nprintf 'a\r\n'\n")
    assert job_spec.resolve_command(["go.sh"], cwd=tmp_path, path="").script is not None


def test_a_script_without_a_known_interpreter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    with pytest.raises(UsageError, match=r"leptonctl submit -- python train\.py"):
        job_spec.resolve_command(["train.py"], cwd=tmp_path, path="")
    assert job_spec.resolve_command(["nothing"], cwd=tmp_path, path="").argv == ["nothing"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/train.py", "train.py"), ("a b?.sh", "a-b-.sh"), ("/x/...", None), ("x" * 200, "x" * 128)],
)
def test_a_name_from_a_file(path: str, name: str | None) -> None:
    assert job_spec.name_of(path) == name


def test_directives_stand_at_the_head_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "go.sh"
    script.write_text(
        "#!/bin/sh\n#SBATCH --gres=gpu:2 # two\n#LEPTON --time 2h\n\necho\n#LEPTON --name late\n"
    )
    assert job_spec.directives(script) == ["--env", "LEPTOND_SLURM=1", "--gpus", "2", "--time", "2h"]
    assert job_spec.directives(tmp_path / "none") == []
    script.write_text("#LEPTON --name 'open\n")
    with pytest.raises(UsageError, match="cannot be read"):
        job_spec.directives(script)
