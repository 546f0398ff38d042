"""`leptonctl limits`."""

from leptond import schema
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub


def test_limits_are_listed_and_set(cli: Cli, stub: Stub):
    share = schema.Share(
        kind="user",
        name="ana",
        own=True,
        max_gpus=4.0,
        max_pending=None,
        weight=1.0,
        running_gpus=0.5,
        pending=2,
        used_gpu_s=7200.0,
    )
    stub.on("GET", "/v1/shares", schema.ShareList(items=[share], half_life_s=1.0, max_handicap_s=1.0))
    row = dict(zip(*cli("limits").rows, strict=True))
    assert (row["NAME"], row["GPUS"], row["MAX-GPUS"], row["USED-GPU-H"]) == ("ana", "0.5", "4", "2")
    stub.on("PUT", "/v1/limits/user/ana", share)
    assert cli("limits", "set", "user", "ana", "--max-gpus", "4").code == 0
    assert stub.asked[-1].body == {"max_gpus": 4}
