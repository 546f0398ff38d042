"""Scripts that come from Slurm."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.usage import UsageError
from leptond.client.job_spec import directives
from leptond.client.sbatch import OPTIONS, REFUSED, SHORT, missing, translate
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, submitted

SCRIPT = """#!/bin/bash
#SBATCH --job-name=llama
#SBATCH --gres=gpu:h100:4   # four of them
#SBATCH -t 1-12:00:00
#SBATCH --nodes=1
#SBATCH --array=0-9%2
#SBATCH --signal=B:USR1@120
#LEPTON --retries 2 --gpus 2
echo hello
#SBATCH --hold
"""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--gres=gpu:2"], ["--gpus", "2"]),
        (["--gres", "gpu:a100:2"], ["--gpus", "2", "--gpu-type", "a100"]),
        (["--gres=gpu"], ["--gpus", "1"]),
        (["-G", "a100:3"], ["--gpus", "3", "--gpu-type", "a100"]),
        (["-N1", "-n", "1"], []),
        (["-d", "afterok:12:13"], ["--after", "afterok:12:13"]),
        (["--requeue", "--open-mode=append", "-H"], ["--open-mode", "append", "--hold"]),
        (["--mail-type=NONE"], []),
        (["-A", "vision"], ["--project", "vision"]),
        (["--mail-user=ana@example.org"], ["--contact", "ana@example.org"]),
        (["--job-name", "x", "--no-requeue", "-D/tmp"], ["--name", "x", "--no-requeue", "--chdir", "/tmp"]),
        (["-p", "night"], ["--queue", "night"]),
    ],
)
def test_what_can_be_honoured(words, meant):
    assert translate(words).words == meant


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--nodes=2"], "--nodes 2: there is one machine"),
        (["--gres=mps:50"], "--gres mps:50: only gpu"),
        (["--constraint=avx512"], "--constraint avx512: there is one machine"),
        (["--licenses=x"], "--licenses x: leptond does not know it"),
        (["--ntasks=4"], "start its ranks with torchrun"),
        (["--error=log-%j"], "goes with the output"),
        (["--mem-per-cpu=2G"], "say it for the whole job"),
        (["--mail-type=END"], "no mail"),
        (["-Z"], "-Z: leptond does not know it"),
        (["word"], "word: leptond does not know it"),
        (["--time"], "--time: it has no value"),
    ],
)
def test_what_cannot_be_is_refused_by_name(words, named):
    with pytest.raises(UsageError, match=re.escape(named)):
        translate(words)


def test_what_is_left_out_is_left_out_and_told():
    found = translate(["--mem-per-cpu=2G", "-o", "x", "-t", "5"], skip=frozenset({"mem-per-cpu", "output"}))
    assert found.words == ["--time", "5"]
    assert found.left_out == ["--mem-per-cpu 2G", "-o x"]


COMMON = ["--nodes=1", "--ntasks=4", "--cpus-per-task=8", "--mem=64G", "--time=12:00:00", "--qos", "high"]
MORE = ["--gres=gpu:1", "--verbose", "--mail-type=END,FAIL", "--error=%x.err", "--constraint", "a100"]


def test_everything_is_refused_at_once_with_the_option_that_leaves_it_out():
    with pytest.raises(UsageError) as refused:
        translate([*COMMON, *MORE])
    names = "ntasks,qos,verbose,mail-type,error,constraint"
    assert f"--ignore-sbatch {names} leaves them out" in refused.value.message
    found = translate([*COMMON, *MORE], skip=frozenset(names.split(",")))
    assert found.words == ["--cpus", "8", "--mem", "64G", "--time", "12:00:00", "--gpus", "1"]
    assert translate([*COMMON, *MORE], skip=frozenset({"all"})) == found
    assert found.left_out == [
        "--ntasks 4", "--qos high", "--verbose", "--mail-type END,FAIL",
        "--error %x.err", "--constraint a100",
    ]  # fmt: skip
    assert found.values["cpus-per-task"] == "8"


@pytest.mark.parametrize("flag", ["--unheard-of", "--verbose", "-Z"])
def test_an_option_without_a_value_does_not_take_the_next_one_for_it(flag: str):
    found = translate([flag, "--time=1:00:00", "-J", "x"], skip=frozenset({"all"}))
    assert found.words == ["--time", "1:00:00", "--name", "x"]


def test_what_a_script_uses_of_slurms_and_will_not_find_is_told():
    text = """#!/bin/bash
# srun is not here: $SLURM_PROCID
cd $SLURM_SUBMIT_DIR; echo ${SLURM_ARRAY_TASK_ID} $SLURM_JOBID
HEAD=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -1)
module load cuda
time srun --gpus 1 python train.py
echo "no srun in a text"
"""
    told = missing(text)
    assert [sentence.split()[:3] for sentence in told[:2]] == [["the", "script", "calls"]] * 2
    assert {"scontrol", "srun"} == {sentence.split()[3].rstrip(",") for sentence in told[:2]}
    assert [sentence.split()[0] for sentence in told[2:]] == ["$SLURM_JOBID", "$SLURM_JOB_NODELIST"]
    assert "$SLURM_JOB_ID is set" in told[2]


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_any_words_are_translated_or_refused(words):
    with contextlib.suppress(UsageError):
        assert all(isinstance(word, str) for word in translate(words).words)


def test_the_tables_fit_together():
    assert not set(OPTIONS) & set(REFUSED)
    assert set(SHORT.values()) <= {*OPTIONS, *REFUSED}


def test_directives_end_at_the_first_command_and_leptons_win(tmp_path: Path):
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    words = directives(script)
    assert words[-4:] == ["--retries", "2", "--gpus", "2"]
    assert words[:2] == ["--env", "LEPTOND_SLURM=1"]
    assert words[2:8] == ["--name", "llama", "--gpus", "4", "--gpu-type", "h100"]
    assert "--hold" not in words


def test_a_script_from_slurm_is_submitted(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs", submitted())
    Path("job.sh").write_text(
        "#!/bin/sh\n#SBATCH -J llama -t 90\n#SBATCH --gres=gpu:2\n#SBATCH --mem=16000 -c 4\n"
        "#SBATCH --mem-per-gpu=2G\npython train.py\n"
    )
    refused = cli("submit", "job.sh")
    assert refused.code == 2
    assert "#SBATCH --mem-per-gpu 2G: say it for the whole job" in refused.err
    assert "--ignore-sbatch mem-per-gpu leaves it out" in refused.err
    assert stub.of("POST", "/v1/jobs") == []
    done = cli("submit", "--ignore-sbatch", "mem-per-gpu", "--time", "2h", "job.sh")
    assert done.code == 0, done.err
    assert "left out of the script: #SBATCH --mem-per-gpu 2G" in done.err
    body = stub.of("POST", "/v1/jobs")[-1].body
    assert (body["name"], body["gpus"], body["time_limit_s"]) == ("llama", 2, 7200)
    assert (body["mem_bytes"], body["cpus"]) == (16000 * 1024**2, 4)
