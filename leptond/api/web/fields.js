// The fields of a job, as the page shows, asks for and searches them.
// Made from leptond/core/jobs/fields.py by python -m leptond.docs_build.reference.

export const INPUTS = [
  {"name": "name", "kind": "text", "label": "Name", "placeholder": "made from the command"},
  {"name": "gpus", "kind": "count", "label": "GPUs", "placeholder": "0, unless jobs.gpus says more", "min": 0, "max": 1024},
  {"name": "preemptible", "kind": "flag", "label": "may be preempted (it checkpoints on SIGTERM and resumes)"},
  {"name": "mem_bytes", "kind": "size", "label": "Memory", "placeholder": "64G"},
  {"name": "cpus", "kind": "count", "label": "CPUs", "min": 1, "max": 4096},
  {"name": "time_limit_s", "kind": "limit", "label": "Time limit", "placeholder": "2h"},
  {"name": "priority", "kind": "count", "label": "Priority", "initial": "0", "min": -1000, "max": 1000},
  {"name": "after", "kind": "jobs", "label": "After jobs", "placeholder": "12, 13"},
  {"name": "array", "kind": "text", "label": "Array", "placeholder": "0-9%4"},
  {"name": "retries", "kind": "count", "label": "Retries", "initial": "0", "min": 0, "max": 100},
  {"name": "hold", "kind": "flag", "label": "hold it"},
  {"name": "project", "kind": "text", "label": "Project"},
  {"name": "contact", "kind": "text", "label": "Contact"},
];

export const FACTS = {
  place: [
    {"name": "cpus", "label": "CPUs"},
    {"name": "queue", "label": "queue"},
    {"name": "priority", "label": "priority"},
  ],
  about: [
    {"name": "project", "label": "project"},
    {"name": "contact", "label": "contact"},
  ],
};

export const FILTERS = [
  "user",
  "name",
  "project",
  "contact",
];
