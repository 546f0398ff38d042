// One job: what it is, how far it is, why it is in its state, and each of its attempts.

import { html, useEffect, useMemo, useState } from "/web/vendor/htm-preact.js";
import { get, patch, post } from "/web/api.js";
import { FACTS } from "/web/fields.js";
import { LIVE, clock, command, duration, ended, figure, relative } from "/web/format.js";
import { Curve } from "/web/chart.js";
import { GpuUse } from "/web/gpuuse.js";
import { Log } from "/web/log.js";
import { Copy, State, Sure } from "/web/ui.js";

const exit = (one) => (one.signal ? one.signal : one.exit_code === null ? "–" : String(one.exit_code));

function explain(one) {
  return [one.explanation, one.retry && one.retry !== one.explanation ? one.retry : null].filter(Boolean).join("; ");
}

function Attempts({ job }) {
  if (!job.attempts?.length) return null;
  return html`<section aria-labelledby="h-attempts"><h3 id="h-attempts">Attempts</h3>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of the attempts"><table><thead><tr><th class="num">#</th><th>Class</th><th>Exit</th><th>GPUs</th><th>Began</th><th class="num">Time</th><th class="num">GPU-s</th><th>What happened</th></tr></thead><tbody>
    ${[...job.attempts].reverse().map((one) => html`<tr key=${one.number}><td class="num">${one.number}</td><td>${one.class ?? one.state}</td><td>${exit(one)}</td><td>${one.gpus.map((gpu) => gpu.index).join(",") || "–"}</td><td>${clock(one.started_at)}</td><td class="num">${duration(one.run_s)}</td><td class="num">${one.gpu_seconds.toFixed(1)}</td>
      <td class="words">${explain(one)}${(one.notes ?? []).map((note) => html`<p class="note bad" key=${note.text}>${note.text}</p>`)}${one.evidence?.length ? html`<details><summary>rule ${one.rule}</summary><pre>${one.evidence.join("\n")}</pre></details>` : null}</td></tr>`)}
    </tbody></table></div></section>`;
}

function Script({ job }) {
  const [text, setText] = useState(null);
  if (!job.script_sha256) return null;
  const show = (event) => {
    if (event.currentTarget.open && text === null) get(`/v1/jobs/${job.id}/script`).then(setText).catch((error) => setText(error.message));
  };
  return html`<details onToggle=${show}><summary>the script, as it was at the submit</summary><pre>${text ?? "…"}</pre></details>`;
}

function Facts({ job }) {
  const fact = (name, value) => (value === null || value === undefined || value === "" ? null : html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`);
  const group = (fields) => fields.map(({ name, label }) => fact(label, job[name]));
  return html`<dl class="facts-list">
    ${fact("user", job.user)}${group(FACTS.about)}${group(FACTS.place)}${fact("GPUs", job.gpu_indices.length ? `${job.gpu_indices.join(", ")}` : job.gpus || "none")}
    ${fact("submitted", `${clock(job.submitted_at)} (${relative(job.submitted_at)})`)}
    ${fact("started", job.started_at ? clock(job.started_at) : null)}${fact("ended", job.ended_at ? clock(job.ended_at) : null)}
    ${fact("run time", duration(job.run_s))}${fact("limit", job.time_limit_s ? `${duration(job.time_limit_s)}${job.deadline_at ? `, ${relative(job.deadline_at)}` : ""}` : null)}
    ${fact("retries left", job.retries_left)}${fact("GPU-hours", (job.gpu_seconds / 3600).toFixed(3))}
    ${fact("directory", job.spec.cwd)}${fact("checkpoints", job.checkpoint_dir)}
    ${Object.entries(job.labels ?? {}).map(([key, value]) => fact(`label ${key}`, value))}
  </dl>`;
}

const LINK = /https?:\/\/[^\s"'<>\u001b]{8,200}/g;
const TRACKERS = /wandb\.|mlflow|tensorboard|:6006|comet\.com|neptune\.ai|aimstack|clear\.ml|#\/experiments\/\w+\/runs\//i;

function useMetrics(id, tick) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    let gone = false;
    get(`/v1/jobs/${id}/metrics`).then((answer) => { if (!gone) setFound(answer); }).catch(() => {});
    return () => { gone = true; };
  }, [id, tick]);
  return found;
}

function Training({ job, tick }) {
  const metrics = useMetrics(job.id, tick);
  const [points, marks] = useMemo(() => {
    const all = (metrics?.points ?? []).filter((one) => typeof one.step === "number").map((one) => ({ ...one.values, step: one.step, attempt: one.attempt, at: one.at }));
    // a mark stands at its own step, or at that of the first report after it
    const stepAt = (mark) => mark.data?.step ?? all.find((one) => one.at >= mark.at)?.step ?? all[all.length - 1]?.step;
    const found = (metrics?.marks ?? []).map((one) => ({ kind: one.kind === "job.checkpoint" ? "checkpoint" : "tune", step: stepAt(one), label: one.kind })).filter((one) => one.step !== undefined);
    if (job.progress?.checkpoint_step && !found.some((one) => one.kind === "checkpoint" && one.step === job.progress.checkpoint_step)) found.push({ kind: "checkpoint", step: job.progress.checkpoint_step, label: "last checkpoint" });
    for (let i = 1; i < all.length; i += 1) {
      if (all[i].attempt !== all[i - 1].attempt) found.push({ step: all[i].step, kind: "retry", label: `attempt ${all[i].attempt}` });
    }
    // a later attempt goes over steps again: the curve shows the newest value of each
    const bySteps = new Map(all.map((one) => [one.step, one]));
    return [[...bySteps.values()].sort((a, b) => a.step - b.step), found];
  }, [metrics, job.progress?.checkpoint_step]);
  if (!points.length) return null;
  return html`<section aria-labelledby="h-curve"><h3 id="h-curve">Training</h3>
    <${Curve} points=${points} marks=${marks} />
    <p class="quiet legend"><span class="k k-checkpoint">checkpoint</span> <span class="k k-tune">tuned</span> <span class="k k-retry">new attempt</span></p></section>`;
}

function Tune({ job, run }) {
  const [text, setText] = useState("");
  const go = (event) => {
    event.preventDefault();
    const knobs = {};
    for (const part of text.split(/[\s,]+/).filter(Boolean)) {
      const [name, value] = part.split("=");
      if (!name || value === undefined || Number.isNaN(Number(value))) { run(async () => { throw new Error(`${part} is not NAME=NUMBER`); }); return; }
      knobs[name] = Number(value);
    }
    run(() => post(`/v1/jobs/${job.id}/tune`, { values: knobs }), `asked for ${text}`);
  };
  return html`<form class="tools" onSubmit=${go}><label>Tune <input value=${text} placeholder=${Object.keys(job.progress.knobs).map((name) => `${name}=…`).join(" ")} onInput=${(event) => setText(event.currentTarget.value)} /></label><button type="submit" disabled=${!text}>apply at the next step</button></form>`;
}

export function Job({ id, tick, canAct, run }) {
  const [job, setJob] = useState(null);
  const [why, setWhy] = useState(null);
  const [missing, setMissing] = useState(null);
  const [links, setLinks] = useState([]);
  useEffect(() => {
    let gone = false;
    get(`/v1/jobs/${encodeURIComponent(id)}`).then((answer) => {
      if (gone) return;
      setJob(answer);
      setMissing(null);
      if (answer.state === "pending") get(`/v1/jobs/${answer.id}/why`).then((found) => { if (!gone) setWhy(found); }).catch(() => {});
    }).catch((error) => { if (!gone && error.status) setMissing(error); });
    return () => { gone = true; };
  }, [id, tick]);
  const attempt = job?.attempt ?? 0;
  useEffect(() => {
    if (!attempt) return undefined;
    let gone = false;
    // trackers say where they are when they begin, and once more when they end
    Promise.all(["offset=0&limit=131072", "tail=400&limit=131072"].map((part) => get(`/v1/jobs/${job.id}/log?${part}`))).then((texts) => {
      const found = texts.flatMap((text) => text.match(LINK) ?? []).map((one) => one.replace(/[.,;:)\]]+$/, ""));
      if (!gone) setLinks([...new Set(found)].filter((one) => TRACKERS.test(one)).slice(0, 8));
    }).catch(() => {});
    return () => { gone = true; };
  }, [job?.id, attempt, job?.state]);

  if (missing) return html`<section><h2>Job ${id}</h2><p class="empty">${missing.message}. <a href="#/">Back to the queue</a></p></section>`;
  if (!job) return html`<p class="empty">Loading job ${id}…</p>`;
  const at = `/v1/jobs/${job.id}`;
  const progress = job.progress;
  return html`<section class="job" aria-labelledby="h-job">
    <p class="crumbs"><a href="#/">Queue</a> / ${job.array_id !== null && job.array_id !== undefined ? `array ${job.array_id} / ` : ""}${job.ref}</p>
    <h2 id="h-job">${job.name} <span class="quiet">${job.ref}</span> <${State} state=${job.state} />${job.held ? html` <span class="pill">held</span>` : null}</h2>
    <p class="command"><code>${command(job.spec)}</code></p>
    <${Script} key=${job.id} job=${job} />
    ${job.state === "pending" ? html`<p class="because"><strong>${why?.sentence ?? (job.reason_detail ? `${job.reason}: ${job.reason_detail}` : "")}</strong>${why?.unblock ? html`<br /><span class="quiet">${why.unblock}</span>` : null}${job.starts_at ? html`<br />starts about ${clock(job.starts_at)}` : null}</p>` : null}
    ${ended(job.state) && job.explanation ? html`<p class="because"><strong>${job.explanation}</strong></p>` : null}
    ${LIVE.has(job.state) && progress && progress.step !== null && progress.step !== undefined ? html`<p class="progress"><label>step ${progress.step}${progress.total ? ` of ${progress.total}` : ""}
      ${progress.total ? html`<progress value=${progress.step} max=${progress.total}></progress>` : null}</label>
      ${Object.entries(progress.metrics).slice(0, 6).map(([name, value]) => html`<span key=${name}>${name} ${value === null ? "not finite" : figure(value)}</span>`)}
      ${progress.left_s ? html`<span>about ${duration(progress.left_s)} left</span>` : null}
      ${progress.checkpoint_at ? html`<span class="quiet">checkpoint at step ${progress.checkpoint_step}, ${relative(progress.checkpoint_at)}</span>` : null}</p>` : null}
    <p class="tools">
      ${canAct && job.state === "pending" ? html`${job.held ? html`<button type="button" onClick=${() => run(() => post(`${at}/release`), "released")}>release</button>` : html`<button type="button" onClick=${() => run(() => post(`${at}/hold`), "held")}>hold</button>`}
        <button type="button" onClick=${() => run(() => patch(at, { priority: Math.min(1000, job.priority + 1) }), "priority raised")}>priority +1</button>` : null}
      ${canAct && !ended(job.state) ? html`<${Sure} label="cancel" kind="danger" ask="really cancel?" act=${() => run(() => post(`${at}/cancel`, {}), "it is being cancelled")} />` : null}
      ${canAct && ended(job.state) ? html`<button type="button" onClick=${() => run(async () => { const made = await post(`${at}/retry`); location.hash = `#/jobs/${made.id}`; return made; }, (made) => `submitted again as job ${made?.id}`)}>run again</button>` : null}
      <${Copy} text=${job.resubmit} label="copy as leptonctl submit" />
    </p>
    ${canAct && job.state === "running" && progress && Object.keys(progress.knobs).length ? html`<${Tune} job=${job} run=${run} />` : null}
    ${links.length ? html`<p class="links">Found in the output: ${links.map((link) => html`<a key=${link} href=${link} rel="noreferrer noopener" target="_blank">${link}</a> `)}</p>` : null}
    <${Training} job=${job} tick=${tick} />
    <${GpuUse} job=${job} tick=${tick} />
    <section aria-labelledby="h-log"><h3 id="h-log">Output</h3><${Log} job=${job} /></section>
    <${Attempts} job=${job} />
    <section aria-labelledby="h-facts"><h3 id="h-facts">Details</h3><${Facts} job=${job} />
      <details><summary>the spec as JSON</summary><pre class="spec">${JSON.stringify(job.spec, null, 2)}</pre></details></section>
  </section>`;
}
