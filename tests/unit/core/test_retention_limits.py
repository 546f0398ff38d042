"""Limits of retention."""

import msgspec
import pytest

from leptond.core.retention_limits import UNLIMITED, RetentionLimits


def test_without_limits_nothing_goes():
    assert not any(getattr(UNLIMITED, name) for name in UNLIMITED.__struct_fields__)


@pytest.mark.parametrize(
    "name", [name for name in RetentionLimits.__struct_fields__ if name != "checkpoints"]
)
def test_no_limit_is_negative(name):
    assert getattr(msgspec.convert({name: 7}, RetentionLimits), name) == 7
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert({name: -1}, RetentionLimits)
