"""What TCP may be: this machine's own, or with TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from functools import partial

import aiohttp
import pytest

from leptond.api.tcp_listener import checked_listen, tls_context
from leptond.base.errors import StartRefused
from leptond.config import HttpSettings, Settings


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:8370", ("127.0.0.1", 8370)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:1", ("::1", 1)),
        (":8370", ("127.0.0.1", 8370)),
    ],
)
def test_this_machine_needs_no_tls(listen, expected):
    assert checked_listen(HttpSettings(listen=listen)) == expected


@pytest.mark.parametrize("listen", ["0.0.0.0:8370", "[::]:8370", "192.0.2.1:1", "gpu.example:8370"])
def test_beyond_it_only_tls_or_a_proxy_that_has_it(listen):
    with pytest.raises(StartRefused, match="without TLS") as found:
        checked_listen(HttpSettings(listen=listen))
    assert found.value.exit_code == 78
    checked_listen(HttpSettings(listen=listen, behind_tls_proxy=True))
    checked_listen(HttpSettings(listen=listen, tls_cert="c", tls_key="k"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"listen": "8370"}, None),
        ({"listen": "127.0.0.1:x"}, "must be HOST:PORT"),
        ({"listen": "127.0.0.1:99999"}, "must be HOST:PORT"),
        ({"listen": "127.0.0.1:1", "tls_cert": "c"}, "belong together"),
    ],
)
def test_what_is_no_address_is_refused(settings, why):
    if why is None:
        assert checked_listen(HttpSettings(**settings)) == ("127.0.0.1", 8370)
        return
    with pytest.raises(StartRefused, match=why):
        checked_listen(HttpSettings(**settings))


def test_a_certificate_that_is_none_is_refused(tmp_path):
    (tmp_path / "cert").write_text("no certificate")
    with pytest.raises(StartRefused, match="cannot be used"):
        tls_context(HttpSettings(tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "cert")))
    with pytest.raises(StartRefused, match="cannot be used"):
        tls_context(HttpSettings(tls_cert=str(tmp_path / "none"), tls_key=str(tmp_path / "none")))


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-days", "1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def settings(certificate) -> Settings:
    cert, key = map(str, certificate)
    return Settings(http=HttpSettings(listen="127.0.0.1:0", tls_cert=cert, tls_key=key))


async def leptonctl(env, *words):
    command = [sys.executable, "-m", "leptond.cli", *words]
    run = partial(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    return await asyncio.to_thread(run, env={**os.environ, **env})


async def test_it_speaks_tls_and_its_cookie_is_for_tls_alone(world, certificate):
    me = (await world.get("/v1/me")).json
    assert me["page_url"].startswith(f"https://127.0.0.1:{world.api.port}/#login=")
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as client:
        base = f"https://localhost:{world.api.port}"
        assert (await client.get(f"{base}/v1/status")).status == 401
        headers = {"Authorization": "Bearer lept_good", "Origin": base}
        assert (await client.get(f"{base}/v1/status", headers=headers)).status == 200
        code = me["page_url"].partition("#login=")[2]
        answer = await client.post(f"{base}/v1/session", json={"code": code})
        assert "Secure" in answer.headers["Set-Cookie"]
    env = {"LEPTOND_HOST": base, "LEPTOND_TOKEN": "lept_good", "SSL_CERT_FILE": str(certificate[0])}
    known = await leptonctl(env, "whoami")
    assert (known.returncode, "known by a token" in known.stdout) == (0, True), known.stderr
    strange = await leptonctl({**env, "SSL_CERT_FILE": "/dev/null"}, "whoami")
    assert (strange.returncode, "certificate" in strange.stderr.lower()) == (69, True), strange
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"http://127.0.0.1:{world.api.port}/healthz")
