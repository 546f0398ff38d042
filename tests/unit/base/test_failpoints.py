"""Failpoints: nothing unless they are armed, then the terms in turn."""

import pytest

from leptond.base import failpoints
from leptond.base.failpoints import BadFailpoint, arm, parse, shim_environment


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for name in ("fp", "armed", "shim_text"):
        monkeypatch.setattr(failpoints, name, getattr(failpoints, name))


def fails(name):
    try:
        failpoints.fp(name)
    except OSError:
        return True
    return False


def test_a_release_does_nothing():
    assert not fails("after_claim")
    assert shim_environment() == {}


def test_terms_follow_each_other():
    arm("a=2*off->1*error->1*off->error")
    assert [fails("a") for _ in range(6)] == [False, False, True, False, True, True]
    assert not fails("b")


def test_after_its_last_term_a_place_does_nothing():
    arm("a=1*error")
    assert [fails("a") for _ in range(3)] == [True, False, False]


def test_shims_are_told_only_of_places_of_their_own(monkeypatch):
    monkeypatch.setenv("LEPTOND_FAULTS_X", "1")
    monkeypatch.setenv("LEPTOND_OTHER", "1")
    arm("a=error")
    assert failpoints.shim_text == ""
    arm("shim_a=error")
    assert failpoints.shim_text == "shim_a=error"
    found = shim_environment()
    assert found["LEPTOND_FAULTS_X"] == "1"
    assert "LEPTOND_OTHER" not in found


@pytest.mark.parametrize("text", ["a", "a=", "a=explode", "1a=off", "a=delay", "a=x*off"])
def test_text_outside_the_grammar_is_refused(text):
    with pytest.raises(BadFailpoint):
        parse(text)
