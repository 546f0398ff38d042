"""Doctor's lines about warm starts."""

from leptond.cli.diagnosis import warm
from leptond.cli.diagnosis.finding import OK, WARN

ONE = {
    "python": "/venv/bin/python",
    "state": "warm",
    "why": None,
    "pids": [7],
    "bytes": 512 << 20,
    "prepared_in_s": 12.5,
    "imports": 1900,
    "learned": [],
    "untried": [],
    "left_out": {},
    "misfits": {},
    "unseen": None,
}


def test_each_environment_has_a_line():
    [plain] = warm.environments([ONE])
    assert (plain.level, plain.check) == (OK, "warm starts")
    assert plain.detail == "/venv/bin/python: warm, 1900 modules, 512 MiB"
    full = {
        **ONE,
        "learned": [f"p{number}" for number in range(14)],
        "untried": ["new"],
        "left_out": {"wandb": "keeps the process's id"},
        "misfits": {"/jobs train.py": "cold: not as learned: x"},
        "unseen": "its memory cannot be read",
    }
    line, misfit = warm.environments([full])
    assert "; learned p2, p3," in line.detail
    assert line.detail.endswith(
        "p13 and 2 more; to be tried new; left out wandb (keeps the process's id);"
        " nothing more is learned, because of a job its memory cannot be read"
    )
    assert misfit.detail == "/jobs train.py: not as learned: x"


def test_one_that_is_refused_is_a_warning():
    [line] = warm.environments([{**ONE, "state": "cold", "why": "its imports print something"}])
    assert line.level == WARN
    assert line.detail == "/venv/bin/python: cold; its imports print something"
