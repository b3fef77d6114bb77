// The list of alarms: filters, a page of a hundred, several acknowledged at once.
import { alarmPath, get, post } from "../api.js";
import { fill, h, redraw } from "../dom.js";
import { oneIn, when } from "../format.js";
import * as live from "../live.js";
import { aboutWords, alarmLink, choice, condition, field, isaState, priority } from "../parts.js";
import { t } from "../words.js";

const PAGE = 100;

export async function alarms(body, { query, person }) {
  const asked = { line: query.get("line") ?? "", live: query.get("live") ?? "true", alarm_class: "", order: "urgent", text: "", offset: 0 };
  const chosen = new Set();
  const list = h("div", {}), pages = h("nav", { class: "row", "aria-label": t("pages.label") }), said = h("p", { class: "said", role: "status" });
  let found = { total: 0, alarms: [], lines: [] }, newest = 0, timer = null;

  const load = async (background = false) => {
    const mine = (newest += 1);
    const answer = await get("/alarms", { ...asked, live: asked.live === "all" ? "" : asked.live, limit: PAGE }, undefined, background);
    if (mine !== newest) return;
    found = answer;
    draw();
  };
  const soon = (background) => {
    clearTimeout(timer);
    timer = setTimeout(() => load(background).catch((error) => { said.textContent = error.message; }), background ? 400 : 150);
  };
  const set = (name, value) => { asked[name] = value; asked.offset = 0; soon(false); };
  const move = (by) => { asked.offset = Math.max(0, asked.offset + by); load(); };

  const draw = () => {
    for (const id of [...chosen]) if (!found.alarms.some((each) => each.id === id)) chosen.delete(id);
    redraw(list, found.alarms.length ? rows() : h("p", { class: "none" }, t(asked.live === "true" ? "alarms.none_live" : "alarms.none")));
    redraw(pages, h("span", {}, t("pages.of", { from: found.total ? found.offset + 1 : 0, to: found.offset + found.alarms.length, all: found.total })),
      h("button", { type: "button", "data-key": "before", disabled: asked.offset === 0, onclick: () => move(-PAGE) }, t("pages.before")),
      h("button", { type: "button", "data-key": "next", disabled: asked.offset + PAGE >= found.total, onclick: () => move(PAGE) }, t("pages.next")),
      person.role !== "view" && chosen.size ? h("button", { type: "button", "data-key": "ack", class: "main", onclick: acknowledge }, t("alarms.acknowledge", { n: chosen.size })) : null);
  };
  const rows = () => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("alarms.title") }, h("table", { class: "alarms" },
    h("caption", { class: "hidden" }, t("alarms.title")),
    h("thead", {}, h("tr", {}, person.role === "view" ? null : h("th", { scope: "col" }, h("span", { class: "hidden" }, t("alarms.choose"))),
      ["since", "priority", "state", "line", "condition", "about", "rarity"].map((key) => h("th", { scope: "col" }, t(`col.${key}`))))),
    h("tbody", {}, found.alarms.map((each) => h("tr", { class: each.acknowledged ? "" : "fresh" },
      person.role === "view" ? null : h("td", {}, each.acknowledged || each.state === "normal" ? null : h("input", {
        type: "checkbox", "data-key": `choose ${each.id}`, checked: chosen.has(each.id), "aria-label": t("alarms.choose_one", { line: each.line, condition: each.condition, time: when(each.opened) }),
        onchange: (event) => { if (event.target.checked) chosen.add(each.id); else chosen.delete(each.id); draw(); } })),
      h("td", { "data-head": t("col.since") }, h("a", { href: alarmLink(each.id), "data-row": true, "data-key": each.id }, when(each.opened))),
      h("td", { "data-head": t("col.priority") }, priority(each.priority)), h("td", { "data-head": t("col.state") }, isaState(each.state)),
      h("td", { "data-head": t("col.line") }, each.line), h("td", { "data-head": t("col.condition") }, condition(each.condition)),
      h("td", { "data-head": t("col.about"), class: "about" }, aboutWords(each), each.label ? h("span", { class: "tag" }, t(`label.${each.label}`)) : null),
      h("td", { "data-head": t("col.rarity") }, oneIn(each.p_value, each.least_p)))))));
  const acknowledge = async () => {
    let done = 0;
    for (const id of [...chosen]) {
      try {
        await post(alarmPath(id, "/acknowledge"), {});
        done += 1;
      } catch (error) {
        said.textContent = error.message;
      }
    }
    chosen.clear();
    said.textContent = t("alarms.acknowledged", { n: done });
    await load();
  };

  await load();
  const names = [...new Set([...(await live.lineNames()), ...found.lines])]; // also of lines that nobody monitors now
  fill(body, h("h1", {}, t("alarms.title")), h("div", { class: "row filters", role: "search" },
    field(t("col.line"), choice("line", [["", t("filter.all")], ...names.sort().map((name) => [name, name])], asked.line, (event) => set("line", event.target.value))),
    field(t("filter.which"), choice("live", [["true", t("filter.live")], ["false", t("filter.over")], ["all", t("filter.all")]], asked.live, (event) => set("live", event.target.value))),
    field(t("filter.class"), choice("class", [["", t("filter.all")], ["process", t("class.process")], ["data quality", t("class.data quality")], ["delivery", t("class.delivery")]], "", (event) => set("alarm_class", event.target.value))),
    field(t("filter.order"), choice("order", ["urgent", "newest", "oldest"].map((key) => [key, t(`order.${key}`)]), "urgent", (event) => set("order", event.target.value))),
    field(t("filter.text"), h("input", { type: "search", name: "text", oninput: (event) => set("text", event.target.value) }))), said, pages, list);
  const off = [live.on("alarm", () => soon(true)), live.on("acted", () => soon(true))];
  return () => { off.forEach((end) => end()); clearTimeout(timer); };
}
