"""What a shim is told."""

import pytest

from leptond.engines.launch import cpu_list


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-3,8,10-11", {0, 1, 2, 3, 8, 10, 11}), ("", set()), ("0-", set()), ("a-b", set())],
)
def test_lists_of_cpus_read_as_the_kernel_writes_them(text, numbers):
    assert cpu_list(text) == numbers
