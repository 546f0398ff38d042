"""`leptonctl completion`."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from leptond.cli.commands.completion import Bash
from leptond.cli.framework.click_bridge import group
from tests.unit.cli.conftest import Cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_prints_a_script_that_the_shell_reads(cli: Cli, shell: str):
    result = cli("completion", shell)
    assert result.code == 0
    assert "_LEPTONCTL_COMPLETE" in result.out
    assert result.err == "", "what a shell reads stands alone"
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.out, text=True, check=True, capture_output=True)


def test_an_unknown_shell_is_a_usage_error(cli: Cli):
    assert cli("completion", "csh").code == 2


def test_json_has_the_same_script(cli: Cli):
    assert json.loads(cli("completion", "bash", "--json").out) == {
        "shell": "bash",
        "script": cli("completion", "bash").out.removesuffix("\n"),
    }


def test_a_value_goes_to_bash_with_its_meaning_behind_it():
    maker: ShellComplete = Bash(group, {}, "leptonctl", "_X")
    assert (
        maker.format_completion(CompletionItem("47", help="train.py pending"))
        == "plain\t47\ttrain.py pending"
    )
    assert maker.format_completion(CompletionItem("x", type="file")) == "file\tx\t"


@pytest.mark.parametrize(
    ("kind", "shown"), [(37, ["47", "471"]), (63, ["47  (train pending)", "471  (eval running)"])]
)
def test_bash_shows_meanings_only_where_there_is_a_choice(cli: Cli, tmp_path, kind: int, shown: list[str]):
    """COMP_TYPE 63 lists; 37 and 42 put values on the line."""
    answers = tmp_path / "leptonctl"
    answers.write_text("#!/bin/sh\nprintf 'plain\\t47\\ttrain pending\\nplain\\t471\\teval running\\n'\n")
    answers.chmod(0o755)
    script = cli("completion", "bash").out + (
        f"COMP_WORDS=(leptonctl show 4); COMP_CWORD=2; COMP_TYPE={kind}\n"
        f'_leptonctl_completion "{answers}"; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == shown
