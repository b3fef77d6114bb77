// Asks the API. Who is not signed in is sent to sign in, and comes back.
const BASE = "/api/v1";
let csrf = "";
let strangers = () => {};

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function onStranger(handler) {
  strangers = handler;
}

/** Who looks. Also gets what goes with each action. */
export async function me() {
  const found = await get("/me");
  csrf = found.csrf;
  return found;
}

export function get(path, query = {}, signal = undefined, background = false) {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") asked.set(name, value);
  const text = asked.toString();
  return ask("GET", text ? `${path}?${text}` : path, undefined, signal, background);
}

export function post(path, body = {}) {
  return ask("POST", path, body);
}

export function remove(path) {
  return ask("DELETE", path);
}

async function ask(method, path, body, signal, background) {
  const headers = method === "GET" ? {} : { "X-CSRF-Token": csrf };
  if (background) headers["X-Background"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(BASE + path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 204) return null;
  const kind = answer.headers.get("content-type") ?? "";
  const said = kind.includes("json") ? await answer.json() : null;
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/session") strangers();
    throw new ApiError(answer.status, words(said) || `${answer.status} ${answer.statusText}`);
  }
  return said;
}

function words(said) {
  if (typeof said?.detail === "string") return said.detail;
  if (Array.isArray(said?.detail)) return said.detail.map((each) => `${(each.loc ?? []).slice(1).join(".")}: ${each.msg}`).join("; ");
  return "";
}

export const url = (path) => BASE + path;
export const alarmPath = (id, rest = "") => `/alarms/${encodeURIComponent(id)}${rest}`;
