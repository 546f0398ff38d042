"""What imports read of the environment is noted; a look at all of it is told from a look for a prefix."""

import json
import os
import re
import subprocess

import pytest

from leptond.engines import warm_environment


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("TQDM_MININTERVAL", "1")


def reading(look):
    with warm_environment.recording() as reads:
        look(os.environ)
    return reads


@pytest.mark.parametrize(
    ("look", "names"),
    [
        (lambda env: env.get("HOME"), {"HOME": "/h"}),
        (lambda env: os.getenv("ABSENT"), {"ABSENT": None}),
        (lambda env: "ABSENT" in env, {"ABSENT": None}),
        (lambda env: [value for name, value in env.items() if name == "ABSENT"], {"ABSENT": None}),
    ],
)
def test_names(look, names):
    reads = reading(look)
    assert (reads.names, reads.prefixes, reads.whole) == (names, {}, "")


def fsspec(env):
    """Walk through a copy, as fsspec does."""
    copy = dict(env)
    for name in copy:
        if name.startswith("TQDM_") and name.count("_") == 1:
            json.loads(copy[name])
        elif name.startswith("TQDM"):
            print(name)


PREFIXED = [
    lambda env: {name[5:].lower(): value for name, value in env.items() if name.startswith("TQDM_")},
    lambda env: [name for name in env if name.startswith(("TQDM_",))],
    fsspec,
]


@pytest.mark.parametrize("look", PREFIXED)
def test_a_look_for_a_prefix(look):
    reads = reading(lambda env: look(env) and None)
    assert reads.whole == ""
    assert reads.prefixes["TQDM_"] == {"TQDM_MININTERVAL": "1"}
    assert reads.difference({"TQDM_MININTERVAL": "1", "OTHER": "1"}) == ""
    assert reads.difference({"TQDM_MININTERVAL": "2"}) == "TQDM_*"
    assert reads.difference({"TQDM_MININTERVAL": "1", "TQDM_DISABLE": "1"}) == "TQDM_*"


KEPT = []
WHOLE = [
    lambda env: dict(env),
    lambda env: env.copy(),
    lambda env: sorted(env),
    lambda env: [name for name in env if name.lower().startswith("http")],
    lambda env: [name for name in env if re.match("TQDM_", name)],
    lambda env: [value for name, value in env.items() if re.match("1", value)],
    lambda env: {name: value for name, value in env.items() if not name.startswith("LD_")},
    lambda env: [name for name in env if name in {"HOME"}],
    lambda env: [name for name in env if name.startswith("")],
    lambda env: [name for name in env if name.startswith("O", 1)],
    lambda env: KEPT.extend(name for name in env if name.startswith("TQDM_")),
    lambda env: subprocess.run(["/bin/true"], env={**env, "MORE": "1"}, check=True),
    lambda env: json.dumps({**env}),
    lambda env: "".join(env),
]


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_anything_else_is_a_look_at_all_of_it(number):
    assert reading(WHOLE[number]).whole == __name__


def test_a_copy_may_be_asked_for_the_names_in_its_code():
    def look(env):
        copy = dict(env)
        if not [name for name in copy if name.startswith("TQDM_")]:
            copy.get("ABSENT_ONE")

    assert reading(look).names == {"ABSENT_ONE": None, "TQDM_": None}


def test_what_was_written_before_is_not_read():
    def look(env):
        env["HOME"] = "/other"
        env.get("HOME")

    assert reading(look).names == {}


def test_afterwards_the_environment_is_an_ordinary_one():
    kind = type(os.environ)
    with warm_environment.recording():
        assert repr(type(os.environ)) != ""
        assert type(os.environ).__name__ == kind.__name__
    assert type(os.environ) is kind
    assert all(type(name) is str for name in os.environ)
