"""submitit's plugin for leptond: code written for a cluster moves here by one word.

    import submitit

    executor = submitit.AutoExecutor(folder="logs", cluster="leptond")
    executor.update_parameters(timeout_min=60, gpus_per_node=2, leptond_queue="night")
    job = executor.submit(train, 3e-4)                  # or map_array, or executor.batch()
    print(job.job_id, job.result())

submitit finds it by its entry points (group ``submitit``), in the process that submits and in the job. A
callable with a ``checkpoint`` method is called there `signal_delay_s` before its time limit, and when the job
has to make room for another (``leptond_preemptible=True``); then it is queued again under its own number,
after time limits `max_num_timeout` times. The daemon is found as leptonctl finds it (LEPTOND_HOST).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from submitit.core import core, job_environment, utils

from leptond import job as running
from leptond import schema
from leptond.base.usage import UsageError
from leptond.client.errors import ApiError, ClientError
from leptond.client.job_spec import build_env
from leptond.client.sdk import Client
from leptond.client.target import Interrupted, Unreachable
from leptond.client.transport import PATIENCE_S
from leptond.core.jobs.model import JobSpec

R = TypeVar("R", covariant=True)

GENERIC = frozenset(
    {
        "name",
        "timeout_min",
        "mem_gb",
        "nodes",
        "cpus_per_task",
        "gpus_per_node",
        "tasks_per_node",
        "stderr_to_stdout",
    }
)
"""The parameters that all of submitit's executors take."""

OURS = frozenset({"argv", "shell", "array", "name", "gpus", "time_limit_s", "warn_signal", "output"})
SPECIFIC = (frozenset(JobSpec.__struct_fields__) - OURS) | {
    "array_parallelism",
    "export",
    "setup",
    "signal_delay_s",
}
"""Parameters of ours, as ``leptond_queue=``: fields of a job, and those that Slurm's executor has too."""

TIMEOUT_MIN = 5.0
SIGNAL_DELAY_S = 90.0
STATES = {
    "pending": "PENDING",
    "starting": "RUNNING",
    "running": "RUNNING",
    "stopping": "COMPLETING",
    "succeeded": "COMPLETED",
    "failed": "FAILED",
    "timed_out": "TIMEOUT",
    "cancelled": "CANCELLED",
    "lost": "NODE_FAIL",
}
"""Our states as Slurm names them: submitit, and code written for it, know those names."""

FORGOTTEN = "FORGOTTEN"
"""The state of a job that the daemon does not know (any more): it has ended, if it ever existed."""

ENDED = frozenset({"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", FORGOTTEN})
TASKS = "SUBMITIT_LEPTOND_NTASKS"
RANK = "SUBMITIT_LEPTOND_RANK"
LAUNCHER = "leptond.integrations.submitit_tasks"


class LeptondInfoWatcher(core.InfoWatcher):
    """Asks the daemon about all jobs of this process that have not ended, as seldom as submitit wishes."""

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """The job's state by Slurm's name; UNKNOWN before the daemon was asked."""
        return self.get_info(job_id, mode=mode).get("State", "UNKNOWN")

    def update(self) -> None:
        """Ask the daemon; a state that cannot be asked for now stays as it was."""
        self._num_calls += 1
        with contextlib.suppress(ClientError), Client() as lept:
            for job_id in self._registered - self._finished:
                self.learn(lept, job_id)
        self._last_status_check = time.time()

    def learn(self, lept: Client, job_id: str) -> str:
        """The state of one job, from the daemon unless it is known to have ended. Raises ClientError."""
        if job_id not in self._finished:
            try:
                self.note(job_id, lept.job(job_id))
            except ApiError as error:
                if error.status != 404:
                    raise
                self.note(job_id, None)
        return self._info_dict[job_id]["State"]

    def note(self, job_id: str, job: schema.Job | None) -> None:
        """Keep the daemon's answer."""
        state = STATES[job.state] if job is not None else FORGOTTEN
        if job is not None and state == "PENDING" and job.attempt:
            state = "REQUEUED"
        info = {"JobID": job_id, "State": state}
        if job is not None:
            info |= {"Explanation": job.explanation or "", "Attempt": str(job.attempt)}
        self._info_dict[job_id] = info
        if state in ENDED:
            self._finished.add(job_id)


class LeptondJob(core.Job[R]):
    """A job of leptond as submitit's users know jobs; `job_id` is its number, ``47`` or ``47_3``."""

    watcher = LeptondInfoWatcher()
    _results_timeout_s = 0  # one machine: what the job has written is there

    def done(self, force_check: bool = False) -> bool:
        """Return True if the job has ended. A result alone does not say so: a job that failed may be tried
        again."""
        if self._sub_jobs:
            return all(sub_job.done(force_check) for sub_job in self._sub_jobs)
        if not self.paths.result_pickle.exists():
            return self.watcher.is_done(self.job_id, mode="force" if force_check else "standard")
        try:
            with Client() as lept:
                return self.watcher.learn(lept, self.job_id) in ENDED
        except ClientError:
            return True  # the daemon cannot be asked, and there is a result

    def wait(self) -> None:
        """Wait until the job has ended, through restarts of the daemon."""
        with Client() as lept:
            while self.watcher.get_state(self.job_id, mode="cache") not in ENDED:
                try:
                    self.watcher.note(self.job_id, lept.wait(self.job_id))
                except ApiError as error:
                    if error.status != 404:
                        raise
                    self.watcher.note(self.job_id, None)
                except (Interrupted, Unreachable):
                    if self.done():
                        return

    def cancel(self, check: bool = True) -> None:
        """Cancel the job; one that runs gets SIGTERM and its grace. With `check` raises ClientError where
        that cannot be asked for; a job that has ended is no error."""
        try:
            with Client() as lept:
                lept.cancel(self.job_id)
        except ClientError as error:
            if check and error.status not in (404, 409):
                raise

    def _interrupt(self) -> None:
        """Send the signal that comes before the time limit (submitit has it for tests)."""
        with Client() as lept:
            attempts = lept.job(self.job_id).attempts
        if isinstance(attempts, list) and attempts[-1].pid is not None:
            os.kill(attempts[-1].pid, LeptondJobEnvironment._usr_sig())

    def _get_logs_string(self, name: str) -> str | None:
        text = super()._get_logs_string(name)
        if text is None and name == "stdout":
            with contextlib.suppress(ClientError), Client() as lept:
                return "".join(lept.logs(self.job_id))
        return text


class LeptondJobEnvironment(job_environment.JobEnvironment):
    """The environment that submitit reads in the job."""

    _env = {  # noqa: RUF012  # as its parent has it
        "job_id": "LEPTOND_JOB_ID",
        "array_job_id": "LEPTOND_ARRAY_ID",
        "array_task_id": "LEPTOND_ARRAY_INDEX",
        "num_tasks": TASKS,
        "num_nodes": "SUBMITIT_LEPTOND_NNODES",
        "node": "SUBMITIT_LEPTOND_NODE",
        "global_rank": RANK,
        "local_rank": RANK,
    }

    def _handle_signals(self, paths: utils.JobPaths, submission: utils.DelayedSubmission) -> None:
        """The signal before the time limit, and SIGTERM, checkpoint and queue again; SIGTERM of a cancel
        ends. A call that cannot checkpoint, in an array with one that can, is not disturbed before its
        limit."""
        handler = job_environment.SignalHandler(self, paths, submission)
        begun = False

        def leave(number: int, frame: Any) -> None:
            nonlocal begun
            if number == signal.SIGTERM and running.stop_reason() == "cancel":
                sys.exit(128 + number)
            if number == self._usr_sig() and not _can_checkpoint(submission):
                return
            if not begun:  # SIGTERM may come while a checkpoint is being written
                begun = True
                handler.checkpoint_and_try_requeue(number, frame)

        signal.signal(signal.SIGCONT, handler.bypass)
        signal.signal(self._usr_sig(), leave)
        signal.signal(signal.SIGTERM, leave)
        running.catch_sigterm()  # calls the handler that is there

    def _requeue(self, countdown: int) -> NoReturn:
        """Leave with the reason that asks to be queued again."""
        running.leave("resume", f"submitit: {countdown} time limits left")


class LeptondExecutor(core.PicklingExecutor):
    """submitit's executor for a leptond daemon.

    `folder`: where pickles and output go, which jobs must be able to read and write. `max_num_timeout`: how
    often a job that can checkpoint may come to its time limit. `python`: the command that starts Python in
    the job, this interpreter by default; it must have submitit and leptond.
    """

    job_class = LeptondJob

    def __init__(
        self,
        folder: str | Path,
        max_num_timeout: int = 3,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
    ) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout, max_pickle_size_gb=max_pickle_size_gb)
        self.python = python or shlex.quote(sys.executable)

    @classmethod
    def affinity(cls) -> int:
        """0: never chosen by itself, so that installing leptond changes nothing for code that does not name
        it."""
        return 0

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return set(SPECIFIC)

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - GENERIC - SPECIFIC)
        if unknown:
            known = ", ".join(sorted(GENERIC | SPECIFIC))
            raise ValueError(f"{unknown[0]!r} is no parameter of leptond's executor; there are {known}")
        if kwargs.get("nodes", 1) != 1:
            raise ValueError(f"leptond has one machine, and {kwargs['nodes']} nodes were asked for")
        super()._internal_update_parameters(**kwargs)

    def _internal_process_submissions(
        self, delayed_submissions: list[utils.DelayedSubmission]
    ) -> list[core.Job[Any]]:
        """One job, or an array for several."""
        pickles = self._dump(delayed_submissions)
        count = len(pickles)
        try:
            with Client() as lept:
                lept.status()  # fails at once where there is no daemon; from here on it may be away a while
            with Client(patience_s=PATIENCE_S) as lept:
                # held until the pickles have the names that the job looks for, which hold its number
                spec = self._spec(count, warned=any(map(_can_checkpoint, delayed_submissions)))
                # the environment is complete already
                made = lept.submit(**{**spec, "hold": True}, export="NONE")
                numbers = [f"{made.id}_{at}" for at in range(count)] if count > 1 else [str(made.id)]
                try:
                    jobs = [
                        self._named(number, pickle) for number, pickle in zip(numbers, pickles, strict=True)
                    ]
                except OSError:
                    lept.cancel_array(made.id) if count > 1 else lept.cancel(made.id)
                    raise
                if not self.parameters.get("hold"):
                    _release(lept, made.id, array=count > 1)
        except ClientError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise utils.FailedSubmissionError(f"{error}{hint}") from error
        except UsageError as error:
            raise ValueError(str(error)) from None
        finally:
            for pickle in pickles:
                pickle.unlink(missing_ok=True)  # those that were renamed are gone from here
        return jobs

    def _named(self, number: str, pickle: Path) -> core.Job[Any]:
        """The job of that number, its pickle where it looks for it."""
        made: LeptondJob[Any] = LeptondJob(self.folder, number, tasks=range(self._num_tasks()))
        made.paths.move_temporary_file(pickle, "submitted_pickle")
        return made

    def _dump(self, submissions: list[utils.DelayedSubmission]) -> list[Path]:
        """The pickles, under names of their own. Raises RuntimeError when they are too large together."""
        folder = utils.JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        made: list[Path] = []
        for one in submissions:
            one.set_timeout(self._timeout_min(), self.max_num_timeout)  # type: ignore[arg-type]
            made.append(folder / f"{uuid.uuid4().hex}.pkl")
            one.dump(made[-1])
            size_gb = made[0].stat().st_size / 2**30 * len(submissions)
            if size_gb > self.max_pickle_size_gb:
                made[0].unlink()
                raise RuntimeError(
                    f"the pickles of {len(submissions)} calls are about {size_gb:.2f} GB, more than"
                    f" max_pickle_size_gb={self.max_pickle_size_gb}: pass paths in place of large objects, or"
                    " raise it"
                )
        return made

    def _timeout_min(self) -> float:
        return float(self.parameters.get("timeout_min", TIMEOUT_MIN))

    def _num_tasks(self) -> int:
        return int(self.parameters.get("tasks_per_node", 1))

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join(self._command())

    def _command(self) -> list[str]:
        work = ["-u", "-m", "submitit.core._submit", str(self.folder)]
        tasks = self._num_tasks()
        if tasks > 1:
            merged = ["--merge"] if self.parameters.get("stderr_to_stdout") else []
            launch = ["-u", "-m", LAUNCHER, *merged, str(tasks), str(self.folder)]
            words = [*shlex.split(self.python), *launch, *shlex.split(self.python), *work]
        else:
            words = [*shlex.split(self.python), *work]
        setup = self.parameters.get("setup")
        if setup:
            return ["/bin/bash", "-c", " && ".join([*setup, f"exec {shlex.join(words)}"])]
        return words

    def _spec(self, count: int, *, warned: bool) -> dict[str, Any]:
        given = self.parameters
        limit_s = self._timeout_min() * 60
        env = {
            **build_env(os.environ, given.get("export"), []),
            **given.get("env", {}),
            "SUBMITIT_EXECUTOR": self.name(),
            TASKS: str(self._num_tasks()),
        }
        chosen = os.environ.get(job_environment._PREEMPT_SIG_ENV)
        if chosen is not None:
            env[job_environment._PREEMPT_SIG_ENV] = chosen
        spec = {name: given[name] for name in JobSpec.__struct_fields__ if name in given and name not in OURS}
        if count > 1:
            spec["array"] = f"0-{count - 1}%{min(count, int(given.get('array_parallelism', 256)))}"
        if warned:
            before_s = min(float(given.get("signal_delay_s", SIGNAL_DELAY_S)), limit_s / 2)
            spec["warn_signal"] = {"signal": LeptondJobEnvironment.USR_SIG, "before_s": before_s}
        return {
            "cwd": str(Path.cwd()),
            **spec,
            "argv": self._command(),
            "env": env,
            "name": given.get("name", "submitit"),
            **({"gpus": given["gpus_per_node"]} if "gpus_per_node" in given else {}),
            **({"mem_bytes": int(given["mem_gb"] * 2**30)} if "mem_gb" in given else {}),
            **({"cpus": given["cpus_per_task"] * self._num_tasks()} if "cpus_per_task" in given else {}),
            "time_limit_s": limit_s,
            "output": _output(self.folder, array=count > 1),
        }

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        raise NotImplementedError("leptond is asked over HTTP, without a file")

    _make_submission_command = _get_job_id_from_submission_command = _make_submission_file_text  # type: ignore[assignment]


def _can_checkpoint(submission: utils.DelayedSubmission) -> bool:
    """Return True if a signal before the time limit is of use to this call; without it, it has all of its
    time."""
    return hasattr(submission.function, "checkpoint")


def _output(folder: Path, *, array: bool) -> str:
    """The path of the output: where submitit looks for it, with leptond's marks."""
    path = str(utils.JobPaths(folder).stdout)
    marks = {"%j": "%A_%a" if array else "%j", "%t": "0", "%A": "%A", "%a": "%a"}
    for mark, ours in marks.items():
        path = path.replace(mark, ours.replace("%", "\0"))
    return path.replace("%", "%%").replace("\0", "%")


def _release(lept: Client, job_id: int, *, array: bool) -> None:
    """Let the job start, or all of the array; repeated where it is not known whether the request arrived.
    Raises ClientError."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            lept.release_array(job_id) if array else lept.release(job_id)
        except Interrupted:
            if time.monotonic() > until:
                raise  # the job stays held
            time.sleep(0.2)
        except ApiError as error:
            if error.status != 409:  # the request before arrived, and the job has started since
                raise
            return
        else:
            return
