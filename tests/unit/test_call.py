"""The files that a call and its value travel in, and what `python -m leptond.call` does with one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond import call

VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(value=VALUES, about=st.dictionaries(st.sampled_from(["kind", "text"]), st.text()))
def test_what_is_written_comes_back(tmp_path_factory, value, about):
    path = str(tmp_path_factory.mktemp("calls") / "1.call")
    call.write(path, value, about)
    assert about.items() <= call.look(path).items()
    assert call.load(path) == value
    assert [file.name for file in Path(path).parent.iterdir()] == ["1.call"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "1.call"
    call.write(str(path), list(range(40)), {"kind": "value"})
    return path.read_bytes()


@given(data=st.data())
def test_a_file_that_was_cut_or_changed_is_known_as_such(tmp_path_factory, whole, data):
    path = tmp_path_factory.mktemp("torn") / "1.call"
    if data.draw(st.booleans()):
        torn = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at, bits = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
        torn = whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :]
    path.write_bytes(torn)
    with pytest.raises(call.Damaged, match=str(path)):
        call.look(str(path))


def test_what_cannot_be_pickled_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "1.call"
    call.write(str(path), "old", {})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        call.write(str(path), [bytes(1 << 20), lambda: 0], {})
    assert call.load(str(path)) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_large_values_are_not_copied_into_the_file_in_one_piece(tmp_path):
    path = tmp_path / "1.call"
    value = bytearray(b"x" * (5 << 20))
    call.write(str(path), value, {})
    assert call.look(str(path))["size"] >= len(value)
    assert call.load(str(path)) == value


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """python -m leptond.call, as a job would."""
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env}
    command = [sys.executable, "-m", "leptond.call", *words]
    return subprocess.run(command, capture_output=True, text=True, env=given, timeout=60, check=False)


def asked(path: Path, fn: object, *args: object, python: str | None = None, by: str = "pickle") -> str:
    """A call at `path`."""
    here = "{}.{}".format(*sys.version_info)
    about = {"kind": "call", "by": by, "python": python or here, "sys_path": []}
    call.write(str(path), (fn, args, {}), about)
    return str(path)


def test_a_call_that_has_left_its_value_is_not_made_again(tmp_path):
    path = asked(tmp_path / "1.call", os.mkdir, str(tmp_path / "made"))
    assert run(path, LEPTOND_JOB_ID="7").returncode == 0
    assert call.look(call.result_path(path, "7"))["kind"] == "value"
    again = run(path, LEPTOND_JOB_ID="7", LEPTOND_ATTEMPT="2")
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True)
    other = run(path, LEPTOND_JOB_ID="8", LEPTOND_ATTEMPT="2")
    assert (other.returncode, "FileExistsError" in other.stderr) == (1, True)
    about = call.look(call.result_path(path, "8"))
    assert (about["kind"], about["type"], about["attempt"]) == ("error", "builtins.FileExistsError", 2)


def test_what_cannot_be_called_is_refused_at_once_and_says_why(tmp_path):
    torn = tmp_path / "torn.call"
    torn.write_bytes(b"half")
    other = asked(tmp_path / "1.call", os.getpid, python="3.1", by="cloudpickle")
    for words, why in [
        ([], "usage:"),
        ([str(tmp_path / "none.call")], "No such file"),
        ([str(torn)], "its end is missing"),
        ([other], "Python 3.1"),
    ]:
        ended = run(*words)
        assert (ended.returncode, why in ended.stderr) == (2, True), ended.stderr


def test_it_imports_nothing_but_the_standard_library(tmp_path):
    program = "import sys, leptond.call; print(*{name.partition('.')[0] for name in sys.modules})"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=env
    )
    foreign = set(found.stdout.split()) - set(sys.stdlib_module_names) - {"__main__"}
    assert foreign == {"leptond"}
