// A card a device: who has it, how it is doing, and its last hour minute by minute.

import { html, useEffect, useState } from "/web/vendor/htm-preact.js";
import { get, post } from "/web/api.js";
import { bytes, percent, seconds } from "/web/format.js";
import { Sure } from "/web/ui.js";

const MINUTES = 60;

/** What people call the first of the jobs that have a GPU. */
const refOf = (gpu) => gpu.jobs[0]?.ref ?? gpu.job_id;

function HeatStrip({ minutes, now }) {
  const first = Math.floor(now / 60) - MINUTES + 1;
  const cells = new Map(minutes.map((one) => [Math.floor(seconds(one.at) / 60) - first, one]));
  const known = minutes.filter((one) => one.utilization !== null);
  const mean = known.length ? known.reduce((sum, one) => sum + one.utilization, 0) / known.length : null;
  const label = mean === null ? "no utilisation is known for the last hour" : `mean utilisation of the last hour ${percent(mean)}`;
  return html`<svg class="heat" viewBox="0 0 ${MINUTES} 10" preserveAspectRatio="none" role="img" aria-label=${label}>
    <title>${label}</title>
    ${Array.from({ length: MINUTES }, (_, i) => {
      const one = cells.get(i);
      if (!one || one.utilization === null) return html`<rect key=${i} x=${i} y="0" width="0.9" height="10" class="none"></rect>`;
      return html`<rect key=${i} x=${i} y="0" width="0.9" height="10" class="some" fill-opacity=${0.08 + 0.92 * one.utilization}></rect>`;
    })}
  </svg>`;
}

function Bar({ value, of, label }) {
  const ratio = of && value !== null ? Math.min(1, value / of) : 0;
  return html`<div class="bar" role="img" aria-label=${label}><svg viewBox="0 0 100 4" preserveAspectRatio="none"><rect width=${100 * ratio} height="4"></rect></svg></div>`;
}

function health(gpu) {
  if (!gpu.schedulable) return { kind: "bad", text: gpu.why_not ?? "out of service" };
  if (gpu.job_id !== null) return { kind: "busy", text: `job ${refOf(gpu)}` };
  return { kind: "free", text: "free" };
}

function Card({ gpu, minutes, now, running, canAct, run }) {
  const state = health(gpu);
  const job = running.find((one) => one.id === gpu.job_id);
  const foreign = gpu.processes.filter((one) => one.job_id === null && gpu.job_id === null);
  return html`<article class=${`gpu ${state.kind}`} aria-label=${`GPU ${gpu.index}: ${state.text}`}>
    <header><strong>${gpu.index}</strong> <span class="quiet" title=${gpu.uuid}>${gpu.name}</span>
      <span class=${`pill ${state.kind}`}>${state.kind === "bad" ? "out" : state.kind}</span></header>
    <p class="who">${gpu.job_id !== null
      ? html`<a href=${`#/jobs/${gpu.job_id}`}>${job ? job.name : `job ${refOf(gpu)}`}</a>${job ? html` <span class="quiet">${job.user}</span>` : null}`
      : state.kind === "bad" ? state.text : html`<span class="quiet">free</span>`}</p>
    <${HeatStrip} minutes=${minutes} now=${now} />
    <${Bar} value=${gpu.memory_used_bytes} of=${gpu.memory_total_bytes} label=${`memory ${bytes(gpu.memory_used_bytes)} of ${bytes(gpu.memory_total_bytes)}`} />
    <p class="facts quiet">
      <span>${percent(gpu.utilization)} use</span>
      <span>${gpu.memory_used_bytes === null ? "" : `${bytes(gpu.memory_used_bytes)} of `}${bytes(gpu.memory_total_bytes)}</span>
      ${gpu.temperature_c === null ? null : html`<span>${Math.round(gpu.temperature_c)} °C</span>`}
      ${gpu.power_w === null ? null : html`<span>${Math.round(gpu.power_w)} W</span>`}
    </p>
    ${foreign.map((one) => html`<p class="warn" key=${one.pid}>foreign: pid ${one.pid} ${one.name ?? ""} ${one.memory_bytes === null ? "" : bytes(one.memory_bytes)}</p>`)}
    ${canAct ? html`<p class="actions">${gpu.drained
      ? html`<button type="button" onClick=${() => run(() => post(`/v1/gpus/${gpu.index}/undrain`), `GPU ${gpu.index} is back in service`)}>undrain</button>`
      : html`<${Sure} label="drain" ask="really drain?" act=${() => run(() => post(`/v1/gpus/${gpu.index}/drain`, { reason: "drained on the page" }), `GPU ${gpu.index} takes no new jobs`)} />`}</p>` : null}
  </article>`;
}

/** All devices. */
export function Gpus({ status, tick, canAct, run }) {
  const [history, setHistory] = useState(new Map());
  const now = Date.now() / 1000;
  const minute = Math.floor(now / 20);
  useEffect(() => {
    let gone = false;
    get("/v1/gpus/history")
      .then((answer) => { if (!gone) setHistory(new Map(answer.items.map((one) => [one.uuid, one.minutes]))); })
      .catch(() => {});
    return () => { gone = true; };
  }, [minute]);
  if (!status.gpus.length) {
    return html`<p class="empty">This machine shows no GPU. Jobs without GPUs run in ${status.cpu_slots.total} CPU slots;
      for a rehearsal: <code>leptond run --simulate-gpus 4</code></p>`;
  }
  return html`<div class="gpus" data-tick=${tick}>
    ${status.gpu_note ? html`<p class="quiet wide">${status.gpu_note}</p>` : null}
    ${status.gpus.map((gpu) => html`<${Card} key=${gpu.uuid} gpu=${gpu} minutes=${history.get(gpu.uuid) ?? []} now=${now} running=${status.running} canAct=${canAct} run=${run} />`)}
  </div>`;
}
