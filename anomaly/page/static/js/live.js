// What changes, as it happens. A connection that is lost is said, and made again by the browser.
import { get, url } from "./api.js";

const heard = { lines: new Set(), alarm: new Set(), event: new Set(), acted: new Set(), trouble: new Set(), state: new Set() };
const SILENT_MS = 15000; // the server says a word every five seconds
let source = null;
let timer = null;
export const now = { lines: null, connected: false, last: null };

/** All lines at a glance: as they were last told, else asked for. The one that needs a person is first. */
export const lines = async (background = false) => now.lines ?? get("/lines", {}, undefined, background);
export const lineNames = async (background = false) => (await lines(background)).lines.map((each) => each.name);

/** Be told; returns what ends it. */
export function on(kind, handler) {
  heard[kind].add(handler);
  return () => heard[kind].delete(handler);
}

function tell(kind, data) {
  for (const handler of [...heard[kind]]) handler(data);
}

function state(connected) {
  if (connected) {
    now.last = new Date();
    clearTimeout(timer);
    timer = setTimeout(() => state(false), SILENT_MS);
  }
  if (now.connected !== connected) {
    now.connected = connected;
    tell("state", connected);
  }
}

export function start(onClosed) {
  stop();
  source = new EventSource(url("/live"));
  source.onopen = () => state(true);
  source.onerror = () => {
    state(false);
    if (source?.readyState === EventSource.CLOSED) {
      // refused: signed out, or the page is being started again; the page looks, and the connection is tried once more
      const again = source;
      setTimeout(() => {
        if (source === again) onClosed();
      }, 1000);
    }
  };
  for (const kind of ["lines", "alarm", "event", "acted", "trouble", "beat"]) {
    source.addEventListener(kind, (message) => {
      state(true);
      const data = JSON.parse(message.data);
      if (kind === "lines") now.lines = data;
      if (kind in heard) tell(kind, data);
    });
  }
}

export function stop() {
  source?.close();
  source = null;
  clearTimeout(timer);
}
