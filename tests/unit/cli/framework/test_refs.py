"""Jobs as they are named on the command line."""

from __future__ import annotations

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    Stub,
    make_job,
    page,
)


def test_a_job_is_also_known_by_its_name_and_as_the_last(cli: Cli, stub: Stub):
    stub.job(id=51)
    stub.on("GET", "/v1/jobs", page(make_job(id=51)))
    assert cli("show", "train.py").rows[0] == ["job", "51"]
    assert cli("show", "@last").rows[0] == ["job", "51"]
    stub.on("GET", "/v1/jobs", page(make_job(id=51), make_job(id=52)))
    several = cli("show", "train.py")
    assert several.code == 1
    assert "51, 52" in several.err
    stub.on("GET", "/v1/jobs", page())
    assert cli("show", "nobody").code == 3
    assert cli("show", "47_*").code == 1
