"""What is shown of an address that may hold a secret."""

import pytest

from leptond.api.routes.webhooks import _without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/B0/secret?token=x", "https://hooks.example/..."),
        ("https://me:secret@hooks.example:8443/x#secret", "https://hooks.example:8443/..."),
        ("http://10.0.0.1/secret", "http://10.0.0.1/..."),
        ("slack://secret/secret/secret", "slack://..."),
        ("tgram://secret:secret@chat", "tgram://..."),
    ],
)
def test_only_where_it_goes_is_shown(url, shown):
    assert _without_secrets(url) == shown
    assert "secret" not in shown


async def test_without_webhooks_the_list_is_empty(world):
    answer = await world.get("/v1/webhooks")
    assert (answer.status, answer.json) == (200, [])
