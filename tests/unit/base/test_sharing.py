"""Lists in which one object stands many times."""

from leptond.base.sharing import distinct


def test_each_object_stands_once_also_where_others_are_equal():
    one, other = [1], [1]
    found = distinct([one, one, other, one])
    assert found[0] is one
    assert found[1] is other
    assert len(found) == 2
