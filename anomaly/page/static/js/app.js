// The shell: the bar on top, which view is shown, who is signed in, what is new.
import { me, onStranger, remove } from "./api.js";
import { fill, h } from "./dom.js";
import { when } from "./format.js";
import * as live from "./live.js";
import { choose, language, LANGUAGES, t } from "./words.js";
import { alarm } from "./views/alarm.js";
import { alarms } from "./views/alarms.js";
import { audit } from "./views/audit.js";
import { boxes } from "./views/boxes.js";
import { delivery } from "./views/delivery.js";
import { drift } from "./views/drift.js";
import { line } from "./views/line.js";
import { lines } from "./views/lines.js";
import { shadow } from "./views/shadow.js";
import { signIn } from "./views/sign-in.js";
import { wall } from "./views/wall.js";

const VIEWS = { "": lines, line, alarms, alarm, drift, delivery, shadow, audit, wall };
const MENU = [["", "menu.lines"], ["alarms", "menu.alarms"], ["drift", "menu.drift"], ["delivery", "menu.delivery"], ["shadow", "menu.shadow"], ["audit", "menu.audit"]];
const BOXES = { "": boxes }; // of a page that shows many boxes
const main = document.getElementById("main");
const top = document.getElementById("top");
let person = null;
let leave = () => {};
let turn = 0;

/** What follows the # as a view and its parameters: #/line/NAME?begin=… */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return { view, name: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

/** What an address names, null where it names nothing that can be: it was cut short, or typed. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

async function show(focus = true) {
  const { view, name, query } = place();
  const mine = (turn += 1);
  leave();
  leave = () => {};
  document.body.classList.toggle("is-wall", view === "wall");
  bar(view);
  const views = person?.shows === "boxes" ? BOXES : VIEWS;
  const wanted = person?.role ? (Object.hasOwn(views, view) ? views[view] : views[""]) : signIn;
  const body = h("div", { class: "view" });
  fill(main, body);
  try {
    if (name === null && person?.role) throw new Error(t("error.nowhere"));
    const ended = await wanted(body, { name, query, person, signedIn });
    if (mine !== turn) {
      ended?.();
      return;
    }
    if (ended) leave = ended;
  } catch (error) {
    if (mine !== turn) return;
    fill(body, h("h1", {}, t("error.title")), h("p", { role: "alert" }, error.message), h("p", {}, h("a", { href: "#/" }, t("menu.lines"))));
  }
  const head = main.querySelector("h1");
  document.title = head ? `${head.textContent} – anomaly` : "anomaly";
  if (focus) main.focus({ preventScroll: true });
}

function bar(view) {
  document.getElementById("skip").textContent = t("skip");
  document.getElementById("foot").textContent = t("clock", { zone: new Intl.DateTimeFormat().resolvedOptions().timeZone });
  const menu = person?.shows === "boxes" ? [["", "menu.boxes"]] : MENU;
  const links = menu.map(([key, words]) => h("a", { href: `#/${key}`, "aria-current": key === view ? "page" : null }, t(words)));
  fill(top,
    h("a", { class: "brand", href: "#/" }, "anomaly"),
    person?.role ? h("nav", { "aria-label": t("menu.label") }, links) : h("span", { class: "grow" }),
    h("div", { class: "tools" },
      h("label", {}, h("span", { class: "hidden" }, t("language")),
        h("select", { onchange: (event) => { choose(event.target.value); show(false); } },
          Object.entries(LANGUAGES).map(([key, words]) => h("option", { value: key, selected: key === language(), lang: key }, words)))),
      h("label", {}, h("span", { class: "hidden" }, t("theme.label")),
        h("select", { onchange: (event) => theme(event.target.value) },
          ["system", "light", "dark"].map((key) => h("option", { value: key, selected: key === (document.documentElement.dataset.theme ?? "system") }, t(`theme.${key}`))))),
      person?.role ? h("span", { class: "who" }, `${person.name} (${t(`role.${person.role}`)})`) : null,
      person?.role && person.ways.length ? h("button", { type: "button", onclick: signOut }, t("sign_out")) : null));
  const menuBar = top.querySelector("nav"), here = menuBar?.querySelector("[aria-current]");
  if (here) menuBar.scrollLeft = here.offsetLeft - menuBar.offsetLeft - (menuBar.clientWidth - here.clientWidth) / 2; // on a phone it is one row
}

function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", name);
  } catch {
    // it holds for this visit
  }
  window.dispatchEvent(new Event("theme"));
}

async function signOut() {
  await remove("/session");
  await signedIn();
}

/** Look who is signed in, and show what they may see. */
async function signedIn() {
  try {
    person = await me();
  } catch (error) {
    if (error.status === 401 || error.status === 403) fill(main, h("p", { class: "said", role: "alert" }, error.message)); // not for this address, or by a proxy
    setTimeout(signedIn, 2000); // the page's server is away
    return;
  }
  if (person.role && person.shows !== "boxes") live.start(signedIn);
  else live.stop();
  if (person.role || !main.querySelector("#token")) await show();
}

onStranger(() => {
  if (person?.role) {
    person = { ...person, role: null, ways: person.ways };
    signedIn();
  }
});

live.on("state", (connected) => {
  const banner = document.getElementById("banner");
  banner.hidden = connected;
  banner.textContent = connected ? "" : t("lost", { time: live.now.last ? when(live.now.last.toISOString(), true) : "–" });
});

live.on("alarm", (event) => {
  if (event.kind !== "opened") return;
  const news = document.getElementById("news");
  const note = h("p", { class: "toast" }, h("a", { href: `#/alarm/${encodeURIComponent(event.alarm)}` }, t("news.opened", { line: event.line, what: event.condition, priority: t(`priority.${event.priority}`) })),
    h("button", { type: "button", "aria-label": t("close"), onclick: () => note.remove() }, "×"));
  news.append(note);
  while (news.children.length > 3) news.firstChild.remove();
  setTimeout(() => note.remove(), 15000);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur?.();
    return;
  }
  if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  } else if (event.key === "j" || event.key === "k") {
    const rows = [...main.querySelectorAll("[data-row]")];
    const at = rows.indexOf(document.activeElement);
    rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
  } else if (event.key === "Escape" && place().view) history.back();
});

window.addEventListener("hashchange", () => show());
signedIn();
