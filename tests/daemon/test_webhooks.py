"""Webhooks, with a real daemon and a real receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest

from leptond.core.webhooks import MAX_TRIES, is_retryable_status, retry_delay_s
from tests.support.daemon import PATIENCE_S, Daemon, until

SECRET = "a secret of many characters"


class Receiver:
    """Takes what is sent; `answers` are the statuses to give, in turn, then 204."""

    def __init__(self) -> None:
        self.got: Queue[tuple[dict[str, str], bytes]] = Queue()
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.answers.pop(0) if outer.answers else 204
                outer.got.put((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook/s3cret"

    def next(self) -> tuple[dict[str, str], dict[str, Any]]:
        headers, body = self.got.get(timeout=PATIENCE_S)
        stamp = headers["X-Leptond-Timestamp"]
        expected = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["X-Leptond-Signature"] == f"sha256={expected}"
        return headers, json.loads(body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made with openssl")
def test_https_is_verified_by_the_certificates_of_the_machine(tmp_path, receiver):
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=127.0.0.1", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *words, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    hook = {"name": "chat", "url": receiver.url.replace("http:", "https:"), "secret_file": str(secret)}
    hooks = json.dumps([{**hook, "events": ["job.submitted"]}])
    for trusted in (False, True):
        env = {"LEPTOND_WEBHOOKS__HOOKS": hooks} | ({"SSL_CERT_FILE": str(certificate)} if trusted else {})
        daemon = Daemon(
            tmp_path / f"trusts-{trusted}" / "state", "--simulate-gpus", "1", env=env, executed=True
        )
        daemon.start()
        try:
            job = daemon.submit("true", hold=True)
            if trusted:
                assert receiver.next()[1]["job_id"] == job
            else:
                until(
                    lambda daemon=daemon: "CERTIFICATE_VERIFY_FAILED" in daemon.tail() or log_of(daemon),
                    "a try",
                )
                assert receiver.got.empty()
        finally:
            daemon.close()


@pytest.fixture
def hooked(tmp_path, receiver) -> Iterator[Daemon]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    hook = {
        "name": "chat",
        "url": receiver.url,
        "secret_file": str(secret),
        "events": ["job.ended", "job.submitted"],
    }
    daemon = Daemon(
        tmp_path / "state", "--simulate-gpus", "1", env={"LEPTOND_WEBHOOKS__HOOKS": json.dumps([hook])}
    )
    daemon.start()
    yield daemon
    daemon.close()


def log_of(daemon: Daemon) -> list[dict[str, Any]]:
    return daemon.get("/v1/webhooks").json[0]["deliveries"]


def test_what_was_asked_for_arrives_signed_and_in_order(hooked, receiver):
    job = hooked.submit("sh", "-c", "exit 3", name="broken", contact="Ana, #night")
    headers, first = receiver.next()
    assert (first["event"], first["job_id"]) == ("job.submitted", job)
    headers, last = receiver.next()
    assert (last["event"], last["job"]["state"], last["job"]["exit_code"]) == ("job.ended", "failed", 3)
    assert (last["job"]["name"], last["job"]["contact"]) == ("broken", "Ana, #night")
    assert headers["X-Leptond-Event"] == "job.ended"
    assert headers["X-Leptond-Delivery"] == f"chat-{last['id']}"
    until(lambda: len(log_of(hooked)) == 2, "two deliveries in the log")
    assert "s3cret" not in hooked.get("/v1/webhooks").data.decode()
    assert receiver.got.empty(), "nothing that was not asked for"
    assert 'leptond_webhook_deliveries_total{result="delivered"} 2.0' in hooked.get("/metrics").data.decode()


def test_an_answer_that_may_pass_is_tried_again_and_one_that_will_not_is_not(hooked, receiver):
    receiver.answers = [503, 204, 410, 302]
    hooked.submit("true")
    ids = [receiver.next()[1]["id"] for _ in range(3)]
    assert ids[0] == ids[1] != ids[2]
    hooked.submit("true", hold=True)
    receiver.next()
    until(lambda: len(log_of(hooked)) == 3, "three in the log")
    assert [(one["result"], one["tries"]) for one in log_of(hooked)] == [
        ("refused", 1),  # 302: a redirect would take the body to where the configuration did not say
        ("refused", 1),  # 410
        ("delivered", 2),
    ]


def test_what_happened_while_nobody_listened_is_told_after_a_crash(hooked, receiver):
    job = hooked.submit("true", hold=True)
    receiver.next()
    until(lambda: len(log_of(hooked)) == 1, "in the log")
    receiver.answers = [503] * 3
    hooked.post(f"/v1/jobs/{job}/cancel", {})
    receiver.next()  # refused with 503, so it is owed
    hooked.kill()
    receiver.answers = []
    hooked.start()
    _, told = receiver.next()
    assert (told["event"], told["job"]["state"]) == ("job.ended", "cancelled")
    until(lambda: len(log_of(hooked)) == 2, "both in the log")


def test_a_secret_that_cannot_be_read_is_refused_at_the_start(tmp_path):
    hook = {"name": "x", "url": "http://127.0.0.1:1/", "secret_file": str(tmp_path / "none")}
    daemon = Daemon(tmp_path / "state", env={"LEPTOND_WEBHOOKS__HOOKS": json.dumps([hook])})
    with pytest.raises(BaseException, match="ended with 78"):
        daemon.start()
    assert "secret of the webhook x" in daemon.log.read_text()
    daemon.process = None


def test_tries_end():
    waits = [retry_delay_s(n, 0.0) for n in range(1, MAX_TRIES + 1)]
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits[-1] is None
    assert [is_retryable_status(status) for status in (404, 429, 500, 410)] == [False, True, True, False]


def test_people_are_told_in_words_by_apprise(tmp_path, receiver):
    pytest.importorskip("apprise", reason="services of people need apprise (the extra notify)")
    url = receiver.url.replace("http://", "json://")
    hook = {"name": "people", "url": url, "events": ["job.ended", "gpu.state"]}
    daemon = Daemon(
        tmp_path / "state", "--simulate-gpus", "1", env={"LEPTOND_WEBHOOKS__HOOKS": json.dumps([hook])}
    )
    daemon.start()
    try:
        receiver.answers = [500]  # apprise calls that a failure, and so it is tried again
        daemon.finished(daemon.submit("sh", "-c", "exit 3", name="broken"))
        told = [json.loads(receiver.got.get(timeout=PATIENCE_S)[1]) for _ in range(2)]
        assert told[0] == told[1]
        assert told[1]["title"] == "job 1 (broken) failed"
        assert "failed with exit code 3" in told[1]["message"]
        assert told[1]["type"] == "failure"
        daemon.post("/v1/gpus/0/drain", {"reason": "loud fan"})
        last = json.loads(receiver.got.get(timeout=PATIENCE_S)[1])
        assert (last["title"].endswith("is drained"), last["message"]) == (True, "loud fan")
        until(lambda: len(log_of(daemon)) == 2, "both in the log")
        assert [(one["result"], one["tries"]) for one in log_of(daemon)] == [
            ("delivered", 1),
            ("delivered", 2),
        ]
        assert daemon.get("/v1/webhooks").json[0]["url"] == "json://..."
    finally:
        daemon.close()


def test_a_service_that_apprise_does_not_know_is_refused_at_the_start(tmp_path):
    pytest.importorskip("apprise", reason="services of people need apprise (the extra notify)")
    hook = {"name": "x", "url": "nonsense://x"}
    daemon = Daemon(tmp_path / "state", env={"LEPTOND_WEBHOOKS__HOOKS": json.dumps([hook])})
    with pytest.raises(BaseException, match="ended with 78"):
        daemon.start()
    assert "apprise does not know this nonsense address" in daemon.log.read_text()
    daemon.process = None
