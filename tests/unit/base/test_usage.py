"""A call that is wrong as it is spelled."""

from leptond.base.usage import UsageError


def test_it_says_what_is_wrong_and_with_which_option():
    one = UsageError("'x' is not K=V", option="--label")
    assert (str(one), one.message, one.option) == ("'x' is not K=V", "'x' is not K=V", "--label")
    assert UsageError("no command").option is None
