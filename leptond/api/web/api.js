// The daemon over HTTP: JSON requests, problem details, and event streams that resume by id.

// A session has two halves: a cookie that no script can read, and this key, which no other origin can. Cookies
// are shared by all ports of a host; this storage is not.
const KEY = "leptond.session";
let key = null;
let entering = Promise.resolve();

/** Signs in by what is in the address (#login=... once, or #token=...), so that it stays in no history entry.
 * True if there was such a thing. */
export function loadSession() {
  key = localStorage.getItem(KEY);
  const match = /^#(login|token)=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (!match) return false;
  history.replaceState(null, "", location.pathname + "#/");
  // a link that is not good any more leaves an earlier session as it is
  entering = signIn(match[1] === "login" ? { code: match[2] } : { token: match[2] }).catch(() => {});
  return true;
}

/** Signs in with `{ code }` of a link or with a `{ token }`. Throws Problem. */
export async function signIn(body) {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch("/v1/session", options);
  if (!response.ok) throw await problemOf(response);
  key = (await response.json()).key;
  localStorage.setItem(KEY, key);
}

/** Ends the session here and at the daemon. */
export async function signOut() {
  try { await call("DELETE", "/v1/session"); } catch { /* it had ended already */ }
  key = null;
  localStorage.removeItem(KEY);
}

/** What the daemon refused, in its own words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `HTTP ${status}`);
    this.status = status;
    this.hint = body?.hint ?? null;
    this.errors = body?.errors ?? [];
  }
}

const headers = (more) => ({ ...(key ? { "X-Leptond-Session": key } : {}), ...more });

async function problemOf(response) {
  let body = null;
  try { body = await response.json(); } catch { /* an answer that is not ours */ }
  return new Problem(response.status, body);
}

/** The decoded answer. Throws Problem, or TypeError when the daemon cannot be reached. */
export async function call(method, path, body, more = {}) {
  await entering;
  const options = { method, headers: headers(more) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, options);
  if (!response.ok) throw await problemOf(response);
  if (response.status === 204) return null;
  return (response.headers.get("Content-Type") ?? "").includes("json") ? response.json() : response.text();
}

export const get = (path) => call("GET", path);
export const post = (path, body, more) => call("POST", path, body, more);
export const patch = (path, body) => call("PATCH", path, body);

async function* eventsIn(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const event = { event: "message", id: null, data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        const colon = line.indexOf(":");
        if (colon <= 0) continue;
        const name = line.slice(0, colon), content = line.slice(colon + 1).trimStart();
        if (name === "data") event.data += content;
        else if (name === "event" || name === "id") event[name] = content;
      }
      text = text.slice(end + 2);
      if (event.data) yield { ...event, data: JSON.parse(event.data) };
    }
  }
}

const SILENCE_MS = 45000; // the daemon pings every 15 s
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Follows a stream of server-sent events through breaks, resuming after the last id seen. `onEvent(event)`
 * returning false ends it. `onState` hears "live" and "stale". Returns a function that stops.
 * (EventSource cannot send the key, so this reads the stream by fetch.)
 */
export function follow(path, { onEvent, onState = () => {}, onProblem = () => {} }) {
  let stopped = false, last = null, delay = 400, controller = null;
  (async () => {
    while (!stopped) {
      controller = new AbortController();
      let timer = null;
      const alive = () => {
        clearTimeout(timer);
        timer = setTimeout(() => controller.abort(), SILENCE_MS);
      };
      try {
        alive();
        const more = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
        const response = await fetch(path, { headers: headers(more), signal: controller.signal });
        if (!response.ok) throw await problemOf(response);
        onState("live");
        delay = 400;
        for await (const event of eventsIn(response.body, alive)) {
          if (event.id !== null) last = event.id;
          if (stopped || onEvent(event) === false) { stopped = true; break; }
        }
      } catch (error) {
        if (error instanceof Problem && error.status < 500 && error.status !== 429) {
          onProblem(error);
          stopped = true;
        }
      } finally {
        clearTimeout(timer);
        controller.abort();
      }
      if (stopped) return;
      onState("stale");
      await sleep(delay);
      delay = Math.min(delay * 1.7, 8000);
    }
  })();
  return () => { stopped = true; controller?.abort(); };
}

/** A file of the daemon for saving: fetched with the session, handed over as an object URL. */
export async function download(path, name) {
  const response = await fetch(path, { headers: headers({}) });
  if (!response.ok) throw await problemOf(response);
  save(await response.blob(), name);
}

/** Hands a blob or a text to the reader as a file. */
export function save(data, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
