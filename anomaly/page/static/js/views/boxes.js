// Many boxes in one list. Links lead to the page of the box itself.
import { get } from "../api.js";
import { fill, h, redraw } from "../dom.js";
import { lasted, when } from "../format.js";
import { condition, heldBack, isaState, priority, said, sparkline, standing, stateMark, table } from "../parts.js";
import { t } from "../words.js";

const EVERY_MS = 2000;

export async function boxes(body) {
  const summary = h("p", { class: "summary" });
  const states = h("section", {});
  const list = h("ul", { class: "cards" });
  const alarms = h("section", {});
  fill(body, h("h1", {}, t("boxes.title")), summary, states, h("h2", {}, t("lines.title")), list, h("h2", {}, t("alarms.title")), alarms);
  let drawn = "";
  const draw = (found) => {
    const { time, ...rest } = found;
    const text = JSON.stringify(rest, (key, value) => (key === "last_record_age_s" ? undefined : value));
    if (text === drawn) return; // the keyboard and a reader of the screen are left in peace
    drawn = text;
    const away = found.boxes.filter((each) => each.state === "away").length;
    summary.textContent = t(away ? "boxes.away_n" : "boxes.all_there", { n: away, all: found.boxes.length }) + " "
      + standing(found.lines.map((each) => each.line));
    redraw(states, table(t("boxes.title"), [t("col.box"), t("col.state"), t("col.since"), t("boxes.lines"), t("col.waiting"), t("col.why")],
      found.boxes.map((each) => [link(each, each.name, ""), mark(each.state), each.since ? when(each.since) : "", each.lines, each.waiting, each.why]), ""));
    redraw(list, found.lines.map(card));
    redraw(alarms, table(t("alarms.title"), [t("col.since"), t("col.priority"), t("col.state"), t("col.box"), t("col.line"), t("col.condition")],
      found.alarms.map(({ box, page, alarm }) => [link({ page }, when(alarm.opened), `#/alarm/${encodeURIComponent(alarm.id)}`, `${box} ${alarm.id}`),
        priority(alarm.priority), isaState(alarm.state), box, alarm.line, condition(alarm.condition)]), t("alarms.none_live")));
  };
  draw(await get("/boxes"));
  let stopped = false;
  const timer = setInterval(async () => {
    try {
      const found = await get("/boxes", {}, undefined, true);
      if (!stopped) draw(found);
    } catch {
      if (!stopped) summary.textContent = t("boxes.lost"); // what is shown below is old
      drawn = "";
    }
  }, EVERY_MS);
  return () => {
    stopped = true;
    clearInterval(timer);
  };
}

function link(box, words, place, key = box.name) {
  return h("a", { href: `${box.page}/${place}`, "data-row": true, "data-key": key, rel: "noreferrer" }, words);
}

function mark(state) {
  return state === "not asked yet" ? t("boxes.not_asked") : h("span", { class: `mark mark-${state === "there" ? "ok" : "down"}` },
    h("span", { "aria-hidden": "true", class: "sign" }, state === "there" ? "✓" : "✕"), t(`boxes.${state}`));
}

function card({ box, page, line }) {
  return h("li", { class: `card card-${line.state}` },
    h("div", { class: "card-head" }, h("h3", {}, link({ page }, `${box}: ${line.name}`, `#/line/${encodeURIComponent(line.name)}`, `${box} ${line.name}`)), stateMark(line.state)),
    line.causes.length ? h("p", { class: "why" }, line.causes.map(said).join("; ")) : null,
    heldBack(line),
    line.open ? h("p", {}, t("lines.open", { n: line.open, waiting: line.waiting }), " ", line.worst_priority ? priority(line.worst_priority) : null) : null,
    sparkline(line.sparkline, line.budget_share),
    h("p", { class: "small" }, line.last_record ? t(line.last_record_age_s === null ? "lines.last_only" : "lines.last", { time: when(line.last_record), age: lasted(line.last_record_age_s) }) : t("lines.no_record")));
}
