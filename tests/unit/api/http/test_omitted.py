"""Which jobs of a body do not say how many GPUs they need."""

import pytest

from leptond.api.http import omitted


@pytest.mark.parametrize(
    ("body", "silent"), [(b'{"argv": ["x"]}', True), (b'{"gpus": 0}', False), (b'{"a": {"gpus": 1}}', True)]
)
def test_a_job_that_says_none_is_not_one_that_says_nothing(body, silent):
    assert omitted.gpus_of_job(body) is silent
    assert omitted.gpus_of_sweep(b'{"job": ' + body + b', "grid": {}}') is silent


def test_each_job_of_a_batch_counts_by_itself():
    assert omitted.gpus_of_batch(b'{"jobs": [{}, {"gpus": 0}, {"name": "gpus"}]}') == [True, False, True]
