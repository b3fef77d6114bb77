// One line over time: how unusual its records are, its alarms, its sensors or its last pictures.
import { alarmPath, get, post, url } from "../api.js";
import { rarityChart, sensorChart } from "../charts.js";
import { fill, h } from "../dom.js";
import { count, lasted, oneIn, percent, when } from "../format.js";
import * as live from "../live.js";
import { action, alarmLink, choice, condition, facts, field, late, priority, said, stateMark, table, until } from "../parts.js";
import { t } from "../words.js";

const SPANS = { "3600": ["h", 1], "28800": ["h", 8], "86400": ["h", 24], "604800": ["d", 7] }; // seconds: how they are named

export async function line(body, { name, query, person }) {
  const head = h("h1", {}, name);
  const state = h("div", { class: "row" }), plot = h("section", {}), below = h("section", {}), lists = h("section", {});
  fill(body, head, state, plot, below, lists);
  let hours = query.get("span") in SPANS ? query.get("span") : "86400";
  let ends = [];
  let newest = 0;

  const draw = async (background = false) => {
    const mine = (newest += 1);
    let found = await get("/line", { name }, undefined, background);
    if (hours !== "86400") {
      const end = new Date(found.end);
      found = await get("/line", { name, begin: new Date(end - Number(hours) * 1000).toISOString(), end: end.toISOString() }, undefined, background);
    }
    const shots = found.line.kind === "readings" ? [] : await get("/line/pictures", { name }, undefined, background);
    if (mine !== newest) return;
    ends.forEach((end) => end());
    ends = [];
    fill(state, stateMark(found.line.state), h("span", {}, found.line.causes.map(said).join("; ")));
    const [chart, over] = rarityChart(found.points, found.threshold_p, found.line.least_p, found.alarms, found.begin, found.end);
    ends.push(over);
    fill(plot, h("div", { class: "row" }, h("h2", {}, t("line.rarity")),
      field(t("line.span"), choice("span", Object.entries(SPANS).map(([key, [unit, n]]) => [key, key === "86400" ? t("line.up_to", { time: t("unit.h", { n }) }) : t(`unit.${unit}`, { n })]), hours, (event) => { hours = event.target.value; draw(); }))),
      h("p", { class: "small" }, found.threshold_p === null ? t("line.no_threshold") : t("line.threshold", { words: oneIn(found.threshold_p) })),
      found.points.length ? chart : h("p", { class: "none" }, t("line.no_points")));
    fill(below, found.readings ? sensors(found.readings, ends) : pictures(shots, found.line.least_p));
    fill(lists, alarmsOf(found), information(found), held(found, person, name, draw));
  };

  await draw();
  const again = setInterval(() => { if (!body.contains(document.activeElement)) draw(true).catch(() => {}); }, 10000);
  const off = live.on("alarm", (event) => { if (event.line === name) draw(true).catch(() => {}); });
  return () => { clearInterval(again); off(); ends.forEach((end) => end()); };
}

function sensors(readings, ends) {
  if (!readings.times.length) return h("p", { class: "none" }, t("line.no_readings"));
  return [h("h2", {}, t("line.sensors")), h("p", { class: "small" }, t("line.shares")), readings.sensors.map((name, place) => {
    const [chart, over] = sensorChart(name, readings.units[place], readings.times, readings.values[place]);
    ends.push(over);
    const share = readings.shares[place];
    return h("figure", { class: "sensor" }, h("figcaption", {}, h("b", {}, name), readings.units[place] ? ` (${readings.units[place]})` : "", share === null ? "" : ` – ${t("line.share", { share: percent(share) })}`), chart);
  })];
}

function pictures(shots, least) {
  return [h("h2", {}, t("line.pictures")), shots.length ? h("ul", { class: "shots" }, shots.map((shot) => h("li", {},
    h("a", { href: alarmLink(shot.alarm), "data-row": true },
      h("img", { src: `${url(alarmPath(shot.alarm, `/${shot.role}/picture`))}?side=320`, alt: t("line.picture", { record: shot.record }), loading: "lazy" }),
      h("span", {}, oneIn(shot.p_value, least)), h("span", { class: "small" }, when(shot.time)))))) : h("p", { class: "none" }, t("line.no_pictures"))];
}

function alarmsOf(found) {
  const rows = [...found.alarms].reverse().slice(0, 50).map((each) => [
    h("a", { href: alarmLink(each.id), "data-row": true }, when(each.begin)), condition(each.condition), priority(each.priority), t(`isa.${each.state}`),
    each.to ? lasted((new Date(each.to) - new Date(each.begin)) / 1000) : t("line.still_on")]);
  return [h("h2", {}, t("line.alarms")), table(t("line.alarms"), [t("col.since"), t("col.condition"), t("col.priority"), t("col.state"), t("col.lasted")], rows, t("line.no_alarms"))];
}

function information({ line: one }) {
  return [h("h2", {}, t("line.facts")), facts([
    [t("fact.last_record"), one.last_record ? when(one.last_record) : ""], [t("fact.records"), one.records === null ? "" : count(one.records)],
    [t("fact.flagged"), one.flagged_share === null ? "" : t("lines.rate", { share: percent(one.flagged_share), budget: percent(one.budget_share), n: count(one.records), flagged: count(one.flagged) })],
    [t("fact.bundle"), one.bundle && `${one.bundle} (${one.bundle_hash.slice(0, 12)})`], [t("fact.provider"), one.provider],
    [t("fact.drift"), one.drift === null ? "" : h("a", { href: `#/drift/${encodeURIComponent(one.name)}` }, one.drift >= 1 ? t("drift.is") : t("drift.level", { share: percent(one.drift) }))],
    [t("fact.more"), [h("a", { href: `#/shadow/${encodeURIComponent(one.name)}` }, t("menu.shadow")), " · ", h("a", { href: `${url("/weekly")}?line=${encodeURIComponent(one.name)}`, target: "_blank", rel: "noopener" }, t("menu.weekly"))]],
  ])];
}

function held(found, person, name, again) {
  const rows = found.held.map((each) => [t(`hold.${each.kind}`), each.condition === "*" ? t("hold.all") : condition(each.condition), each.until && !late(each) ? when(each.until) : until(each), each.who, each.why,
    person.role === "admin" ? action(t("hold.end"), [], async () => { await post(`/line/release?name=${encodeURIComponent(name)}`, { kind: each.kind, condition: each.condition }); await again(); }) : ""]);
  const shown = [h("h2", {}, t("hold.title")), table(t("hold.title"), [t("col.what"), t("col.condition"), t("col.until"), t("col.who"), t("col.why"), ""], rows, t("hold.none"))];
  if (person.role !== "admin") return shown;
  return [...shown, h("details", {}, h("summary", {}, t("hold.line")), action(t("hold.do"), [
    field(t("col.what"), choice("kind", [["shelved", t("hold.shelved")], ["out of service", t("hold.out of service")]], "shelved")),
    field(t("hold.for"), choice("seconds", [["1800", t("unit.min", { n: 30 })], ["3600", t("unit.h", { n: 1 })], ["28800", t("unit.h", { n: 8 })], ["86400", t("unit.d", { n: 1 })], ["604800", t("unit.d", { n: 7 })]], "28800")),
    field(t("col.why"), h("input", { name: "why", maxlength: 500 }))], async (form) => {
    const kind = form.get("kind");
    await post(`/line/hold?name=${encodeURIComponent(name)}`, { kind, seconds: kind === "shelved" ? Number(form.get("seconds")) : null, why: form.get("why") });
    await again();
  }))];
}
