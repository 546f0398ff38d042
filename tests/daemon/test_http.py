"""The HTTP surface on a real daemon: idempotency, pages, events, identity, hosts, time limits."""

import concurrent.futures
import http.client
import json
import os
import re
import socket
import time

import pytest
from openapi_spec_validator import validate

from leptond.api.metrics.exposition import Metrics
from leptond.api.server import all_routes
from leptond.core.access.policies import NEEDED
from tests.support.daemon import Answer, Daemon, UnixConnection, until


def test_the_same_key_makes_one_job_in_many_races(shared_daemon):
    def send(_):
        return shared_daemon.post("/v1/jobs", {"argv": ["true"]}, Idempotency_Key="race")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(48)))
    assert {answer.status for answer in answers} == {200, 201}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert [answer.status for answer in answers].count(201) == 1
    other = shared_daemon.post("/v1/jobs", {"argv": ["false"]}, Idempotency_Key="race")
    assert (other.status, other.json["type"]) == (409, "/problems/conflict")


def test_a_key_is_remembered_over_a_crash(daemon):
    first = daemon.post("/v1/jobs", {"argv": ["true"]}, Idempotency_Key="k")
    daemon.kill()
    daemon.start()
    again = daemon.post("/v1/jobs", {"argv": ["true"]}, Idempotency_Key="k")
    assert (again.status, again.json["id"]) == (200, first.json["id"])


def test_pages_cover_everything_once(shared_daemon):
    batch = {
        "jobs": [{"argv": ["true"], "hold": True, "project": "pages", "priority": i % 3} for i in range(25)]
    }
    ids = {job["id"] for job in shared_daemon.post("/v1/jobs:batch", batch).json["jobs"]}
    for order in ("newest", "queue"):
        seen, cursor = [], ""
        while cursor is not None:
            page = shared_daemon.get(
                f"/v1/jobs?project=pages&order={order}&limit=7{cursor and '&cursor=' + cursor}"
            ).json
            seen += [(job["priority"], job["id"]) for job in page["items"]]
            cursor = page["next_cursor"]
        assert {number for _, number in seen} == ids
        assert len(seen) == 25
        if order == "queue":
            assert seen == sorted(seen, key=lambda one: (-one[0], one[1]))
    for number in ids:
        shared_daemon.post(f"/v1/jobs/{number}/cancel")


def test_filters(shared_daemon):
    job = shared_daemon.submit("true", labels={"team": "vision"}, project="filters", name="one")
    shared_daemon.finished(job)
    for query in (
        "label=team=vision",
        "project=filters",
        "name=one&project=filters",
        "state=succeeded&project=filters",
    ):
        assert [one["id"] for one in shared_daemon.get(f"/v1/jobs?{query}").json["items"]] == [job], query
    assert shared_daemon.get("/v1/jobs?project=filters&state=failed").json["items"] == []


def events_after(daemon, last_id, count):
    """`count` events from the stream, as (id, type)."""
    connection = UnixConnection(daemon.socket)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last_id)}
    connection.request("GET", "/v1/events", headers=headers)
    response = connection.getresponse()
    found, number = [], None
    while len(found) < count:
        line = response.readline().decode().rstrip("\n")
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("event: ") and line != "event: hello":
            found.append((number, line[7:]))
    connection.close()
    return found


def test_events_resume_exactly(shared_daemon):
    for _ in range(5):
        shared_daemon.finished(shared_daemon.submit("true"))
    page = shared_daemon.get("/v1/events?since=0&limit=1000").json["items"]
    everything = [(event["id"], event["type"]) for event in page]
    assert everything == sorted(everything)
    for cut in (0, 3, len(everything) - 4):
        last = everything[cut - 1][0] if cut else 0
        rest = everything[cut:]
        assert events_after(shared_daemon, last, len(rest)) == rest


def test_a_stream_goes_on_with_what_happens(shared_daemon):
    last = shared_daemon.get("/v1/events?limit=1000").json["items"][-1]["id"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reading = pool.submit(events_after, shared_daemon, last, 4)
        shared_daemon.submit("true")
        kinds = [kind for _, kind in reading.result(60)]
    assert kinds == ["job.submitted", "job.state", "job.state", "job.state"]


def test_the_log_in_parts(shared_daemon):
    job = shared_daemon.submit("sh", "-c", "printf 'one\\ntwo\\nthree'")
    shared_daemon.finished(job)
    path = f"/v1/jobs/{job}/log"
    assert shared_daemon.get(path).data == b"one\ntwo\nthree"
    assert shared_daemon.get(f"{path}?offset=4").data == b"two\nthree"
    assert shared_daemon.get(f"{path}?tail=2").data == b"two\nthree"
    part = shared_daemon.request("GET", path, headers={"Range": "bytes=4-6"})
    assert (part.status, part.data, part.headers["Content-Range"]) == (206, b"two", "bytes 4-6/13")
    assert shared_daemon.request("GET", path, headers={"Range": "bytes=-5"}).data == b"three"
    assert shared_daemon.request("GET", path, headers={"Range": "bytes=99-"}).status == 416
    assert shared_daemon.get(f"{path}?attempt=2").status == 404


def test_the_log_follows_no_link(daemon, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("do not tell\n")
    job = daemon.submit("sh", "-c", "echo output")
    daemon.finished(job)
    log = daemon.state_dir / "jobs" / str(job) / "1" / "output.log"
    assert daemon.output(job) == "output\n"
    log.unlink()
    log.symlink_to(secret)
    assert "do not tell" not in daemon.output(job)
    log.unlink()
    os.link(secret, log)
    assert "do not tell" not in daemon.output(job)


def test_output_that_a_job_has_removed_is_no_output_that_never_was(daemon, tmp_path):
    go = tmp_path / "go"
    script = f"echo printed; rm $LEPTOND_ATTEMPT_DIR/output.log; while [ ! -e {go} ]; do sleep 0.05; done"
    job = daemon.submit("sh", "-c", script)
    until(lambda: daemon.get(f"/v1/jobs/{job}/log").status == 404, "while it runs")
    go.touch()
    assert daemon.finished(job)["attempts"][0]["log_bytes"] == 8
    gone = daemon.get(f"/v1/jobs/{job}/log")
    assert (gone.status, gone.json["type"]) == (404, "/problems/output-removed")
    assert "its 8 bytes were removed" in gone.json["detail"]
    followed = daemon.get(f"/v1/jobs/{job}/log/stream").data
    assert b"event: log.removed" in followed
    assert b"event: end" in followed
    silent = daemon.submit("true")
    daemon.finished(silent)
    assert (daemon.get(f"/v1/jobs/{silent}/log").status, daemon.output(silent)) == (200, "")


EXCHANGES = """
cd "$LEPTOND_ATTEMPT_DIR/.." && mv 1 away && ln -s {other} 1
echo exchanged; while [ ! -e {go} ]; do sleep 0.05; done
"""


def test_a_directory_that_a_job_exchanges_for_a_link_is_not_followed(daemon, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "output.log").write_text("of somebody else\n")
    script = EXCHANGES.format(other=other, go=tmp_path / "go")
    job = daemon.submit("sh", "-c", script)
    until(lambda: (daemon.state_dir / "jobs" / str(job) / "1").is_symlink(), "it has exchanged it")
    assert "somebody" not in daemon.output(job)
    (tmp_path / "go").touch()
    assert daemon.finished(job)["state"] == "succeeded"
    assert "somebody" not in daemon.output(job)
    assert [path.name for path in other.iterdir()] == ["output.log"], "nothing is written there"


def test_secrets_in_the_environment_are_not_shown(shared_daemon):
    job = shared_daemon.submit(
        "sh", "-c", "echo $WANDB_API_KEY", env={"WANDB_API_KEY": "s3cr3t", "PLAIN": "shown"}
    )
    done = shared_daemon.finished(job)
    assert done["spec"]["env"] == {"WANDB_API_KEY": "***", "PLAIN": "shown"}
    assert shared_daemon.output(job) == "s3cr3t\n"
    for path in ("/v1/jobs?limit=1000", "/v1/events?limit=1000", "/v1/status", f"/v1/jobs/{job}"):
        assert b"s3cr3t" not in shared_daemon.get(path).data


def test_the_description_is_valid_and_complete(shared_daemon):
    document = shared_daemon.get("/v1/openapi.json").json
    validate(document)
    operations = {(method.upper(), path) for path, ways in document["paths"].items() for method in ways}
    routes = {(route.method, route.path) for route in all_routes(Metrics())} - {("GET", "/v1/openapi.json")}
    assert operations == routes


def test_every_problem_has_its_page(shared_daemon):
    for path, body in (("/v1/jobs", {}), ("/v1/jobs", {"argv": ["x"], "gpus": 99})):
        kind = shared_daemon.post(path, body).json["type"]
        page = shared_daemon.get(kind)
        assert page.status == 200
        assert page.headers["Content-Type"].startswith("text/plain")


def test_metrics_are_the_truth(shared_daemon):
    shared_daemon.finished(shared_daemon.submit("true"))
    text = shared_daemon.get("/metrics").data.decode()
    counts = shared_daemon.get("/v1/status").json["counts"]
    for state, number in counts.items():
        assert f'leptond_jobs{{state="{state}"}} {float(number)}' in text
    assert re.search(r'leptond_gpu_allocated\{gpu="0",uuid="GPU-[^"]+"\} 0.0', text)
    assert "leptond_http_request_seconds_bucket" in text


# -- TCP ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tcp(tmp_path_factory):
    """A daemon that also listens on TCP, and its token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = Daemon(
        tmp_path_factory.mktemp("tcp") / "state", "--simulate-gpus", "1", "--listen", f"127.0.0.1:{port}"
    )
    one.start()
    yield one, port, (one.state_dir / "token").read_text().strip()
    one.close()


def call(port, method, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )
        return Answer(connection.getresponse())
    finally:
        connection.close()


def concrete(path):
    return path.replace("{ref}", "1").replace("{index}", "0").replace("{slug}", "invalid")


ROUTES = [
    (route.method, concrete(route.path), NEEDED[route.policy] is None) for route in all_routes(Metrics())
]


@pytest.mark.parametrize(("method", "path", "is_open"), ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_no_route_answers_strangers(tcp, method, path, is_open):
    daemon, port, token = tcp
    before = daemon.get("/v1/events?limit=1000").data
    good = {"Authorization": f"Bearer {token}"}
    if not is_open:
        assert call(port, method, path).status == 401
    assert call(port, method, path, **good, Host="evil.example").status == 421
    assert call(port, method, path, **good, Origin="https://evil.example").status == 403
    assert call(port, method, path, **good, Sec_Fetch_Site="cross-site").status == 403
    assert daemon.get("/v1/events?limit=1000").data == before


def test_strangers_do_not_learn_which_paths_there_are(tcp):
    _, port, _ = tcp
    for method, path in (("GET", "/nothing/here"), ("PUT", "/v1/jobs"), ("DELETE", "/v1/jobs/47/log")):
        assert call(port, method, path).status == 401


def test_the_token_opens_and_wrong_ones_run_out(tcp):
    _, port, token = tcp
    assert call(port, "GET", "/v1/status", Authorization=f"Bearer {token}").status == 200
    assert call(port, "GET", "/v1/status", Authorization=f"Bearer {token}", Host="localhost").status == 200
    statuses = [call(port, "GET", "/v1/status", Authorization=f"Bearer wrong{i}").status for i in range(14)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_the_token_is_private(tcp):
    daemon, _, token = tcp
    assert (daemon.state_dir / "token").stat().st_mode & 0o777 == 0o600
    assert len(token) > 40
    assert token not in daemon.log.read_text()
    assert daemon.socket.stat().st_mode & 0o777 == 0o600


def test_a_half_request_is_not_waited_for(tcp):
    _, port, _ = tcp
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(30)
        slow.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n")
        begin = time.monotonic()
        assert slow.recv(1024) == b"", "closed without an answer"
        assert time.monotonic() - begin < 20


def test_strangers_do_not_fill_the_server(tcp):
    daemon, port, _ = tcp
    idle = []
    try:
        idle += [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
        assert daemon.get("/v1/status").status == 200
        assert json.loads(daemon.get("/healthz").data)["status"] == "ok"
    finally:
        for one in idle:
            one.close()
