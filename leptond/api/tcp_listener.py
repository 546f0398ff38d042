"""What the TCP listener may be: this machine's own, or one with TLS, or one behind a proxy that has it."""

from __future__ import annotations

import ipaddress
import ssl

from leptond.base.errors import EXIT_CONFIG, StartRefused
from leptond.config import HttpSettings


def checked_listen(http: HttpSettings) -> tuple[str, int]:
    """Return host and port of ``http.listen``. Raises StartRefused (78) where tokens would go over a network
    that others can read."""
    host, _, port = http.listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise StartRefused(f"http.listen must be HOST:PORT, not {http.listen!r}", EXIT_CONFIG)
    if bool(http.tls_cert) != bool(http.tls_key):
        raise StartRefused("http.tls_cert and http.tls_key belong together: set both, or none", EXIT_CONFIG)
    if not (_is_loopback(host) or http.tls_cert or http.behind_tls_proxy):
        raise StartRefused(
            f"leptond does not listen on {host} without TLS: tokens would be readable on the way. Listen on"
            " 127.0.0.1 and use ssh -L; or set http.tls_cert and http.tls_key; or, with a proxy with TLS"
            " before it, http.behind_tls_proxy",
            EXIT_CONFIG,
        )
    return host, int(port)


def tls_context(http: HttpSettings) -> ssl.SSLContext | None:
    """Return what TLS needs; None without. Raises StartRefused (78)."""
    if not http.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(http.tls_cert, http.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartRefused(
            f"the certificate {http.tls_cert} or its key cannot be used: {error}", EXIT_CONFIG
        ) from None
    return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
