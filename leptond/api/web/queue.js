// The queue in planner order. Only the rows in view are in the document, so ten thousand jobs cost
// what fifty do; pages come as they are scrolled to.

import { Component, html, useCallback, useEffect, useRef, useState } from "/web/vendor/htm-preact.js";
import { get, patch, post } from "/web/api.js";
import { FILTERS } from "/web/fields.js";
import { LIVE, clock, duration, relative } from "/web/format.js";
import { State, Sure } from "/web/ui.js";

const ROW = 46, HEAD = 40, PAGE = 100, SPARE = 8;  // HEAD: rows of the first page, which somebody waits for
const STRIDE = 4;  // rows that scroll by before the list is drawn anew
const QUEUE = "/v1/jobs?order=queue&whole=true&state=pending,starting,running,stopping";

let early = null;

/** Asks for the head of the queue before there is a view to show it in. */
export function prefetchQueue() {
  const path = `${QUEUE}&limit=${HEAD}`;
  early = { path, answer: get(path) };
  early.answer.catch(() => {});
}

/** Narrows a list to the jobs with a value of a field: `find` is given that part of the query. */
function Find({ find }) {
  const [field, setField] = useState(FILTERS[0]);
  const [text, setText] = useState("");
  const go = (event) => {
    event.preventDefault();
    find(text.trim() ? `&${field}=${encodeURIComponent(text.trim())}` : "");
  };
  return html`<form class="tools" role="search" onSubmit=${go}><label>Find <select aria-label="Field" value=${field} onChange=${(event) => setField(event.currentTarget.value)}>${FILTERS.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
    <input type="search" aria-label="Value" value=${text} onInput=${(event) => { setText(event.currentTarget.value); if (!event.currentTarget.value) find(""); }} /><button type="submit">find</button></form>`;
}

/** Pages of a list by key. `reload` fetches again what is loaded, up to `depth` rows. */
function usePages(path) {
  const [rows, setRows] = useState([]);
  const [cursor, setCursor] = useState(undefined);  // undefined: nothing loaded yet; null: the end
  const busy = useRef(false);
  const [settled, settle] = useState(0);  // counts fetches that are over: who was turned away asks again
  const fetchFrom = async (from) => {
    const wanted = from ? `${path}&limit=${PAGE}&cursor=${encodeURIComponent(from)}` : `${path}&limit=${HEAD}`;
    const known = early?.path === wanted ? early.answer : null;
    early = null;
    const answer = await (known ?? get(wanted));
    return [answer.items, answer.next_cursor ?? null];
  };
  const more = useCallback(async () => {
    if (busy.current || cursor === null) return;
    busy.current = true;
    try {
      const [items, next] = await fetchFrom(cursor);
      // the order may have changed between two pages: no job twice
      setRows((before) => {
        const known = new Set(before.map((job) => job.id));
        return [...before, ...items.filter((job) => !known.has(job.id))];
      });
      setCursor(next);
    } catch { /* the next event tries again */ } finally { busy.current = false; settle((n) => n + 1); }
  }, [path, cursor]);
  const reload = useCallback(async (depth) => {
    if (busy.current) return;
    busy.current = true;
    try {
      let found = [], next = null;
      do {
        const [items, after] = await fetchFrom(next);
        found = found.concat(items);
        next = after;
      } while (next && found.length < depth);
      setRows(found);
      setCursor(next);
    } catch { /* as above */ } finally { busy.current = false; settle((n) => n + 1); }
  }, [path]);
  return [rows, cursor, more, reload, settled];
}

/** How many members of its array a row stands for; 1 for a job of its own. */
function standsFor(job) {
  return Object.values(job.members ?? {}).reduce((sum, count) => sum + count, 0) || 1;
}

/** What can be done to all members of an array at once. */
function ArrayActions({ job, run }) {
  const at = `/v1/arrays/${job.array_id}`, name = `array ${job.array_id}`;
  return html`<span class="actions">
    <button type="button" onClick=${() => run(() => post(`${at}/hold`), `${name} is held`)}>hold</button>
    <button type="button" onClick=${() => run(() => post(`${at}/release`), `${name} may start`)}>release</button>
    <${Sure} label="cancel" kind="danger" ask="cancel all?" act=${() => run(() => post(`${at}/cancel`, {}), `${name} is being cancelled`)} />
  </span>`;
}

function Actions({ job, run }) {
  if (standsFor(job) > 1) return html`<${ArrayActions} job=${job} run=${run} />`;
  const at = `/v1/jobs/${job.id}`;
  return html`<span class="actions">
    ${job.state === "pending" ? html`
      ${job.held
        ? html`<button type="button" onClick=${() => run(() => post(`${at}/release`), `job ${job.ref} may start`)}>release</button>`
        : html`<button type="button" onClick=${() => run(() => post(`${at}/hold`), `job ${job.ref} is held`)}>hold</button>`}
      <button type="button" onClick=${() => run(async () => {
        const first = (await get("/v1/jobs?order=queue&state=pending&limit=1")).items[0];
        return patch(at, { priority: Math.min(1000, Math.max(job.priority, (first?.priority ?? 0) + 1)) });
      }, `job ${job.ref} is first`)}>top</button>` : null}
    ${job.state !== "stopping" ? html`<${Sure} label="cancel" kind="danger" ask="really cancel?" act=${() => run(() => post(`${at}/cancel`, {}), `job ${job.ref} is being cancelled`)} />` : null}
  </span>`;
}

function reasonOf(job) {
  if (job.state === "pending") return job.reason_detail ? `${job.reason}: ${job.reason_detail}` : job.reason ?? "";
  const progress = job.progress;
  if (progress && progress.step !== null && progress.step !== undefined) {
    const of = progress.total ? `/${progress.total}` : "";
    const loss = typeof progress.metrics.loss === "number" ? `, loss ${progress.metrics.loss.toPrecision(3)}` : "";
    const left = progress.left_s ? `, about ${duration(progress.left_s)} left` : "";
    return `step ${progress.step}${of}${loss}${left}`;
  }
  return job.deadline_at ? `limit ${relative(job.deadline_at)}` : "";
}

function startsOf(job) {
  if (!job.starts_at) return "";
  return `starts ~${clock(job.starts_at)}`;
}

/** A row is drawn anew only when its job is another object: what scrolls by costs nothing. */
class Row extends Component {
  shouldComponentUpdate(next) {
    return next.job !== this.props.job || next.canAct !== this.props.canAct;
  }

  render({ job, canAct, run, find }) {
    return html`<${Cells} job=${job} canAct=${canAct} run=${run} find=${find} />`;
  }
}

/** How many GPUs a job wants or has, and then which. */
function gpusOf(job) {
  if (!job.gpus) return "–";
  return LIVE.has(job.state) && job.gpu_indices.length ? `${job.gpus} on ${job.gpu_indices.join(",")}` : job.gpus;
}

function Cells({ job, canAct, run, find }) {
  const gpus = gpusOf(job), whole = standsFor(job) > 1;
  const members = whole ? Object.entries(job.members).map(([state, count]) => `${count} ${state}`).join(", ") : "";
  return html`<div class="row" role="row">
    <span class="id" role="cell">${whole
      ? html`<button type="button" class="link" title="list its members" onClick=${() => find(`&array=${job.array_id}`)}>${job.array_id}_*</button>`
      : job.private ? job.ref : html`<a href=${`#/jobs/${job.id}`}>${job.ref}</a>`}</span>
    <span class="name" role="cell">${job.private ? html`<span class="quiet">${job.name}</span>` : html`<a href=${`#/jobs/${job.id}`}>${job.name}</a>`}<small class="quiet">${job.user}${job.project ? ` · ${job.project}` : ""}${job.priority ? ` · priority ${job.priority}` : ""}</small></span>
    <span class="st" role="cell"><${State} state=${job.state} />${job.held ? html` <span class="pill">held</span>` : null}</span>
    <span class="num" role="cell" title="GPUs">${gpus}</span>
    <span class="num time" role="cell">${LIVE.has(job.state) ? duration(job.run_s) : relative(job.submitted_at)}<small class="quiet">${startsOf(job)}</small></span>
    <span class="reason" role="cell" title=${reasonOf(job)}>${whole ? `${members}; ` : ""}${reasonOf(job)}</span>
    <span class="do" role="cell">${canAct && !job.private ? html`<${Actions} job=${job} run=${run} />` : null}</span>
  </div>`;
}

export function Queue({ tick, canAct, me, run, counts }) {
  const [wanted, find] = useState("");
  const [mine, setMine] = useState(localStorage.getItem("leptond.mine") === "1");
  const change = (event) => {
    setMine(event.currentTarget.checked);
    localStorage.setItem("leptond.mine", event.currentTarget.checked ? "1" : "0");
  };
  const found = mine && me && !wanted.startsWith("&user=") ? `${wanted}&user=${encodeURIComponent(me.user)}` : wanted;
  const array = /^&array=([0-9]+)$/.exec(wanted)?.[1];
  return html`<${Find} find=${find} />
    <p class="tools"><label><input type="checkbox" checked=${mine} onChange=${change} /> mine</label></p>
    ${array ? html`<p class="tools">Members of array ${array} <button type="button" onClick=${() => find("")}>all jobs</button></p>` : null}
    <${Rows} key=${found} found=${found} find=${find} tick=${tick} canAct=${canAct} run=${run} counts=${counts} />`;
}

function Rows({ found, find, tick, canAct, run, counts }) {
  const [rows, cursor, more, reload, settled] = usePages(QUEUE + found);
  const [top, setTop] = useState(0);
  const box = useRef(null);
  const view = 560;
  const first = Math.max(0, Math.floor(top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((top + view) / ROW) + STRIDE + SPARE);

  // what is in view is fetched afresh; far down, only when the reader is there
  useEffect(() => { if (first < 2 * PAGE) reload(Math.min(last, 2 * PAGE)); }, [tick]);
  useEffect(() => { if (cursor && last > rows.length - PAGE / 2 && rows.length) more(); }, [last, rows.length, cursor, settled]);

  const lines = rows.some((job) => standsFor(job) > 1);
  const total = found || (lines && cursor === null) ? rows.length : (counts?.pending ?? 0) + (counts?.running ?? 0) + (counts?.starting ?? 0) + (counts?.stopping ?? 0);
  if (cursor === undefined) return html`<p class="empty">Loading the queue…</p>`;
  if (!rows.length && found) return html`<p class="empty">No running or pending job is like that.</p>`;
  if (!rows.length) {
    return html`<div class="empty"><p>Nothing is queued. Try:</p><pre>leptonctl submit --gpus 1 --time 2h -- python train.py</pre>
      <p>or <a href="#/submit">submit from here</a>.</p></div>`;
  }
  return html`<div class="table" role="table" aria-label="The queue" aria-rowcount=${total}>
    <div class="row head" role="row"><span role="columnheader">Job</span><span role="columnheader">Name</span><span role="columnheader">State</span><span role="columnheader" class="num">GPUs</span><span role="columnheader" class="num">Time</span><span role="columnheader" class="reason">Why, or how far</span><span role="columnheader" class="do">${canAct ? "Actions" : ""}</span></div>
    <div class="rows" ref=${box} tabindex="0" role="rowgroup" aria-label="Queue rows" onScroll=${(event) => setTop(event.currentTarget.scrollTop - (event.currentTarget.scrollTop % (STRIDE * ROW)))}>
      <div class="strut"><svg width="1" height=${first * ROW} aria-hidden="true"></svg></div>
      ${rows.slice(first, last).map((job) => html`<${Row} key=${job.id} job=${job} canAct=${canAct} run=${run} find=${find} />`)}
      <div class="strut"><svg width="1" height=${Math.max(0, (rows.length - last) * ROW)} aria-hidden="true"></svg></div>
    </div>
    <p class="quiet foot">${rows.length < total ? `${rows.length} of ${total} loaded; scroll for more` : `${total} ${lines ? "lines; an array is one" : total === 1 ? "job" : "jobs"}`}</p>
  </div>`;
}

/** Jobs that are over, newest first. */
export function History({ tick }) {
  const [filter, setFilter] = useState("");
  const [found, find] = useState("");
  const path = `/v1/jobs?state=${filter || "succeeded,failed,timed_out,cancelled,lost"}${found}`;
  return html`<section aria-labelledby="h-history"><h2 id="h-history">History</h2>
    <${Find} find=${find} />
    <p class="tools"><label>Show <select value=${filter} onChange=${(event) => setFilter(event.currentTarget.value)}>
      <option value="">all that ended</option><option value="succeeded">succeeded</option><option value="failed,timed_out,lost">failed</option><option value="cancelled">cancelled</option></select></label></p>
    <${Ended} key=${path} path=${path} tick=${tick} />
  </section>`;
}

function Ended({ path, tick }) {
  const [rows, cursor, more, reload] = usePages(path);
  useEffect(() => { reload(PAGE); }, [Math.floor(tick / 5)]);
  return html`${rows.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Jobs that ended"><table><thead><tr><th>Job</th><th>Name</th><th>User</th><th>State</th><th class="num">Tries</th><th class="num">Time</th><th class="num">GPU-h</th><th>Ended</th><th>How</th></tr></thead><tbody>
      ${rows.map((job) => html`<tr key=${job.id}><td><a href=${`#/jobs/${job.id}`}>${job.ref}</a></td><td>${job.name}</td><td>${job.user}</td><td><${State} state=${job.state} /></td><td class="num">${job.attempt}</td><td class="num">${duration(job.run_s)}</td><td class="num">${(job.gpu_seconds / 3600).toFixed(2)}</td><td>${clock(job.ended_at)}</td><td class="words">${job.explanation ?? ""}</td></tr>`)}
    </tbody></table></div>` : html`<p class="empty">Nothing has ended yet.</p>`}
    ${cursor ? html`<button type="button" onClick=${more}>older</button>` : null}`;
}
