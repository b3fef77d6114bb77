// Champion and challenger on the same records.
import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { count, told, when } from "../format.js";
import * as live from "../live.js";
import { action, choice, deedWords, facts, field, table } from "../parts.js";
import { t } from "../words.js";

export async function shadow(body, { name, person }) {
  const lines = await live.lineNames();
  const shown = name || lines[0];
  const below = h("div", {});
  fill(body, h("h1", {}, t("shadow.title")), lines.length ? field(t("col.line"), choice("line", lines.map((each) => [each, each]), shown, (event) => { location.hash = `#/shadow/${encodeURIComponent(event.target.value)}`; })) : h("p", { class: "none" }, t("lines.none")), below);
  if (!shown) return;
  const said = h("p", { class: "said", role: "alert" });
  const draw = async () => {
    said.textContent = "";
    const [found, { events }] = await Promise.all([get("/shadow", { name: shown }), get("/line/drift", { name: shown })]);
    const both = found.compared;
    fill(below, said, h("p", { class: "verdict" }, verdict(found)), found.release ? facts([[t("shadow.champion"), found.champion], [t("shadow.challenger"), found.challenger || "–"]]) : null,
      both && both.records ? table(t("shadow.table"), ["", t("shadow.new_flagged"), t("shadow.new_not")], [[h("b", {}, t("shadow.old_flagged")), count(both.both), count(both.champion_only)], [h("b", {}, t("shadow.old_not")), count(both.challenger_only), count(both.neither)]], "") : null,
      person.role === "admin" && found.release ? h("div", { class: "row" },
        found.challenger ? deed("shadow.promote", "/shadow/promote", found.challenger_hash) : null, found.champion ? deed("shadow.rollback", "/shadow/rollback", found.champion_hash) : null) : null,
      happened(found, events).length ? [h("h2", {}, t("shadow.history")), table(t("shadow.history"), ["time", "what", "who", "why"].map((key) => t(`col.${key}`)), happened(found, events), "")] : null);
  };
  const deed = (words, path, hash) => h("details", { class: "deed" }, h("summary", {}, t(words)), h("p", {}, t(`${words}_words`)),
    action(t("shadow.sure"), [field(t("col.why"), h("input", { name: "why", maxlength: 500, required: true }))], async (form) => {
      try {
        await post(`${path}?name=${encodeURIComponent(shown)}`, { hash, why: form.get("why") });
        await draw();
      } catch (error) {
        if (error.status !== 409) throw error;
        await draw(); // somebody else was quicker: what is there now is shown before anything is done to it
        said.textContent = error.message;
      }
    }, "main"));
  await draw();
}

/** What the comparison says, in the reader's language. */
function verdict({ release, champion, challenger, compared: both }) {
  if (!release) return t("shadow.no_release");
  if (!champion || !challenger) return t("shadow.no_challenger");
  if (!both?.records) return t("shadow.not_yet");
  const [old, young] = [both.both + both.champion_only, both.both + both.challenger_only];
  const said = both.clear ? (young > old ? "shadow.more" : "shadow.fewer") : "shadow.same";
  return t("shadow.rates", { n: count(both.records), old: count(old), young: count(young), said: t(said) });
}

/** Rows of what people did in the release folder, and of what the line made of it. */
function happened(found, events) {
  const line = events.filter((each) => ["swapped", "refused", "rolled_back"].includes(each.kind)).map((each) => [each.time, t(`event.${each.kind}`), "", told(each.why)]);
  const people = found.history.map((each) => [each.time, deedWords(each.action), each.who, each.why]);
  return [...line, ...people].sort((a, b) => new Date(b[0]) - new Date(a[0])).map(([time, ...rest]) => [when(time), ...rest]);
}
