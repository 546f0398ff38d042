"""The tests are tested: bugs are planted in a copy of the program, and each has to be found."""

import pytest

from tests.planted.plant import ROOT, AnchorGone, Bug, Edit, apply, bugs, hunt

BUGS = {bug.name: bug for bug in bugs()}
IN_THE_SUITE = ("02_no_gate", "03_bare_pid")


def test_there_are_33_and_each_still_finds_its_place(tmp_path):
    assert len(BUGS) == 33
    gone = []
    for bug in BUGS.values():
        root = tmp_path / bug.name
        for edit in bug.edits:
            (root / edit.file).parent.mkdir(parents=True, exist_ok=True)
            (root / edit.file).write_text((ROOT / edit.file).read_text())
        try:
            apply(bug, root)
        except AnchorGone as error:
            gone.append(str(error))
    assert not gone, "\n".join(gone)


def test_an_anchor_that_is_gone_is_said(tmp_path):
    (tmp_path / "one.py").write_text("a = 1\n")
    bug = Bug(
        name="x", words="", test=("t",), quick=True, edits=(Edit(file="one.py", old="b = 1\n", new=""),)
    )
    with pytest.raises(AnchorGone, match="x: the anchor is gone"):
        apply(bug, tmp_path)


@pytest.mark.parametrize("name", IN_THE_SUITE)
def test_it_is_caught(name, tmp_path):
    verdict = hunt(BUGS[name], tmp_path, healthy=False)
    assert verdict.caught, verdict.words


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUGS if name not in IN_THE_SUITE])
def test_every_other_is_caught(name, tmp_path):
    verdict = hunt(BUGS[name], tmp_path, healthy=True)
    assert verdict.caught, verdict.words
