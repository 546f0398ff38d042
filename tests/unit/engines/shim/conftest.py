"""Shims that start an interpreter, and shims from a zygote."""

import pytest

from tests.unit.engines.shim.harness import Shim, Zygote


@pytest.fixture(params=["cold", "forked"])
def born(request, monkeypatch):
    """Shims that start an interpreter, and shims from a zygote."""
    if request.param == "cold":
        yield
        return
    zygote = Zygote()
    monkeypatch.setattr(Shim, "zygote", zygote)
    yield
    zygote.close()
