"""What a person sees on the page, and what their clicks do in the daemon."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from leptond.cli.commands.submit import submit_command
from leptond.cli.framework.declare import parse
from tests.support.daemon import Daemon, until
from tests.ui.conftest import Watched, axe_source, url_of

PYTHON = sys.executable
HOLDING = (
    "import os, sys, time\nprint('holding', flush=True)\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.02)"
)


@pytest.fixture
def queue(served, tmp_path):
    """A failed job, one that runs on two GPUs, one that cannot fit, one that is held."""
    go = tmp_path / "go"
    failed = served.submit("sh", "-c", "echo '\033[31mred words\033[0m'; exit 3", name="broken")
    served.finished(failed)
    running = served.submit(PYTHON, "-c", HOLDING, str(go), gpus=2, name="holder", time_limit_s=3600)
    served.printed(running, "holding")
    waiting = served.submit("true", gpus=8, name="wide", project="vision")
    held = served.submit("true", gpus=1, name="kept", hold=True)
    yield {"failed": failed, "running": running, "waiting": waiting, "held": held}
    go.touch()
    for job in (waiting, held):
        served.post(f"/v1/jobs/{job}/cancel", {})
        served.finished(job)
    served.finished(running)


def test_the_overview_says_what_is(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))
    assert "login" not in page.url, "the code does not stay in the address"
    for name in ("holder", "wide", "kept"):
        page.locator(".row").get_by_role("link", name=name, exact=True).wait_for()
    text = page.inner_text("body")
    for words in (
        "1 running",
        "2 pending",
        "2/8 GPUs busy",
        "GPUs",
        "Timeline",
        "Queue",
        "wide",
        "kept",
        "held",
    ):
        assert re.search(words.replace(" ", r"\s+"), text), words
    assert "needs 8 GPUs" in text, "why it waits, in words"
    assert page.locator(".gpu").count() == 8
    assert page.locator(".gpu.busy").count() == 2
    page.locator(".timeline a").first.wait_for(state="attached")
    assert page.locator(".dot").inner_text() == "live"


def test_a_job_has_its_log_in_colour_and_its_story(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))
    page.locator(".row .id a").first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/jobs/{queue['failed']}")
    page.get_by_role("heading", name="broken").wait_for()
    page.locator(".line .a-fg1", has_text="red words").wait_for()
    page.get_by_text("complete", exact=True).wait_for()
    text = page.inner_text("main")
    assert "failed with exit code 3" in text
    assert "\033" not in text
    assert page.get_by_role("button", name="copy as leptonctl submit").count() == 1
    page.get_by_label("Search").fill("WORDS")
    page.locator("mark", has_text="words").wait_for()


def test_a_training_shows_its_curve_and_takes_a_new_rate(watched, served, tmp_path):
    script = (
        "import sys, time\nfrom leptond import job\nstep = 0\n"
        "while not job.should_stop():\n"
        "    rate = job.knob('lr', 0.5, low=1e-6, high=1.0)\n"
        "    step += 1\n"
        "    job.report(step=step, total=100000, loss=1 / step, lr=rate)\n"
        "    time.sleep(0.05)\n"
    )
    job = served.submit(
        PYTHON, "-c", script, gpus=1, name="learner", env={"PYTHONPATH": served.env["PYTHONPATH"]}
    )
    page = watched.page
    page.goto(url_of(served))
    page.locator(".rows").first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job}")
    page.locator(".curve canvas").wait_for()
    page.get_by_text(re.compile(r"step \d+ of 100000")).wait_for()
    page.get_by_label("Tune").fill("lr=0.001")
    page.get_by_role("button", name="apply at the next step").click()
    until(lambda: served.job(job)["tuned"] == {"lr": 0.001}, "the new rate is stored")
    page.get_by_text("lr 0.001").first.wait_for()
    served.post(f"/v1/jobs/{job}/cancel", {})
    served.finished(job)


def test_a_job_shows_how_it_uses_its_gpus(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))
    page.locator(".row .id a").first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/jobs/{queue['running']}")
    page.get_by_role("heading", name="GPU use").wait_for()
    assert page.locator(".gpu-use").count() == 2
    until(lambda: page.locator(".use .load").count() >= 2, "load of both GPUs")
    assert re.search(r"at most \d+% load", page.inner_text(".gpu-use"))


def test_usage_is_taken_away_as_a_table(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))
    page.locator(".gpu").first.wait_for()
    page.goto(page.url.partition("#")[0] + "#/usage")
    with page.expect_download() as taken:
        page.get_by_role("button", name="download CSV").click()
    text = taken.value.path().read_bytes().decode()
    assert taken.value.suggested_filename == "usage-by-user.csv"
    head, first, *_ = text.split("\r\n")
    assert head.startswith("since,until,key,jobs,gpu_seconds")
    assert len(first.split(",")) == len(head.split(","))


def test_what_the_page_copies_is_the_same_job_again(watched, served):
    spec = {
        "argv": ["sh", "-c", "echo it's; exit 3"],
        "name": "again",
        "project": "p",
        "labels": {"a": "b c"},
        "env": {"A": "1 2", "MY_TOKEN": "hidden"},
        "gpus": 2,
        "gpu_type": "Simulated",
        "priority": -3,
        "time_limit_s": 5400,
        "grace_s": 0.5,
        "warn_signal": {"signal": "USR1", "before_s": 60},
        "retries": 2,
        "retry_on": ["75", "timeout"],
        "no_retry_on": ["SIGSEGV"],
        "fail_fast": False,
        "requeue": False,
        "preemptible": True,
        "no_progress_s": 600,
        "array": "3-4%1",
        "hold": True,
    }
    answer = served.post("/v1/jobs", {**spec, "cwd": "/tmp"})
    assert answer.status == 201, answer.data
    first = served.job(answer.json["ids"][0])
    page = watched.page
    page.add_init_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.goto(f"{url_of(served)}")
    page.locator(".gpu").first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/jobs/{first['id']}")
    page.get_by_role("button", name="copy as leptonctl submit").click()
    page.wait_for_function("window.copied")
    copied = shlex.split(page.evaluate("window.copied"))
    assert copied[:2] == ["leptonctl", "submit"]
    values = parse(submit_command, copied[2:])
    assert values is not None
    given = values[0]
    assert (given["name"], given["project"], given["labels"]) == ("again", "p", ("a=b c",))
    assert (given["array"], given["env"], given["argv"]) == ("3", ("A=1 2", "MY_TOKEN"), tuple(spec["argv"]))
    assert (given["time_limit_s"], given["warn_signal"]) == (5400.0, ("USR1", 60.0, False))
    served.post(f"/v1/arrays/{answer.json['array_id']}/cancel")


def test_the_actions_act(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))

    def row(name):
        return page.locator(".row", has=page.get_by_role("link", name=name, exact=True))

    row("kept").get_by_role("button", name="release").click()
    until(lambda: not served.job(queue["held"])["held"], "released")
    done = served.finished(queue["held"])
    assert done["state"] == "succeeded"
    row("wide").get_by_role("button", name="hold").click()
    until(lambda: served.job(queue["waiting"])["held"], "held")
    row("wide").get_by_role("button", name="top").click()
    until(lambda: served.job(queue["waiting"])["priority"] == 1, "its priority")
    row("wide").get_by_role("button", name="cancel").click()
    assert served.job(queue["waiting"])["state"] == "pending", "once is not enough"
    row("wide").get_by_role("button", name="really cancel?").click()
    assert served.finished(queue["waiting"])["state"] == "cancelled"

    card = page.locator(".gpu", has=page.get_by_text("7", exact=True))
    card.get_by_role("button", name="drain").click()
    card.get_by_role("button", name="really drain?").click()
    until(lambda: served.get("/v1/gpus").json["items"][7]["drained"], "drained")
    card.get_by_role("button", name="undrain").click()
    until(lambda: not served.get("/v1/gpus").json["items"][7]["drained"], "back")

    page.goto(page.url.partition("#")[0] + f"#/jobs/{queue['failed']}")
    page.get_by_role("button", name="run again").click()
    page.wait_for_url(re.compile(rf"#/jobs/(?!{queue['failed']}$)\d+$"))
    again = int(page.url.rpartition("/")[2])
    assert served.job(again)["retry_of"] == queue["failed"]
    served.finished(again)


def test_a_job_is_submitted_from_the_form(watched, served, tmp_path):
    page = watched.page
    page.goto(url_of(served))
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Command").fill("echo from the page $WHAT; pwd")
    page.get_by_label("Directory").fill(str(tmp_path))
    page.get_by_label("Environment").fill("WHAT=really")
    page.get_by_label("Time limit").fill("1h30m")
    page.get_by_label("GPUs").fill("1")
    page.get_by_role("button", name="submit", exact=True).click()
    page.wait_for_url(re.compile(r"#/jobs/\d+$"))
    job = served.finished(int(page.url.rpartition("/")[2]))
    assert (job["state"], job["time_limit_s"], job["gpus"]) == ("succeeded", 5400, 1)
    page.locator(".line", has_text="from the page really").wait_for()
    page.locator(".line", has_text=str(tmp_path)).wait_for()
    page.goto(page.url.partition("#")[0] + "#/history")
    page.locator("td", has_text="succeeded").first.wait_for()


def test_a_contact_is_asked_for_shown_and_searched(watched, served):
    page = watched.page
    page.goto(url_of(served))
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Command").fill("true")
    page.get_by_label("Directory").fill("/")
    page.get_by_label("Name", exact=True).fill("with-contact")
    page.get_by_label("Contact").fill("Ana, #night & co")
    page.get_by_label("hold it").check()
    page.get_by_role("button", name="submit", exact=True).click()
    page.wait_for_url(re.compile(r"#/jobs/\d+$"))
    number = int(page.url.rpartition("/")[2])
    assert served.job(number)["contact"] == "Ana, #night & co"
    page.locator(".facts-list", has_text="Ana, #night & co").wait_for()
    others = [served.submit("true", gpus=1, name="of-nobody", hold=True)]

    def find(value):
        page.get_by_label("Field").select_option("contact")
        page.get_by_label("Value").fill(value)
        page.get_by_role("button", name="find", exact=True).click()

    page.goto(page.url.partition("#")[0] + "#/")
    page.get_by_role("link", name="of-nobody", exact=True).wait_for()
    find("Ana, #night & co")
    page.get_by_role("link", name="of-nobody", exact=True).wait_for(state="detached")
    page.get_by_role("link", name="with-contact", exact=True).wait_for()
    find("somebody else")
    page.get_by_text("No running or pending job is like that.").wait_for()
    page.get_by_label("Value").fill("")
    page.get_by_role("link", name="of-nobody", exact=True).wait_for()
    for job in (number, *others):
        served.post(f"/v1/jobs/{job}/cancel")
    served.reached(number, "cancelled")
    page.goto(page.url.partition("#")[0] + "#/history")
    page.locator("td", has_text="of-nobody").wait_for()
    find("Ana, #night & co")
    page.locator("td", has_text="of-nobody").wait_for(state="detached")
    page.locator("td", has_text="with-contact").wait_for()


def test_a_script_and_what_became_of_other_files_are_shown(watched, served, tmp_path):
    (tmp_path / "train.sh").write_text("echo 1\n")
    spec = {"script": "#!/bin/sh\n# as it was\nsh train.sh\n", "cwd": str(tmp_path), "hold": True}
    job = served.submit(f"{tmp_path}/job.sh", **spec)
    (tmp_path / "train.sh").write_text("echo 2\n")
    page = watched.page
    page.goto(url_of(served))
    page.locator(".row .id a").first.wait_for()
    served.post(f"/v1/jobs/{job}/release")
    served.finished(job)
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job}")
    page.get_by_text("the script, as it was at the submit").click()
    page.locator("pre", has_text="# as it was").wait_for()
    page.locator("td.words .note", has_text=f"{tmp_path}/train.sh was changed at").wait_for()


def test_what_is_refused_is_said(watched, served):
    page = watched.page
    page.goto(url_of(served))
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Command").fill("true")
    page.get_by_label("Directory").fill("/")
    page.get_by_label("GPUs").fill("64")
    page.get_by_role("button", name="submit", exact=True).click()
    page.get_by_text("the job asks for 64 GPUs, this machine has 8").wait_for()
    watched.complaints[:] = [one for one in watched.complaints if "422" not in one]


def test_the_log_goes_on_after_a_restart_without_losing_a_line(watched, served, tmp_path):
    page = watched.page
    go = tmp_path / "go"
    counting = (
        "import os, sys, time\ni = 0\nwhile not os.path.exists(sys.argv[1]):\n"
        "    print('line', i, flush=True)\n    i += 1\n    time.sleep(0.01)\nprint('last', i, flush=True)"
    )
    # the port must be the same after the restart, as it is for who sets one
    port = url_of(served).partition("/#")[0].rpartition(":")[2]
    served.options = (*served.options[:-1], f"127.0.0.1:{port}")
    job = served.submit(PYTHON, "-c", counting, str(go), name="counter")
    page.goto(url_of(served))
    page.locator(".rows").first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/jobs/{job}")
    page.locator(".line", has_text=re.compile(r"line \d+")).first.wait_for()
    served.restart()
    page.get_by_text("following", exact=True).wait_for()
    page.locator(".dot.live").wait_for()
    go.touch()
    served.finished(job)
    page.get_by_text("complete", exact=True).wait_for()
    written = served.output(job).splitlines()
    page.get_by_label("Search").fill("line ")
    page.get_by_text(f"of {len(written) - 1}").wait_for()
    page.get_by_label("follow").check()
    page.locator(".line", has_text=written[-1]).wait_for()
    # while the daemon was away the browser could not reach it: that alone may be complained of
    watched.complaints[:] = [
        one
        for one in watched.complaints
        if "ERR_CONNECTION" not in one
        and "ERR_INCOMPLETE" not in one
        and "503" not in one
        and "ERR_EMPTY" not in one
    ]


def test_a_stale_page_says_so(watched, served):
    page = watched.page
    page.goto(url_of(served))
    page.locator(".dot.live").wait_for()
    watched.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    port = url_of(served).partition("/#")[0].rpartition(":")[2]
    served.options = (*served.options[:-1], f"127.0.0.1:{port}")
    served.restart()
    page.locator(".dot.stale").wait_for()
    watched.context.set_offline(False)
    page.locator(".dot.live").wait_for()
    watched.complaints.clear()


def test_with_the_keyboard_alone(watched, served, queue):
    page = watched.page
    page.goto(url_of(served))
    page.get_by_role("link", name="holder").first.wait_for()
    page.keyboard.press("h")
    page.get_by_role("heading", name="History").wait_for()
    page.keyboard.press("q")
    button = page.locator(".row", has=page.get_by_role("link", name="wide", exact=True)).get_by_role(
        "button", name="hold"
    )
    button.wait_for()
    for _ in range(200):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    else:
        raise AssertionError("the button cannot be reached by Tab")
    page.keyboard.press("Enter")
    until(lambda: served.job(queue["waiting"])["held"], "held by the keyboard")
    page.locator(".timeline svg").focus()
    before = page.locator(".timeline .tools .quiet").inner_text()
    page.keyboard.press("+")
    page.wait_for_function(
        "text => document.querySelector('.timeline .tools .quiet').innerText !== text", arg=before
    )


def test_a_token_is_asked_for(browser, served):
    one = Watched(browser)
    page = one.page
    address = url_of(served).partition("#")[0]
    page.goto(address)
    page.get_by_label("Token").fill("lept_wrong")
    page.get_by_role("button", name="open").click()
    page.get_by_text("this token is not valid").wait_for()
    page.get_by_label("Token").fill((served.state_dir / "token").read_text().strip())
    page.get_by_role("button", name="open").click()
    page.get_by_role("heading", name="Queue").wait_for()
    one.close()


def test_the_read_only_token_only_looks(watched, served, queue):
    page = watched.page
    page.goto(url_of(served, read_only=True))
    page.get_by_role("link", name="holder").first.wait_for()
    assert page.get_by_text("read-only").count() == 1
    assert page.get_by_role("button", name="cancel").count() == 0
    assert page.get_by_role("button", name="drain").count() == 0
    assert page.get_by_role("link", name="Submit", exact=True).count() == 0


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (400, "dark"),
        (1600, "light"),
        pytest.param(400, "light", marks=pytest.mark.slow),
        pytest.param(1600, "dark", marks=pytest.mark.slow),
    ],
)
def test_every_width_and_colour_is_usable(browser, served, queue, width, scheme):
    axe = axe_source()
    one = Watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = one.page
    page.goto(url_of(served))
    page.get_by_role("link", name="holder").first.wait_for()
    page.evaluate(axe)
    base = page.url.partition("#")[0]
    for view, mark in (
        ("#/", "Queue"),
        ("#/history", "History"),
        ("#/usage", "By"),
        ("#/submit", "Submit a job"),
        (f"#/jobs/{queue['failed']}", "broken"),
        (f"#/jobs/{queue['waiting']}", "wide"),
    ):
        page.goto(base + view)
        page.get_by_role("heading", name=mark).first.wait_for()
        room = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert room <= 0, f"{view} is {room} px wider than {width} px"
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        faults = [
            f"{fault['id']}: {[node['target'] for node in fault['nodes']][:3]}"
            for fault in found["violations"]
        ]
        assert faults == [], f"{view} at {width} px, {scheme}"
    one.close()
    assert one.complaints == []


def test_ten_thousand_jobs_are_as_light_as_fifty(watched, tmp_path):
    specs = [{"argv": ["true"], "gpus": 1, "hold": True, "name": f"deep-{i}"} for i in range(10_000)]
    # of its own, and gone with all its jobs: none of them runs, and to cancel each takes longer than the test
    daemon = Daemon(tmp_path / "state", "--simulate-gpus", "8", "--listen", "127.0.0.1:0")
    daemon.start()
    try:
        assert daemon.post("/v1/jobs:batch", {"jobs": specs}).status == 201
        page = watched.page
        page.goto(url_of(daemon))
        page.get_by_role("link", name="deep-0", exact=True).first.wait_for()
        for _ in range(6):
            before = page.locator(".foot").inner_text()
            page.evaluate(
                "document.querySelector('.rows').scrollTop = document.querySelector('.rows').scrollHeight"
            )
            page.wait_for_function("text => document.querySelector('.foot').innerText !== text", arg=before)
        assert page.locator(".row").count() < 60, "only what is in view is in the document"
        page.goto("about:blank")  # a page whose daemon goes away complains
    finally:
        daemon.kill()
