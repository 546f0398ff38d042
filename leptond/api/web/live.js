// What the page knows: the status, kept fresh by the event stream, with one fetch for many events.

import { follow, get, Problem } from "/web/api.js";

const MIN_GAP_MS = 700;      // at most one refresh in this time, however many events come
const SAMPLES_MS = 5000;     // device samples announce themselves to nobody

/** Listens to the daemon. Subscribers get the whole picture on every change. */
export class Live {
  constructor() {
    this.state = { status: null, me: null, connection: "connecting", since: Date.now(), problem: null, tick: 0 };
    this.listeners = new Set();
    this.eventListeners = new Set();
    this.timer = null;
    this.last = 0;
    this.running = false;
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  onEvent(listener) {
    this.eventListeners.add(listener);
    return () => this.eventListeners.delete(listener);
  }

  set(change) {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener(this.state);
  }

  async start() {
    this.stop();
    this.running = true;
    const first = this.refresh();  // on its way together with the question who we are
    try {
      this.set({ me: await get("/v1/me"), problem: null });
    } catch (error) {
      this.set({ problem: error instanceof Problem ? error : null, connection: "stale", since: Date.now() });
      if (error instanceof Problem && error.status === 401) return;
      this.again = setTimeout(() => this.start(), 1500);
      return;
    }
    await first;
    this.stopStream = follow("/v1/events", {
      onEvent: (event) => {
        for (const listener of this.eventListeners) listener(event);
        this.soon();
      },
      onState: (connection) => {
        if (connection === this.state.connection) return;
        this.set({ connection, since: Date.now() });
        if (connection === "live") this.soon();
      },
      onProblem: (problem) => this.set({ problem, connection: "stale", since: Date.now() }),
    });
    this.sampler = setInterval(() => { if (!document.hidden) this.soon(); }, SAMPLES_MS);
  }

  stop() {
    this.stopStream?.();
    clearInterval(this.sampler);
    clearTimeout(this.again);
    clearTimeout(this.timer);
    this.timer = null;
    this.running = false;
  }

  /** A refresh before long; many calls make one. */
  soon() {
    if (this.timer !== null || !this.running) return;
    const wait = Math.max(60, MIN_GAP_MS - (Date.now() - this.last));
    this.timer = setTimeout(() => { this.timer = null; this.refresh(); }, wait);
  }

  async refresh() {
    this.last = Date.now();
    try {
      const status = await get("/v1/status");
      this.set({ status, tick: this.state.tick + 1, problem: null });
    } catch (error) {
      if (error instanceof Problem && error.status === 401) this.set({ problem: error });
    }
  }
}
