"""Bad input gets a clear answer and changes nothing."""

import json
import socket
import sqlite3

import pytest

from tests.support.daemon import until

GOOD = {"argv": ["true"]}


def state(daemon):
    """All that a submit or a command could change."""
    db = sqlite3.connect(f"file:{daemon.state_dir}/leptond.db?mode=ro", uri=True)
    try:
        tables = ("jobs", "folds", "attempts", "leases", "dependencies", "events", "idempotency", "gpus")
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}
    finally:
        db.close()


BODIES = [
    ("unknown field", {**GOOD, "gpuss": 1}, 422, "/gpuss"),
    ("wrong type", {**GOOD, "gpus": "two"}, 422, "/gpus"),
    ("fraction of a GPU", {**GOOD, "gpus": 0.5}, 422, "/gpus"),
    ("negative", {**GOOD, "gpus": -1}, 422, "/gpus"),
    ("more GPUs than there are", {**GOOD, "gpus": 99}, 422, "/gpus"),
    ("huge number", {**GOOD, "priority": 10**40}, 422, "/priority"),
    ("no command", {}, 422, None),
    ("empty command", {"argv": []}, 422, "/argv"),
    ("command is text", {"argv": "true"}, 422, "/argv"),
    ("nested wrong type", {"argv": ["a", 1]}, 422, "/argv/1"),
    ("name with ..", {**GOOD, "name": "../../etc/passwd"}, 422, "/name"),
    ("name with control characters", {**GOOD, "name": "a\u001b[31mb"}, 422, "/name"),
    ("name with a NUL", {**GOOD, "name": "a\u0000b"}, 422, "/name"),
    ("name with a line end", {**GOOD, "name": "a\n"}, 422, "/name"),
    ("relative directory", {**GOOD, "cwd": "here"}, 422, "/cwd"),
    (
        "environment that is ours",
        {**GOOD, "env": {"CUDA_VISIBLE_DEVICES": "0"}},
        422,
        "/env/CUDA_VISIBLE_DEVICES",
    ),
    ("unknown dependency", {**GOOD, "after": ["4711"]}, 422, "/after/0"),
    ("dependency that is no job", {**GOOD, "after": ["x"]}, 422, "/after/0"),
    ("array upside down", {**GOOD, "array": "9-0"}, 422, "/array"),
    ("array too large", {**GOOD, "array": "0-99999999"}, 422, "/array"),
    (
        "signal that is none",
        {**GOOD, "time_limit_s": 9, "warn_signal": {"signal": "KILL", "before_s": 1}},
        422,
        None,
    ),
    ("limit of nothing", {**GOOD, "time_limit_s": 0}, 422, "/time_limit_s"),
    ("time without a zone", {**GOOD, "begin_at": "2030-01-01T00:00:00"}, 422, "/begin_at"),
    ("not an object", [1, 2], 422, None),
    ("NaN", b'{"argv": ["true"], "time_limit_s": NaN}', 400, None),
    ("Infinity", b'{"argv": ["true"], "time_limit_s": Infinity}', 400, None),
    ("bad JSON", b'{"argv": ["true"', 400, None),
    ("no body", b"", 400, None),
    ("not UTF-8", b'{"argv": ["\xff\xfe"]}', 400, None),
    ("a lone surrogate", b'{"argv": ["\\ud800"]}', 400, None),
    ("a key twice", b'{"argv": ["true"], "gpus": 1, "gpus": 2}', 400, None),
    ("nested too deep", b'{"argv": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None),
    ("10 MB", json.dumps({"argv": ["x" * 10_000_000]}).encode(), 413, None),
]


@pytest.mark.parametrize(
    ("body", "status", "pointer"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES]
)
def test_a_bad_submit(shared_daemon, body, status, pointer):
    before = state(shared_daemon)
    answer = shared_daemon.post("/v1/jobs", body)
    assert answer.status == status, answer.data
    problem = answer.json
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert (problem["status"], problem["type"][:10]) == (status, "/problems/")
    assert problem["detail"]
    assert "Traceback" not in answer.data.decode()
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer
    assert state(shared_daemon) == before


def test_a_batch_with_one_bad_job_stores_none(shared_daemon):
    before = state(shared_daemon)
    answer = shared_daemon.post("/v1/jobs:batch", {"jobs": [GOOD, GOOD, {**GOOD, "gpus": 99}]})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/jobs/2/gpus")
    answer = shared_daemon.post("/v1/jobs:batch", {"jobs": [GOOD, {**GOOD, "after": ["999"]}]})
    assert answer.status == 422
    assert state(shared_daemon) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/jobs/4711", None, 404),
        ("GET", "/v1/jobs/x", None, 404),
        ("GET", "/v1/jobs/..%2f..%2fetc", None, 404),
        ("GET", "/v1/jobs/1%00", None, 404),
        ("GET", "/v1/jobs/99999999999999999999", None, 404),
        ("GET", "/v1/jobs/4711/log", None, 404),
        ("GET", "/v1/jobs/4711/why", None, 404),
        ("POST", "/v1/jobs/4711/cancel", None, 404),
        ("POST", "/v1/jobs/4711/hold", None, 404),
        ("POST", "/v1/jobs/4711/retry", None, 404),
        ("PATCH", "/v1/jobs/4711", {"priority": 1}, 404),
        ("DELETE", "/v1/jobs/4711", None, 404),
        ("POST", "/v1/gpus/99/drain", None, 404),
        ("POST", "/v1/gpus/x/drain", None, 404),
        ("POST", "/v1/gpus/0/drain", {"reason": ""}, 422),
        ("PUT", "/v1/jobs", None, 405),
        ("GET", "/no/such", None, 404),
        ("GET", "/v1/jobs?limit=0", None, 422),
        ("GET", "/v1/jobs?limit=x", None, 422),
        ("GET", "/v1/jobs?nonsense=1", None, 422),
        ("GET", "/v1/jobs?limit=1&limit=2", None, 400),
        ("GET", "/v1/jobs?state=odd", None, 422),
        ("GET", "/v1/jobs?cursor=odd", None, 400),
        ("GET", "/v1/events?since=-1", None, 422),
        ("GET", "/v1/status?x=1", None, 422),
    ],
)
def test_bad_paths_queries_and_methods(shared_daemon, method, path, body, status):
    before = state(shared_daemon)
    answer = shared_daemon.request(method, path, body)
    assert answer.status == status, answer.data
    assert answer.json["detail"]
    assert state(shared_daemon) == before


def test_illegal_moves_are_conflicts(shared_daemon):
    done = shared_daemon.finished(shared_daemon.submit("true"))
    running = shared_daemon.submit("sleep", "600")
    until(
        lambda: [one["pid"] for one in shared_daemon.job(running)["attempts"]] not in ([], [None]),
        "the last thing that a start stores",
    )
    before = state(shared_daemon)
    for path in (f"{done['id']}/cancel", f"{done['id']}/hold", f"{done['id']}/release", f"{running}/hold"):
        answer = shared_daemon.post(f"/v1/jobs/{path}")
        assert (answer.status, answer.json["type"]) == (409, "/problems/wrong-state"), path
    for body in ({"gpus": 1}, {"time_limit_s": 5}, {"begin_at": None}):
        assert shared_daemon.request("PATCH", f"/v1/jobs/{running}", body).status == 409
    assert shared_daemon.request("PATCH", f"/v1/jobs/{done['id']}", {"priority": 1}).status == 409
    assert shared_daemon.request("DELETE", f"/v1/jobs/{running}").status == 409
    assert shared_daemon.post(f"/v1/jobs/{running}/retry").status == 409
    assert state(shared_daemon) == before
    shared_daemon.post(f"/v1/jobs/{running}/cancel", {"grace_s": 0})
    shared_daemon.finished(running)


def test_a_body_of_another_type_is_refused(shared_daemon):
    answer = shared_daemon.request("POST", "/v1/jobs", b"argv=true", {"Content-Type": "text/plain"})
    assert answer.status == 415


def test_an_edit_of_an_old_version_is_refused(shared_daemon):
    job = shared_daemon.submit("true", hold=True)
    etag = shared_daemon.get(f"/v1/jobs/{job}").headers["ETag"]
    path = f"/v1/jobs/{job}"
    assert shared_daemon.request("PATCH", path, {"priority": 5}, {"If-Match": etag}).status == 200
    answer = shared_daemon.request("PATCH", path, {"priority": 6}, {"If-Match": etag})
    assert (answer.status, answer.json["type"]) == (409, "/problems/conflict")
    assert shared_daemon.job(job)["priority"] == 5
    shared_daemon.post(f"{path}/cancel")


def test_what_is_not_http_does_no_harm(shared_daemon):
    for junk in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(30)
            raw.connect(str(shared_daemon.socket))
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := raw.recv(65536):
                    answer += part
            except ConnectionResetError:
                pass
            assert b" 500 " not in answer.split(b"\r\n")[0]
            assert b" 2" not in answer.split(b"\r\n")[0][:12]
    assert shared_daemon.get("/readyz").status == 200
