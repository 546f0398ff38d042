"""A job is not the administrator: what its processes ask for, they ask for as its owner, whatever they do."""

from __future__ import annotations

import json
import os
import pwd
import sys
import textwrap

import pytest

OWN = pwd.getpwuid(os.geteuid()).pw_name

ASK = textwrap.dedent("""
    import http.client, json, os, socket, sys

    class Unix(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            host = os.environ.get("LEPTOND_HOST") or sys.argv[1]
            self.sock.connect(host.removeprefix("unix://"))

    def ask(method, path, body=None):
        c = Unix("leptond", timeout=60)
        c.request(method, path, json.dumps(body) if body is not None else None,
                  {"Content-Type": "application/json"} if body is not None else {})
        r = c.getresponse()
        data = r.read()
        return r.status, (json.loads(data) if data[:1] in b"{[" and data else {})
""")

REPORT = """
me = ask("GET", "/v1/me")[1]
print(json.dumps({
    "user": me["user"], "role": me["role"], "job": me["job"], "page": me["page_url"],
    "drain": ask("POST", "/v1/gpus/0/drain", {"reason": "x"})[0],
    "token": ask("POST", "/v1/tokens", {"name": "x"})[0],
    "purge": ask("POST", "/v1/purge", {"older_than_s": 1})[0],
    "backup": ask("GET", "/v1/db/backup")[0],
    "queue": ask("POST", "/v1/queues", {"name": "mine"})[0],
    "status": ask("GET", "/v1/status")[0],
    "submit": ask("POST", "/v1/jobs", {"argv": ["true"], "hold": True})[0],
}), flush=True)
"""

WAYS = {
    "plainly": ASK + REPORT,
    "in a session of its own, with parents that are gone": ASK
    + textwrap.dedent("""
        reader, writer = os.pipe()
        if os.fork():
            os.close(writer)
            os.read(reader, 1)
            sys.exit()
        os.setsid()
        if os.fork():
            os._exit(0)
        """)
    + REPORT,
    "without its environment": "import os, sys\n"
    "os.execve(sys.executable, [sys.executable, '-c', os.environ['CODE'],"
    " os.environ['LEPTOND_HOST']], {})\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_job_asks_as_its_owner(shared_daemon, way):
    env = {"CODE": ASK + REPORT}
    job = shared_daemon.submit(sys.executable, "-c", WAYS[way], env=env)
    shared_daemon.finished(job)
    told = json.loads(shared_daemon.output(job).splitlines()[-1])
    assert told == {
        "user": OWN,
        "role": "user",
        "job": job,
        "page": None,
        "drain": 403,
        "token": 403,
        "purge": 403,
        "backup": 403,
        "queue": 403,
        "status": 200,
        "submit": 201,
    }
    gpu = shared_daemon.get("/v1/gpus").json["items"][0]
    assert not gpu["drained"]


def test_whoever_started_the_daemon_is_the_administrator_all_the_same(shared_daemon):
    me = shared_daemon.get("/v1/me").json
    assert (me["user"], me["role"], me["job"], me["sees_everything"]) == (OWN, "admin", None, True)


def test_the_log_tells_nothing_of_what_jobs_hold(shared_daemon):
    job = shared_daemon.submit(
        "/bin/sh",
        "-c",
        "echo canary-printed; exit 3 # canary-argument",
        env={"PLAIN": "canary-plain", "API_TOKEN": "canary-token"},
        labels={"team": "canary-label"},
        contact="canary-contact",
        params={"x": "canary-param"},
        output="/tmp/none/canary-output/log",
    )
    shared_daemon.finished(job)
    refused = shared_daemon.post("/v1/jobs", {"argv": ["true"], "env": {"A": 1}, "canary-field": "canary"})
    assert refused.status == 422
    assert b"canary" in shared_daemon.get(f"/v1/jobs/{job}").data
    assert "canary" not in shared_daemon.log.read_text()
