// A form for a job: asks the daemon first (when, where, why not), then submits.

import { html, useState } from "/web/vendor/htm-preact.js";
import { post } from "/web/api.js";
import { INPUTS } from "/web/fields.js";
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

/** "64G", "512M", "65536" (bytes), in powers of 1024; null for none. Throws on anything else. */
function sizeOf(text) {
  if (!text.trim()) return null;
  const parts = /^(\d+(?:\.\d+)?)([KMGTP]?)(?:I?B)?$/.exec(text.trim().toUpperCase());
  if (!parts) throw new Error(`${text} is not a size; write 65536, 512M or 64G`);
  return Math.floor(Number(parts[1]) * 1024 ** (parts[2] ? "KMGTP".indexOf(parts[2]) + 1 : 0));
}

/** What an input of the form says, by the kind of its field; null for nothing. */
const VALUE = {
  text: (text) => text || null,
  count: (text) => (String(text).trim() === "" ? null : Number(text)),
  limit: timeOf,
  size: sizeOf,
  jobs: (text) => (text.trim() ? text.split(/[\s,]+/).filter(Boolean) : null),
  flag: (checked) => checked || null,
};

function specOf(form) {
  const spec = { argv: [form.command], shell: true };
  if (!form.command.trim()) throw new Error("the command is empty");
  if (!form.cwd.startsWith("/")) throw new Error("the directory must be an absolute path");
  spec.cwd = form.cwd;
  for (const { name, kind, initial } of INPUTS) {
    const value = VALUE[kind](form[name]);
    // what was left as it was is the daemon's to decide
    if (value !== null && form[name] !== initial) spec[name] = value;
  }
  const env = {};
  for (const line of form.env.split("\n").filter((one) => one.trim())) {
    const [key, ...value] = line.split("=");
    if (!value.length) throw new Error(`${line} is not NAME=VALUE`);
    env[key.trim()] = value.join("=");
  }
  if (Object.keys(env).length) spec.env = env;
  return spec;
}

const EMPTY = { command: "", cwd: "", env: "", ...Object.fromEntries(INPUTS.map(({ name, kind, initial }) => [name, kind === "flag" ? false : initial ?? ""])) };

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
    const made = await run(() => Promise.resolve().then(() => post("/v1/jobs", specOf(form), { "Idempotency-Key": `page-${key}-${nth}` })), (one) => [`submitted as job ${one?.id}`, ...(one?.warnings ?? [])].join("; "));
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
      ${INPUTS.filter(({ kind }) => kind !== "flag").map(({ name, label, kind, placeholder, min, max }) => field(name, label, { key: name, placeholder, ...(kind === "count" ? { type: "number", min, max } : {}) }))}
      <label class="wide">Environment<textarea name="env" rows="2" value=${form.env} onInput=${set("env")} placeholder="NAME=value, one a line"></textarea></label>
      ${INPUTS.filter(({ kind }) => kind === "flag").map(({ name, label }) => html`<label key=${name} class="check"><input type="checkbox" name=${name} checked=${form[name]} onChange=${set(name)} /> ${label}</label>`)}
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
