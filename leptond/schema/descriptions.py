"""What the fields of the HTTP bodies mean, for the OpenAPI document. What a job asks for is described in the
table of a job's fields (core/jobs/fields.py); everything else here, by the field's name, or by TYPE.NAME
where a name means something of its own in one type. A test finds the fields that nobody has described."""

from __future__ import annotations

from collections.abc import Mapping

from leptond.core.jobs.fields import OPTIONS

_LINES = """
Event.id: Its id; ids only grow.
Event.type: The type of the event, as job.state.
Job.held: Whether it is held.
Job.state: The state that it is in.
Job.version: The number of its changes, which is its ETag.
MadeToken.token: The token, without its secret.
Me.job: The job that the caller is a process of; null for others.
Me.token: The id of the token or the session that the request came with.
Me.uid: The uid of the account; null for a person without an account on this machine.
Me.via: What the caller was identified by: the socket, a token, or a session of the page.
NewToken.name: What it is for.
NewToken.user: Whose it is; without it the caller's own.
Problem.status: The HTTP status.
Problem.type: The address of an explanation of this kind of problem.
Progress.at: When it reported last.
SignIn.token: A token.
SignedIn.key: The value of the header X-Leptond-Session.
Status.accounts: Whose rights jobs have, and what that protects.
Token.id: The name of the token in a revoke; no secret.
Token.kind: A token, or a session of the page.
Token.name: What it is for, in the words of whoever made it.
Token.uid: The uid of its account; null for a person without an account on this machine.
WarmEnvironment.bytes: Resident memory of its warm processes.
WarmEnvironment.imports: How many modules its warm process has for every job.
WarmEnvironment.learned: Packages that jobs have imported and that the warm process has ready.
WarmEnvironment.left_out: Packages that cannot be imported before a fork, with the reason.
WarmEnvironment.misfits: Commands that would have had other imports, with the reason.
WarmEnvironment.pids: Its warm processes.
WarmEnvironment.prepared_in_s: Seconds that its imports took; null before they are done.
WarmEnvironment.python: The interpreter.
WarmEnvironment.state: warm, preparing or cold.
WarmEnvironment.unseen: Why imports of its jobs cannot be seen; null if they can.
WarmEnvironment.untried: Packages that its next warm process tries.
WarmEnvironment.why: Why it is cold, or has the first imports alone.
Why.reason: Why it waits; null if it does not.
action: What happens to a submit that goes over the budget: refuse, or warn.
admin: Whether the caller may do what only the daemon's own user and root may.
advice: What would save most, the largest first.
against: The policy compared with.
against_idle_gpu_seconds: Idle GPU time while jobs waited, under the other policy.
against_jct_s: Mean seconds from submit to end, under the other policy.
all: Whether every job is meant that the filters leave.
amount: What may be spent in a period, in the currency of the prices.
arguments: Whether values without a place in the command are added as --name=value.
argv: The command and its arguments; with `shell` one string.
array_id: The array that it is a member of.
array_index: Its index in the array.
as_of: When the price was looked up.
asked: What the sweep was asked to try.
at: When it was so.
attempt: The number of the attempt, from 1; 0 before the first.
attempts: The attempts, the oldest first.
backend: Where the devices are read from: nvml, simulated or none.
backoff_gpu_seconds: GPU time that stood idle while jobs waited to be tried again.
backups: The backups that the daemon keeps, the newest first.
batch: Whether the signal goes to the job's shell alone, and not to all of its processes.
before_s: How long before the time limit it comes.
behind: Events that the hook has still to be looked through for.
best: The best so far.
best_step: The step of the best value.
borrow: Whether its jobs may use the GPUs that other queues lend.
box: What the time was: productive, start, idle, lost and so on.
boxes: All GPU time of the window, each second in one box.
bypass_until: Until when other jobs may start before it.
bytes: The size in bytes.
capacity_goodput: The part of all GPU time, also of what was out of service, that became kept work.
capacity_gpu_seconds: The GPU time that there was.
cause: Where the time went, or what the failure was.
causes: The parts of the box by cause.
changed: How many were changed.
checkpoint_at: When the last checkpoint was announced.
checkpoint_dir: The directory for checkpoints that all attempts and retries of the job share.
checkpoint_step: The step of the last checkpoint that was announced.
checkpoints: What checkpoints cost and saved; in a purge, whether those of the jobs go as well.
checks: What was looked at, and how it is.
claimed_at: When it was given its GPUs.
class: What the end means: success, or a class of failure; null before.
code: The code of a link of leptonctl dashboard.
comparison: What another policy would have made of the same jobs.
concurrent: Most trials that run at a time.
contact: Whom to tell about the job.
cost: The cost, in the report's currency; null where a price is missing.
cost_per_useful_gpu_hour: The cost of an hour of kept work.
counts: How many there are in each state.
cpu_slots: Jobs without GPUs that may run at a time, and that do.
cpus: Of a job, its share of the CPUs where all are busy, as so many of them; of a GPU, the CPUs near it.
cuda_devices: How the GPUs are named to the job: by index or by UUID.
currency: The currency of the prices.
data: What belongs to it, by its type.
deadline_at: When its time limit is over.
default_priority: The priority of jobs that name none.
default_time_limit_s: The time limit of jobs that name none.
deliveries: The last deliveries, the newest first.
dependencies: The jobs that it waits for, or waited for.
detail: What is wrong, as a sentence.
detail_since_s: Since when single attempts are known; before it, days as a whole. UTC seconds.
drain_reason: Why it was taken out of service.
drained: Whether it was taken out of service.
dry_run: Whether nothing is to be changed, but only said what would be.
earliest_at: The start if all runs take half of what is expected.
eligible_at: When it may start at the earliest: its begin time, or the end of its back-off.
ended_at: When it ended.
ends_at: Its expected end.
ends_known: Whether its end can be foretold.
energy: The energy of the window, where it is known.
energy_kwh: The energy used meanwhile.
energy_source: How the energy is known: measured, or computed from samples of power.
error: What went wrong.
errors: The faults of the request, each with its place.
eta: Of the trials at a rung one in so many goes on.
event: The type of the event.
event_id: The id of the event.
events: The events that it is sent; in a purge, how many were removed.
evidence: What the verdict rests on.
exit_code: The exit code of the command.
expected_run_s: How long it is expected to run.
expires_at: When it becomes worthless.
explanation: How it ended, as a sentence.
failed_recently: Jobs that failed within a day, the newest first.
failed_today: How many jobs have failed since midnight.
finished: How many had ended already.
first: The first rung, in steps.
first_at: When it reported first.
first_failed: The first member, by its index, that ended without success.
first_use_at: When it was first loaded.
free_bytes: Room on the disk.
goodput: The part of the GPU time that became kept work.
gpu_backend: Where the devices are read from.
gpu_hours: What may be used in a period, in GPU-hours.
gpu_indices: The GPUs that it has, or will have, by index.
gpu_note: What is wrong with the devices as a whole.
gpu_seconds: GPU time; a share of a GPU counts as its part.
gpus: GPUs: how many, or which.
grace_s: Seconds between the stop signal and the kill; 0 kills at once.
grid: Values of parameters, of which every combination is tried.
groups: The names of the groups of the caller's account.
groups: The time by user, project, queue, job or GPU, as was asked.
half_life_s: After so many seconds, use in the past counts half.
halving: Whether trials that others are better than are stopped at rungs.
hand_over: How fast GPUs went from job to job.
held: How many, or whether, jobs are held.
high: Its upper bound.
hint: What to do next.
id: Its number, or its name where it has no number.
idle_cost: The cost of the energy of idle GPUs.
idle_gpu_seconds: GPU time without work.
idle_kwh: The energy of idle GPUs.
idle_ratio: The part of held GPU time that was under 5% load.
idle_s: Seconds that it was held, but under 5% load.
ids: The numbers of all jobs that were made.
index: Its index on this machine.
instance: The path that was asked for.
interruptions: How often runs were interrupted.
interval_s_for_30_s: The best time between checkpoints that take 30 seconds each.
items: The entries.
jct_s: Mean seconds from submit to end.
job: What all trials have in common.
job_id: The job that it belongs to.
job_ids: The numbers of the jobs, the first thousand.
jobs: Jobs: which, or how many.
key: The name of the group.
kind: Its kind.
knobs: The values that can be changed while it runs.
kwh: Energy in kilowatt-hours.
label: A label, as name=value.
labels: Names and values of the owner's choice.
last_used_at: When it was last used, to the minute; null: never.
latest_at: The start if all runs take twice of what is expected.
left_s: Estimate of the seconds to the end, from its mean speed.
lend: To whom it lends its GPUs while they are idle: all, preemptible jobs, or none.
lifetime_s: The seconds after which it is worthless.
lineage: The identity of the database through all its backups.
links: The way to other devices, by their UUIDs.
live: How many were starting or running.
log_bytes: The size of the output, or of the write-ahead log.
log_dropped_bytes: Bytes of output that were not kept.
log_path: The file with the output of the newest attempt.
low: Its lower bound.
made_at: When it was made.
made_by: The user that made it.
marks: Moments to read the curve with: knobs that were turned, and checkpoints.
max_gpus: Most GPUs at a time; null for no cap.
max_handicap_s: How far use in the past can set a job back.
max_memory_bytes: The peak of its memory.
max_pending: Most jobs that wait at a time; null for no cap.
max_time_limit_s: The longest time limit.
max_utilization: The peak of its load, from 0 to 1.
mean_time_between_s: Mean seconds between interruptions.
meanwhile: How many changed their state while the set was worked on.
meanwhile_jobs: Some of those.
members: In a list of whole arrays, how many members of its array have not ended, by state.
mem_bytes: How much of the memory of the machine it may use.
memory_bytes: Memory in bytes; null where it has the whole GPU.
memory_leased_bytes: Memory that was promised to jobs.
memory_total_bytes: All of its memory.
memory_used_bytes: The memory in use.
memos: Figures that are no boxes: savings, and what is not known.
message: What is wrong, as a sentence.
metric: The metric that trials are compared by.
metrics: The newest values that it reported; null is not a finite number.
mig: Whether it is a slice of a GPU.
min_step: The first rung, in steps.
minutes: The load by minute.
mode: The mode: of the daemon, user or system; of a sweep, min or max.
model: The GPU's model.
modified_at: When the file was changed last.
more: Whether older ones were left out.
name: Its name.
never: How many wait for what cannot happen any more; in a choice, whether only those are meant.
never_start: Members that wait for what cannot happen any more.
never_used_gpu_seconds: GPU time of jobs that never used a GPU they had.
next: The first of the jobs that wait, one for each array; those that can never start come last.
next_cursor: The cursor of the next page; null on the last one.
not_foretold: Jobs that start later than the forecast reaches, or not at all as things are.
note: What should be known of it.
notes: Facts that its users should know.
numa_node: The NUMA node that it is near to.
number: Its number, from 1, or the index of a trial.
older_than_s: Every job that ended longer ago, in seconds.
oldest_wait_s: How long the oldest job has waited that could start.
on_job_id: The job that is waited for; of an array, its first member.
on_ref: The job that is waited for, or 47_* for all of an array.
open_gpu_hours: What queued and running jobs may still use.
open_mode: What happens to a file that is there already: append or truncate.
others: How many belong to others, and were left as they are.
outputs: How many outputs were removed.
overdue_ahead: Overdue jobs that come before it.
own: Whether something is set for it alone.
p50_s: The median, in seconds.
p99_s: The 99th percentile, in seconds.
page_url: The page's address with the token.
page_url_read_only: The page's address with the token that only looks.
paid: What all GPUs of the window cost.
params: The values of its parameters.
path.id: The number of the array or sweep.
path.index: The index of the GPU.
path.kind: user or project.
path.name: The name.
path.ref: The job: 47, or 47_3 in an array.
path.scope: user or project.
path.slug: The last part of the problem's type.
path: Where it is.
pending: How many wait.
per_gpu_hour: The price of a GPU for an hour.
period: The period that a budget is for: a day, a week or a month, in UTC.
peak_mem_bytes: The most memory of the machine that it used; null where nobody looked.
pid: The number of its process.
pointer: Where the fault is in the body (RFC 6901), or the parameter of the query.
points: The curve, the oldest first.
policy: The policy of the forecast.
power_w: Power in watts.
present: Whether it is there now.
prices: The prices that were used.
priority: Its priority; higher runs first.
private: True for a job of another: what is not public of it is left out.
processes: The processes on it.
productive_gpu_seconds: GPU time of work that was kept.
progress: What its newest attempt reports.
project: What its time is booked on.
query.against: Compare with this policy.
query.array: Only members of this array.
query.attempt: The number of the attempt; the newest without it.
query.contact: Only jobs with this contact.
query.cursor: The `next_cursor` of the page before.
query.group_by: Also by user, project, queue, job or gpu.
query.job: Only events of this job.
query.label: Only jobs with this label, as name=value.
query.limit: Most entries, or bytes.
query.name: Only jobs of this name.
query.offset: Bytes from the beginning of the output.
query.order: Newest first, or in the order of the queue.
query.policy: As if this policy decided.
query.project: Only jobs of this project.
query.since: Only what is newer: an instant, or for events an id.
query.state: Only these states, separated by commas.
query.tail: So many last lines.
query.type: Only these types, separated by commas.
query.until: The end of the window.
query.user: Only jobs of this user.
query.wait_s: Answer when it has ended, or after so many seconds as it then is.
query.whole: One job for each array, with its members; for the order of the queue.
queue: The queue that it is in, or that owns it.
random: Distributions from which parameters are drawn anew for each trial.
read_only: Whether the caller came with the token that only looks.
reason: Why, as a word of a closed list or in the caller's words.
reason_detail: Why it waits, as a sentence.
ref: What people call it: 47, or 47_3 in an array.
refused: Those that could not be changed, and why.
reports: How many reports came.
resubmit: The command line that submits it again.
result: What became of the delivery: delivered, refused or failed.
retried: How many attempts were tried again.
retries: What retries cost and saved.
retries_left: Retries after failures of its own that are left.
retries_saved: Jobs that a retry has saved.
retries_saved_cost: The cost of the work that retries saved.
retries_saved_gpu_seconds: GPU time of the work that retries saved.
retry: What was decided about another attempt.
retry_of: The job that this one is a retry of.
role: What may be done: viewer, user, operator or admin.
rule: The rule that chose the class.
run_s: How long it has run.
rung: The rung, in steps.
rungs: The rungs that it has reached, with the decision at each.
running: What runs, or how many.
running_gpus: GPUs in use now; a share counts as its part.
runtime_goodput: The part of held GPU time that became kept work.
sampled_at: When it was looked at last.
sampled_gpu_seconds: GPU time that samples cover.
sampled_s: Seconds that samples cover.
saved_cost: What the better policy would have saved.
saved_gpu_seconds: Estimate of the GPU time that stopping early saved.
schedulable: Whether it takes new jobs.
scheduling_goodput: The part of the time in service that jobs held GPUs.
schema: The version of the database's schema.
scope: Whose budget it is: a user's or a project's.
script: The text of the script that is run, kept with the job.
script_sha256: The SHA-256 of the script that is kept with the job.
secret: The token itself, told in this answer only.
seed: The same seed draws the same values.
sees_everything: Whether all jobs are shown in full.
sentence: The same as a sentence for people.
sha256: The SHA-256 of the file.
share: The part of the whole, from 0 to 1.
signal: The signal that ended it, or that it gets.
signature: Knows the same failure again.
signed: Whether deliveries are signed.
simulated: Whether it is simulated.
since: The beginning of the window.
source: Where the price comes from.
sources: The files that its command names, or where figures of energy come from.
spec: What was asked for, as it is now.
spent: What ended in the period, in the currency of the prices.
spent_gpu_hours: What ended in the period, in GPU-hours.
sqlite_version: The version of SQLite.
start: How its command was started: warm, or cold and why.
start_unknown: Attempts whose productive start is not known.
started_at: When it started.
starts: How many starts there were.
starts_at: When it is likely to start; null where that cannot be foretold.
starts_unknown: Why its start cannot be foretold.
state: Its state.
status: The HTTP status, or how it is.
step: The step that it is at.
steps_per_s: Its mean speed.
stop_reason: Why leptond itself ended it.
stopped_early: Whether, or how many, trials were stopped early.
stopped_early_cost: What stopping early saved.
stopped_early_gpu_seconds: GPU time that stopping early saved.
stride: Every so many reports are kept.
submitted_at: When it was submitted.
succeeded: How many of them succeeded at last.
sweep: The sweep as it is now.
taken_at: When it was taken.
temperature_c: Temperature in degrees Celsius.
text: The note, as a sentence.
time_limit_s: The longest it may run; null for no limit.
title: The kind of problem, in a few words.
total: How many there are in all, or the steps to the end.
trials: The trials: how many, or each.
tries: How often it was tried.
tuned: Values that were asked for its knobs.
type: The type of it.
unblock: What would let it start.
undecided_gpu_seconds: GPU time whose box is not known yet.
unpriced_gpu_seconds: GPU time without a price.
until: The end of the window.
unused_memory: Memory that was held and never used.
url: Scheme and host of the address.
used: How many are in use.
used_gpu_s: GPU time that it has had, faded by the half-life.
user: Whose it is.
users: Who may submit; empty for everybody.
utilization: Load from 0 to 1.
uuid: Its UUID.
value: The value; null where it is not a finite number.
values: Values by name.
verdict: Whether it goes on: on, stop, or null while that is open.
version: Its version.
waits_for: The jobs that are in the way.
warnings: What should be known, and needs attention.
waste: Whether the box is waste.
wasted_cost: The cost of what was wasted.
wasted_gpu_seconds: GPU time that was wasted.
weight: Its part beside others.
why_not: Why it takes no new jobs.
"""

ABOUT: Mapping[str, str] = {
    **{
        f"JobSpec.{field.name}": option.help.partition(" [")[0].rstrip(".") + "." for field, option in OPTIONS
    },
    **dict(line.split(": ", 1) for line in _LINES.strip().splitlines()),
}


def about(kind: str, name: str) -> str | None:
    """Return what a field of a type means; None for one that is not described."""
    own = "JobSpec" if kind == "JobPatch" else kind
    return ABOUT.get(f"{own}.{name}") or ABOUT.get(name) or ABOUT.get(f"JobSpec.{name}")


EXAMPLES: Mapping[str, Mapping[str, object]] = {
    "JobSpec": {
        "argv": ["python", "train.py", "--epochs", "10"],
        "cwd": "/home/ann/project",
        "name": "train",
        "gpus": 1,
        "time_limit_s": 7200.0,
        "retries": 1,
        "labels": {"team": "vision"},
    },
    "Batch": {"jobs": [{"argv": ["python", "train.py", "--seed", "1"]}, {"argv": ["true"]}]},
    "NewSweep": {
        "job": {"argv": ["python", "train.py", "--lr", "{lr}"]},
        "grid": {"lr": [0.1, 0.01, 0.001]},
        "metric": "loss",
        "mode": "min",
    },
    "JobPatch": {"priority": 10},
    "Cancel": {"reason": "not needed any more"},
    "Tune": {"values": {"lr": 0.0003}},
    "Drain": {"reason": "a fan is loud"},
    "NewQueue": {"name": "vision", "weight": 2.0, "max_time_limit_s": 86400.0},
    "QueuePatch": {"weight": 3.0},
    "LimitBody": {"max_gpus": 4},
    "SetBudget": {"gpu_hours": 500.0, "period": "month", "action": "warn"},
    "Purge": {"older_than_s": 2592000.0, "dry_run": True},
}
"""An example of each main request."""
