"""What is learned of the imports of jobs, and what a warm process is told of it."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.warm_learning import (
    MOST_PACKAGES,
    Learned,
    Package,
    plan,
    reads_differ,
    with_imports,
    with_report,
)

LIMITS = {"learn": True, "max_s": 1.0, "max_bytes": 10}


def learned(*names, hidden=(), before=None):
    return with_imports(before or Learned(), names, set(hidden))


def test_a_package_comes_after_what_was_complete_before_it():
    found, news = learned(
        "tokenizers.core", "numpy.linalg", "numpy", "tokenizers", "transformers.utils", "regex"
    )
    assert news
    assert list(found.packages) == ["numpy", "tokenizers", "transformers", "regex"]
    assert found.packages["tokenizers"].modules == ["tokenizers.core", "tokenizers"]


def test_new_packages_take_their_place_among_the_known():
    first, _ = learned("numpy", "pandas", "datasets")
    second, news = learned("numpy", "pyarrow", "pandas", "datasets", "wandb", before=first)
    assert news
    assert list(second.packages) == ["numpy", "pyarrow", "pandas", "datasets", "wandb"]
    assert second.packages["numpy"].jobs == 2


def test_what_is_known_is_no_news():
    first, _ = learned("numpy", "numpy.linalg")
    again, news = learned("numpy", before=first)
    assert not news
    assert again.packages["numpy"].modules == ["numpy", "numpy.linalg"]


def test_more_modules_of_a_known_package_are_tried():
    first, _ = learned("a", "b")
    tried = with_report(
        first, {"fingerprint": "f", "later": {}, "units": {"a": {"why": ""}, "b": {"why": "starts a thread"}}}
    )
    more, news = learned("a", "a.more", before=tried)
    assert (news, more.packages["a"].why, more.packages["a"].more_why) == (True, "", None)
    _, news = learned("b", "b.more", before=tried)
    assert not news, "of one that cannot be used nothing more is wanted"


def test_names_of_the_jobs_own_directory_and_odd_ones_are_not_learned():
    found, news = learned("utils", "utils.x", "__main__", "a b", "x" * 300, "..", "a-b", hidden=["utils"])
    assert (found.packages, news) == ({}, False)


def test_the_number_is_limited():
    found, _ = learned(*(f"p{number}" for number in range(MOST_PACKAGES + 50)))
    assert len(found.packages) == MOST_PACKAGES


def test_the_plan_has_packages_first_and_then_their_other_modules():
    known = Learned(
        fingerprint="f",
        later={"torch._dynamo": ""},
        packages={
            "a": Package(modules=["a"], why=""),
            "b": Package(modules=["b", "b.c"], why="", more_why="starts a thread"),
        },
    )
    assert plan(known, bare=False, **LIMITS) == {
        "fingerprint": "f",
        "later": {"torch._dynamo": ""},
        "units": [["a", ["a"], ""], ["b", ["b"], ""], ["b.*", ["b", "b.c"], "starts a thread"]],
        "max_s": 1.0,
        "max_bytes": 10,
    }
    assert plan(known, bare=True, **LIMITS) == {"bare": True}
    assert "units" not in plan(known, bare=False, **{**LIMITS, "learn": False})
    blocked = Learned(fingerprint="f", packages=known.packages, blocked="its imports keep files open")
    assert plan(blocked, bare=False, **LIMITS) == {"bare": True}


def report(fingerprint, **units):
    return {"fingerprint": fingerprint, "later": {"l": ""}, "units": units}


def test_a_report_of_another_installation_forgets_what_was_found_out():
    known = Learned(fingerprint="f", packages={"a": Package(modules=["a"], why="starts a thread")})
    same = with_report(known, report("f"))
    assert same.packages["a"].why == "starts a thread"
    other = with_report(known, report("g"))
    assert (other.fingerprint, other.packages["a"].why) == ("g", None)


def test_no_room_is_no_property_of_a_package():
    known, _ = learned("a")
    found = with_report(known, report("f", a={"why": "would take more time than imports may"}))
    assert found.packages["a"].why is None


def test_a_block_ends_with_another_installation():
    known = Learned(packages={"a": Package(modules=["a"], why="")}, blocked="it died")
    stays = with_report(known, report("f"))
    assert (stays.blocked, stays.fingerprint) == ("it died", "f")
    assert with_report(stays, report("f")).blocked == "it died"
    assert with_report(stays, report("g")).blocked == ""


def test_differences_of_what_was_read():
    reads = {"names": {"HF_HOME": None, "HOME": "/h"}, "prefixes": {"TQDM_": {"TQDM_X": "1"}}}
    env = {"HOME": "/h", "TQDM_X": "1"}
    assert reads_differ(reads, env) == ""
    assert reads_differ(reads, {**env, "HF_HOME": "/x"}) == "HF_HOME"
    assert reads_differ(reads, {"HOME": "/h"}) == "TQDM_*"


NAMES = st.lists(st.sampled_from(["a", "a.b", "a.b.c", "b", "b.x", "c", "d.e", "d", "e"]), unique=True)


@given(st.lists(NAMES, max_size=5))
def test_every_module_is_learned_once_and_order_is_kept(jobs):
    known = Learned()
    for names in jobs:
        before = list(known.packages)
        known, _ = with_imports(known, names, set())
        after = list(known.packages)
        assert [name for name in after if name in before] == before
        for one in known.packages.values():
            assert len(set(one.modules)) == len(one.modules)
        assert {name for one in known.packages.values() for name in one.modules} >= set(names)
        assert with_imports(known, names, set())[1] is False
