"""The names of a field's options."""

import pytest

from leptond.core.jobs.field import Option


@pytest.mark.parametrize(
    ("names", "on", "off"),
    [
        (("--gpus",), "--gpus", ""),
        (("-G", "--gpus"), "--gpus", ""),
        (("--warm/--cold",), "--warm", "--cold"),
    ],
)
def test_the_last_name_is_the_long_one_without_its_opposite(names, on, off):
    one = Option(names, "help")
    assert (one.name, one.no_name) == (on, off)
