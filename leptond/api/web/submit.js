// A form for a job: asks the daemon first (when, where, why not), then submits.

import { html, useState } from "/web/vendor/htm-preact.js";
import { post } from "/web/api.js";
import { clock, duration } from "/web/format.js";

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** "90m", "2h", "1d12h", "45" (minutes, as Slurm) in seconds; null for none. Throws on anything else. */
function timeOf(text) {
  if (!text.trim()) return null;
  if (/^\d+$/.test(text.trim())) return Number(text) * 60;
  const parts = [...text.trim().matchAll(/(\d+(?:\.\d+)?)([smhd])/g)];
  if (!parts.length || parts.map((one) => one[0]).join("") !== text.trim()) throw new Error(`${text} is not a time; write 90m, 2h or 1d12h`);
  return parts.reduce((sum, one) => sum + Number(one[1]) * UNITS[one[2]], 0);
}

function specOf(form) {
  const spec = { argv: [form.command], shell: true, gpus: Number(form.gpus || 0) };
  if (!form.command.trim()) throw new Error("the command is empty");
  if (!form.cwd.startsWith("/")) throw new Error("the directory must be an absolute path");
  spec.cwd = form.cwd;
  if (form.name) spec.name = form.name;
  if (form.project) spec.project = form.project;
  const limit = timeOf(form.time);
  if (limit !== null) spec.time_limit_s = limit;
  if (Number(form.priority)) spec.priority = Number(form.priority);
  if (Number(form.retries)) spec.retries = Number(form.retries);
  if (form.array) spec.array = form.array;
  if (form.after.trim()) spec.after = form.after.split(/[\s,]+/).filter(Boolean);
  if (form.hold) spec.hold = true;
  if (form.preemptible) spec.preemptible = true;
  const env = {};
  for (const line of form.env.split("\n").filter((one) => one.trim())) {
    const [key, ...value] = line.split("=");
    if (!value.length) throw new Error(`${line} is not NAME=VALUE`);
    env[key.trim()] = value.join("=");
  }
  if (Object.keys(env).length) spec.env = env;
  return spec;
}

const EMPTY = { command: "", cwd: "", name: "", project: "", gpus: "1", time: "", priority: "0", retries: "0", array: "", after: "", env: "", hold: false, preemptible: false };

export function Submit({ run, note }) {
  const [form, setForm] = useState({ ...EMPTY, cwd: sessionStorage.getItem("leptond.cwd") ?? "" });
  const [answer, setAnswer] = useState(null);
  const [key] = useState(() => crypto.getRandomValues(new Uint32Array(4)).join("-"));
  const [nth, setNth] = useState(0);
  const set = (name) => (event) => setForm({ ...form, [name]: event.currentTarget.type === "checkbox" ? event.currentTarget.checked : event.currentTarget.value });
  const field = (name, label, more = {}) => html`<label>${label}<input name=${name} value=${form[name]} onInput=${set(name)} ...${more} /></label>`;
  const check = async () => {
    const estimate = await run(() => Promise.resolve().then(() => post("/v1/queue/estimate", specOf(form))), "checked; nothing was submitted");
    setAnswer(estimate);
  };
  const submit = async (event) => {
    event.preventDefault();
    const made = await run(() => Promise.resolve().then(() => post("/v1/jobs", specOf(form), { "Idempotency-Key": `page-${key}-${nth}` })), (one) => `submitted as job ${one?.id}`);
    if (made) {
      sessionStorage.setItem("leptond.cwd", form.cwd);
      setNth(nth + 1);
      location.hash = `#/jobs/${made.id}`;
    }
  };
  return html`<section aria-labelledby="h-submit"><h2 id="h-submit">Submit a job</h2>
    <form class="submit" onSubmit=${submit}>
      <label class="wide">Command (a shell runs it)<textarea name="command" rows="3" value=${form.command} onInput=${set("command")} placeholder="python train.py --epochs 3" required></textarea></label>
      ${field("cwd", "Directory", { placeholder: "/home/you/project", required: true })}
      ${field("name", "Name", { placeholder: "made from the command" })}
      ${field("gpus", "GPUs", { type: "number", min: 0, max: 1024 })}
      ${field("time", "Time limit", { placeholder: "2h" })}
      ${field("retries", "Retries", { type: "number", min: 0, max: 100 })}
      ${field("priority", "Priority", { type: "number", min: -1000, max: 1000 })}
      ${field("project", "Project")}
      ${field("array", "Array", { placeholder: "0-9%4" })}
      ${field("after", "After jobs", { placeholder: "12, 13" })}
      <label class="wide">Environment<textarea name="env" rows="2" value=${form.env} onInput=${set("env")} placeholder="NAME=value, one a line"></textarea></label>
      <label class="check"><input type="checkbox" name="preemptible" checked=${form.preemptible} onChange=${set("preemptible")} /> may be preempted (it checkpoints on SIGTERM and resumes)</label>
      <label class="check"><input type="checkbox" name="hold" checked=${form.hold} onChange=${set("hold")} /> hold it</label>
      <p class="tools wide"><button type="submit" class="primary">submit</button></p>
    </form>
    ${note}
    ${answer ? html`<dl class="facts-list" aria-label="What the daemon answers">
      ${answer.sentence ? html`<div><dt>it would</dt><dd>${answer.sentence}</dd></div>` : null}
      ${answer.starts_at ? html`<div><dt>starts</dt><dd>${clock(answer.starts_at)}</dd></div>` : null}
      ${typeof answer.wait_s === "number" ? html`<div><dt>wait</dt><dd>${duration(answer.wait_s)}</dd></div>` : null}
      ${answer.gpu_indices?.length ? html`<div><dt>GPUs</dt><dd>${answer.gpu_indices.join(", ")}</dd></div>` : null}
      ${(answer.warnings ?? []).map((text) => html`<div key=${text}><dt>note</dt><dd>${text}</dd></div>`)}
    </dl>` : null}
  </section>`;
}
