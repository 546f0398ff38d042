"""From a command line to a job's spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptond.base.usage import UsageError
from leptond.client import job_spec

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


def test_all_leaves_out_names_and_values_that_no_job_can_take() -> None:
    environ = {"BASH_FUNC_f%%": "() { :; }", "RAW": "\udcff", "CUDA_VISIBLE_DEVICES": "0", "OK": "1"}
    assert job_spec.build_env(environ, "ALL", []) == {"OK": "1"}


def test_a_program_on_the_path_is_named_in_full_and_its_links_stay(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"\x7fELF")
    real.chmod(0o755)
    (tmp_path / "python").symlink_to(real)
    command, name = job_spec.resolve_command(["python", "-V"], cwd=tmp_path, path=str(tmp_path))
    assert (command, name) == ([f"{tmp_path}/python", "-V"], None)


@pytest.mark.parametrize(
    ("text", "mode", "before"),
    [
        ("#!/usr/bin/env bash\n", 0o644, ["/usr/bin/env", "bash"]),
        ("#!/usr/bin/env bash\n", 0o755, []),
        ("echo hi\n", 0o644, ["/bin/sh"]),
        ("echo hi\n", 0o755, ["/bin/sh"]),
    ],
)
def test_a_script_gets_its_interpreter_where_the_kernel_has_none(
    tmp_path: Path, text: str, mode: int, before: list[str]
) -> None:
    script = tmp_path / "go.sh"
    script.write_text(text)
    script.chmod(mode)
    command, name = job_spec.resolve_command(["./go.sh", "x"], cwd=tmp_path, path="")
    assert command == [*before, str(script), "x"]
    assert name == "go.sh"


def test_a_script_without_a_known_interpreter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    with pytest.raises(UsageError, match=r"leptonctl submit -- python train\.py"):
        job_spec.resolve_command(["train.py"], cwd=tmp_path, path="")
    assert job_spec.resolve_command(["nothing"], cwd=tmp_path, path="") == (["nothing"], None)


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
    assert job_spec.directives(script) == ["--gpus", "2", "--time", "2h"]
    assert job_spec.directives(tmp_path / "none") == []
    script.write_text("#LEPTON --name 'open\n")
    with pytest.raises(UsageError, match="cannot be read"):
        job_spec.directives(script)
