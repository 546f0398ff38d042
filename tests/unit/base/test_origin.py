"""What is given to pip is never the bare name."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptond.base.origin import from_direct_url, requirement


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"url": "file:///home/ana/my%20src/leptond", "dir_info": {}}, "'/home/ana/my src/leptond'"),
        ({"url": "file:///tmp/leptond-1.whl", "archive_info": {}}, "/tmp/leptond-1.whl"),
        (
            {"url": "https://git.example/x/leptond", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://git.example/x/leptond@abc",
        ),
        ({"url": "https://x.example/leptond.tar.gz", "archive_info": {}}, "https://x.example/leptond.tar.gz"),
    ],
)
def test_it_is_what_pip_noted(found, expected: str):
    assert from_direct_url(found) == expected


def test_a_checkout_is_named_by_its_directory():
    assert Path(requirement()).samefile(Path(__file__).parents[3])
