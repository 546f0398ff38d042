"""The modules of a forked process, read from outside."""

import os
import subprocess
import sys

import pytest

from leptond.engines.import_record import Layout, Unreadable, modules_of

LAYOUT = Layout(id(sys.modules), id(dict), id(str), sys.getsizeof("") - 1)


def forked(work):
    """A child that does `work`, says so and waits for its end."""
    said, say = os.pipe()
    go, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(let_go)
            work()
            os.write(say, b"x")
            os.read(go, 1)
        finally:
            os._exit(0)
    os.close(say)
    os.close(go)
    os.read(said, 1)
    os.close(said)
    return pid, let_go


def test_what_a_child_imports_is_seen_in_its_order():
    def work():
        sys.modules.pop("colorsys", None)
        import colorsys

        sys.modules["chunk_of_test"] = colorsys
        sys.modules["\u00e9"] = colorsys
        sys.modules["x" * 300] = colorsys

    pid, let_go = forked(work)
    try:
        names = modules_of(pid, LAYOUT)
    finally:
        os.close(let_go)
        os.waitpid(pid, 0)
    assert names[:2] == list(sys.modules)[:2]
    assert names[-2:] == ["colorsys", "chunk_of_test"], "odd names are left out"
    assert set(sys.modules) - {"colorsys"} <= set(names)


def test_a_child_that_is_gone_and_one_that_is_another_program():
    pid, let_go = forked(lambda: None)
    os.close(let_go)
    os.waitpid(pid, 0)
    with pytest.raises(Unreadable):
        modules_of(pid, LAYOUT)
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as other, pytest.raises(Unreadable):
        modules_of(other.pid, LAYOUT)


@pytest.mark.parametrize("spoil", range(6))
def test_a_table_that_is_none_is_told(spoil):
    """A job may have anything at that address."""
    head = bytearray(__import__("ctypes").string_at(LAYOUT.modules, 48))
    number = [LAYOUT.dict_type + 8, 1 << 40, 0, 1, (1 << 64) - 8, 0][spoil]
    at = [8, 16, 16, 40, 32, 32][spoil]
    head[at : at + 8] = number.to_bytes(8, "little")
    kept = bytes(head)
    place = id(kept) + LAYOUT.text_at - (LAYOUT.text_at - (sys.getsizeof(b"") - 1))
    with pytest.raises(Unreadable):
        modules_of(os.getpid(), Layout(place, LAYOUT.dict_type, LAYOUT.str_type, LAYOUT.text_at))
