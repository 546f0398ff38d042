"""`leptonctl cancel`, `retry`, `hold`, `release` and `edit`: change what is queued or runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from leptond.base.usage import UsageError
from leptond.cli.commands import job_sets
from leptond.cli.commands.job_fields import changes, edit_options, pair, retry_options
from leptond.cli.commands.job_sets import set_options
from leptond.cli.framework import refs
from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.params import JOB, SECONDS
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.client.errors import EXIT_UNREACHABLE, ClientError
from leptond.core.jobs.fields import BY_NAME

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

    from leptond.cli.framework.progress import Bar

MANY = 20
"""More jobs than this get a progress bar, where that is worth it."""


def _each(
    session: Session,
    wanted: Sequence[str],
    act: Callable[[str], Any],
    sentence: Callable[[str, Any], str],
    *,
    named: Sequence[str],
) -> None:
    """Call `act` for every ref, also after a failure; the exit code is that of the first failure. With --json
    one object is printed when one job was `named`, else a list."""
    single = len(named) == 1 and len(wanted) == 1 and not named[0].endswith("*")
    answers: list[Any] = []
    code = 0
    with _bar(session, len(wanted)) as bar:
        for ref in wanted:
            if bar is not None:
                bar.add()
            try:
                answer = act(ref)
            except ClientError as error:
                if error.exit_code == EXIT_UNREACHABLE or single:
                    raise
                code = code or error.exit_code
                answers.append(error.problem)
                who = "" if f"job {ref}" in str(error) else f"job {ref}: "
                session.warn(f"{who}{error}" + (f" ({error.hint})" if error.hint else ""))
                continue
            answers.append(answer)
            if not session.json:
                echo(sentence(ref, answer))
    if session.json:
        session.emit(answers[0] if single else answers)
    leave(code)


def _named(session: Session, jobs: Sequence[str]) -> list[str]:
    """The refs of jobs that are to be changed. An array is changed as a whole; with --json a small one is
    still answered member by member."""
    most = refs.MANY if session.json else 0
    return refs.expand(session, jobs, whole=True, same_name="unfinished", most=most)


def _who(ref: str, answer: Any) -> str:
    """The subject of a sentence about what was done to a job, or to a whole array."""
    if not refs.is_whole(ref):
        return f"Job {ref} is"
    return f"{answer['changed']:,} jobs of array {ref[:-2]} are"


def _bar(session: Session, count: int) -> contextlib.AbstractContextManager[Bar | None]:
    if count <= MANY:
        return contextlib.nullcontext()
    from leptond.cli.framework.progress import Bar

    return Bar(session, "jobs", count)


@command("cancel", short_help="Cancel jobs.")
@argument("jobs", nargs=-1, type=JOB)
@set_options("All that run or wait, of everybody if you may.", "All of my own.")
@option("--grace", type=SECONDS, help="Time between the stop signal and the kill; 0 kills at once.")
@option("--reason", metavar="TEXT", help="Why, for the record.")
def cancel_command(
    session: Session,
    jobs: tuple[str, ...],
    yes: bool,
    grace: float | None,
    reason: str | None,
    **given: Any,
) -> None:
    """Cancel JOBS: numbers (that of an array means all of it), 60,61 or 60-65, 47_3, 47_*, names, or @last;
    or all that the options choose, in one step, so that none of them can start in between.

    A job that waits is gone at once. One that runs gets a SIGTERM, has its grace time to save its work,
    and is then killed with everything it started.
    """
    body = {key: value for key, value in (("grace_s", grace), ("reason", reason)) if value is not None}
    chosen_set = job_sets.chosen(jobs, given)
    if chosen_set is not None:
        job_sets.change(session, "cancel", chosen_set, done="cancelled", yes=yes, more=body)
        return
    wanted = _named(session, jobs)
    if len(wanted) > job_sets.MANY and not session.json:
        job_sets.change_named(session, "cancel", wanted, done="cancelled", more=body)
        return

    def sentence(ref: str, job: dict[str, Any]) -> str:
        if refs.is_whole(ref):
            stopping = job["array"]["counts"].get("stopping", 0)
            return f"{_who(ref, job)} cancelled" + (f", {stopping} of them being stopped" if stopping else "")
        done = job["state"] == "cancelled"
        return f"Job {ref} is cancelled" if done else f"Job {ref} is being cancelled"

    _each(
        session,
        wanted,
        lambda ref: session.api.post(refs.job_path(ref, "cancel"), body or None),
        sentence,
        named=jobs,
    )


@command("retry", short_help="Run ended jobs again, as copies; skip a backoff.")
@argument("jobs", nargs=-1, required=True, type=JOB)
@retry_options
def retry_command(session: Session, jobs: tuple[str, ...], **given: Any) -> None:
    """Run JOBS again. One that has ended is queued as a new job, which finds the old one's checkpoints;
    one that waits in backoff starts without waiting longer. What no option changes stays as it was, and a
    script that was copied at the submit runs as it was then."""
    changed = changes(given)

    def sentence(ref: str, answer: dict[str, Any]) -> str:
        if answer["id"] == known.get(ref) or str(answer["id"]) == ref:
            return f"Job {ref} does not wait any longer"
        for warning in answer.get("warnings") or []:
            session.warn(str(warning))
        return f"Submitted job {answer['id']} (again {ref})"

    wanted = refs.expand(session, jobs)
    # a member of an array goes by another name than its id
    known = {ref: session.api.get(refs.job_path(ref))["id"] for ref in wanted if "_" in ref}
    _each(
        session,
        wanted,
        lambda ref: session.api.post(refs.job_path(ref, "retry"), changed or None),
        sentence,
        named=jobs,
    )


def _hold(
    session: Session, verb: str, done: str, jobs: Sequence[str], yes: bool, given: dict[str, Any]
) -> None:
    chosen_set = job_sets.chosen(jobs, given)
    if chosen_set is not None:
        job_sets.change(session, verb, chosen_set, done=done, yes=yes)
        return
    wanted = _named(session, jobs)
    if len(wanted) > job_sets.MANY and not session.json:
        job_sets.change_named(session, verb, wanted, done=done)
        return
    _each(
        session,
        wanted,
        lambda ref: session.api.post(refs.job_path(ref, verb)),
        lambda ref, answer: f"{_who(ref, answer)} {done}",
        named=jobs,
    )


@command("hold", short_help="Keep pending jobs from starting.")
@argument("jobs", nargs=-1, type=JOB)
@set_options("All that wait, of everybody if you may.", "All of my own.")
def hold_command(session: Session, jobs: tuple[str, ...], yes: bool, **given: Any) -> None:
    """Keep JOBS that wait from starting, until they are released; or all that the options choose, in one
    step."""
    _hold(session, "hold", "held", jobs, yes, given)


@command("release", short_help="Let held jobs start again.")
@argument("jobs", nargs=-1, type=JOB)
@set_options("All that wait, of everybody if you may.", "All of my own.")
def release_command(session: Session, jobs: tuple[str, ...], yes: bool, **given: Any) -> None:
    """Let held JOBS start when their turn comes, or all that the options choose."""
    _hold(session, "release", "released", jobs, yes, given)


@command("edit", short_help="Change a job's priority, name, limits.")
@argument("jobs", nargs=-1, required=True, type=JOB)
@edit_options
def edit_command(session: Session, jobs: tuple[str, ...], labels: tuple[str, ...], **given: Any) -> None:
    """Change JOBS. What is not named stays as it is."""
    patch = changes(given)
    if not patch and not labels:
        raise UsageError("say what to change, as in: leptonctl edit 47 --priority 10")
    relabelled = dict(pair(BY_NAME["labels"], text) for text in labels)

    def act(ref: str) -> Any:
        body, headers = dict(patch), {}
        if relabelled:
            # labels are replaced as a whole: only if no one else has changed them meanwhile
            job = session.api.get(refs.job_path(ref))
            merged = {**job["labels"], **relabelled}
            body["labels"] = {name: value for name, value in merged.items() if value}
            headers["If-Match"] = f'"{job["version"]}"'
        return session.api.request("PATCH", refs.job_path(ref), body=body, headers=headers).json()

    _each(
        session,
        refs.expand(session, jobs, whole=not relabelled, same_name="unfinished"),
        act,
        lambda ref, answer: f"{_who(ref, answer)} changed",
        named=jobs,
    )
