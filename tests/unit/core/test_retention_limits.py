"""Limits of retention."""

from leptond.core.retention_limits import Keep


def test_nothing_is_limited_by_default():
    limits = Keep()
    assert all(getattr(limits, name) == 0 for name in limits.__struct_fields__)
