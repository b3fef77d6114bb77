// One alarm: what was seen, what happened, what can be done, what was done before.
import { alarmPath, get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { lasted, oneIn, told, when } from "../format.js";
import * as live from "../live.js";
import { aboutWords, action, alarmLink, choice, condition, deedWords, facts, field, isaState, lineLink, priority, said, table, until } from "../parts.js";
import { t } from "../words.js";
import { flaggedList } from "./flagged.js";
import { labelling } from "./labelling.js";
import { pictureView } from "./picture.js";
import { windowView } from "./window.js";

export async function alarm(body, { name: id, person }) {
  const head = h("div", {}), deeds = h("section", { class: "deeds" }), seen = h("section", {}), rest = h("div", {});
  fill(body, head, h("div", { class: "columns" }, seen, deeds), rest);
  const looked = { role: null, again: () => {} }; // the picture that is shown: what is said is said of it
  let ends = [], shown = "";

  const draw = async (background = false) => {
    const found = await get(alarmPath(id), {}, undefined, background);
    const lines = new Set(await live.lineNames(background)); // delivery, say, has alarms and no view
    const one = found.alarm;
    fill(head, h("h1", {}, t("alarm.title", { line: one.line, what: condition(one.condition) })),
      h("p", { class: "row" }, priority(one.priority), isaState(one.state), lines.has(one.line) ? h("a", { href: lineLink(one.line) }, one.line) : h("span", {}, one.line)),
      facts([[t("col.since"), when(one.opened)], [t("col.over"), one.closed ? `${when(one.closed)} (${lasted((new Date(one.closed) - new Date(one.opened)) / 1000)})` : t("line.still_on")],
        [t("col.rarity"), oneIn(one.p_value, one.least_p)], [t(one.cause?.code.startsWith("process") && found.facts.worst ? "alarm.at_worst" : "col.about"), aboutWords(one)],
        [t("fact.acknowledged"), one.acknowledged ? t("by_at", { who: one.acknowledged_by, time: when(one.acknowledged) }) : t("no")]]));
    if (!background || !deeds.contains(document.activeElement)) fill(deeds, await actions(found, person, draw, looked)); // what someone began to write meanwhile stays
    const kept = JSON.stringify([found.kept.map((each) => [each.role, each.time]), found.flagged]);
    if (kept !== shown) {
      shown = kept;
      ends.forEach((end) => end());
      ends = await evidence(seen, id, found, looked);
    }
    fill(rest, h("h2", {}, t("alarm.history")), table(t("alarm.history"), ["time", "what", "priority", "state", "who", "why"].map((key) => t(`col.${key}`)), history(found), t("alarm.no_history")),
      h("h2", {}, t("alarm.similar")), similar(found.similar));
  };

  await draw();
  const update = () => { if (!deeds.contains(document.activeElement)) draw(true).catch(() => {}); };
  const off = [live.on("acted", update), live.on("alarm", (event) => { if (event.alarm === id) update(); })];
  return () => { off.forEach((end) => end()); ends.forEach((end) => end()); };
}

function history(found) {
  const events = found.history.map((each) => [each.time, each.kind, each.priority, each.state, each.by, each.cause ? said(each.cause) : each.why]);
  const noted = found.deeds.filter((each) => each.action === "commented" || each.action.startsWith("labelled")).map((each) => [each.time, each.action, "", "", each.who, each.why]);
  return [...events, ...noted].sort((a, b) => new Date(a[0]) - new Date(b[0])).map(([time, kind, level, state, who, why]) => [
    when(time), deedWords(kind), level ? priority(level) : "", state ? isaState(state) : "", who, told(why)]);
}

function similar(all) {
  if (!all.length) return h("p", { class: "none" }, t("alarm.no_similar"));
  return h("ul", { class: "similar" }, all.map(({ alarm: one, deeds }) => h("li", {},
    h("a", { href: alarmLink(one.id), "data-row": true }, when(one.opened)), " ", priority(one.priority), one.label ? h("span", { class: "tag" }, t(`label.${one.label}`)) : null,
    h("span", { class: "about" }, ` ${aboutWords(one)}`),
    deeds.length ? h("ul", {}, [...deeds].reverse().map((deed) => h("li", {}, `${when(deed.time)} ${deed.who}: ${deedWords(deed.action)}${deed.why ? ` – ${deed.why}` : ""}`))) : h("p", { class: "small" }, t("alarm.nothing_done")))));
}

async function actions(found, person, again, looked) {
  const one = found.alarm;
  if (person.role === "view") return h("p", { class: "small" }, t("alarm.view_only"));
  const do_ = (path, body) => async (form) => { await post(alarmPath(one.id, path), body(form)); await again(); };
  const why = () => field(t("alarm.why"), h("input", { name: "why", maxlength: 500, autocomplete: "off" }));
  const reason = (form) => ({ why: form.get("why") ?? "" });
  const shelved = found.held.some((each) => each.kind === "shelved"), out = found.held.some((each) => each.kind === "out of service");
  const more = [], labels = h("div", {});
  const judged = one.alarm_class !== "delivery"; // an alarm of a sink tells nothing of the line
  looked.again = () => { if (judged) fill(labels, h("h2", {}, t("label.title")), labelling(found, again, shownOf(found, looked))); };
  looked.again();
  if (!shelved) {
    more.push(part("alarm.shelve", action(t("alarm.shelve"), [field(t("hold.for"), choice("seconds", [["1800", t("unit.min", { n: 30 })], ["3600", t("unit.h", { n: 1 })], ["28800", t("unit.h", { n: 8 })], ["86400", t("unit.d", { n: 1 })], ["604800", t("unit.d", { n: 7 })]], "28800")), why()],
      do_("/shelve", (form) => ({ seconds: Number(form.get("seconds")), ...reason(form) })))));
  }
  if (person.role === "admin") more.push(part(out ? "alarm.in" : "alarm.out", action(t(out ? "alarm.in" : "alarm.out"), [why()], do_(out ? "/in-service" : "/out-of-service", reason))));
  more.push(part("alarm.comment", action(t("alarm.comment"), [field(t("alarm.words"), h("textarea", { name: "why", maxlength: 500, rows: 2, required: true }))], do_("/comment", reason))));
  return [h("h2", {}, t("alarm.do")), found.held.map((each) => h("p", { class: "held" }, t("alarm.held", { kind: t(`hold.${each.kind}`), until: until(each), who: each.who, why: each.why ? t("because", { why: each.why }) : "" }))),
    one.acknowledged || one.state === "normal" ? null : action(t("alarm.acknowledge"), [why()], do_("/acknowledge", reason), "main"),
    shelved ? action(t("alarm.unshelve"), [], do_("/unshelve", reason)) : null, more,
    labels,
    person.role === "admin" && found.kept.length ? part("alarm.erase", [h("p", { class: "small" }, t("alarm.erase_words")), action(t("alarm.erase"), [why()], do_("/erase", reason))]) : null];
}

function part(words, inside) {
  return h("details", { class: "deed" }, h("summary", {}, t(words)), inside);
}

/** The picture or readings that are looked at: the one that was chosen, else the most unusual. */
const shownOf = (found, looked) => found.kept.find((each) => each.role === looked.role) ?? found.kept[found.kept.length - 1];

async function evidence(seen, id, found, looked) {
  if (!found.kept.length) {
    fill(seen, h("h2", {}, t("evidence.title")), h("p", { class: "none" }, t("evidence.none")));
    return [];
  }
  const room = h("div", {}), list = h("div", {}), ends = [];
  const show = async (role) => {
    ends.splice(0).forEach((end) => end());
    looked.role = role;
    looked.again();
    const one = shownOf(found, looked);
    fill(list, found.flagged.length ? flaggedList(id, found, one, show) : null);
    fill(room, h("p", { class: "small" }, t("evidence.record", { record: one.record, time: when(one.time), rarity: oneIn(one.p_value, found.facts.least_p) })));
    ends.push(...(one.kind === "picture" ? await pictureView(room, id, one, found.normal) : await windowView(room, id, one)));
  };
  const pick = found.kept.length > 1 && !found.flagged.length ? field(t("evidence.which"), choice("role", found.kept.map((each) => [each.role, t(`evidence.${each.role}`)]), shownOf(found, looked).role, (event) => show(event.target.value))) : null;
  fill(seen, h("h2", {}, t("evidence.title")), pick, room, list);
  await show(shownOf(found, looked).role);
  return [() => ends.splice(0).forEach((end) => end())];
}
