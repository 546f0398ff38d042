"""schemathesis against a real daemon: all checks, all phases. Longer: `python -m tests.fuzz.openapi`."""

import pytest

from tests.fuzz.openapi import cases, check

pytest.importorskip("schemathesis")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_daemon_does_what_its_openapi_document_says(tmp_path):
    code, printed = check(tmp_path, examples=10, seed=1, phases="examples,coverage,fuzzing,stateful")
    assert code == 0, printed[-6000:]
    assert cases(printed) > 1000
