// Delivery of alarms: each sink, what waits for it, and what it never took.
import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { count, lasted, when } from "../format.js";
import { action, table } from "../parts.js";
import { t } from "../words.js";

export async function delivery(body, { person }) {
  const draw = async (background = false) => {
    const found = await get("/delivery", {}, undefined, background);
    const lanes = found.lanes.map((each) => [each.sink, h("span", { class: `mark mark-${each.state === "ok" ? "ok" : "attention"}` }, t(`lane.${each.state}`)), count(each.waiting), count(each.dead),
      each.last_success_age_s === null ? "–" : t("ago", { time: lasted(each.last_success_age_s) }), each.error]);
    const dead = found.dead.map((each) => [each.sink, when(each.time), each.line, each.what, count(each.attempts), each.error,
      person.role === "admin" ? action(t("delivery.again"), [], async () => { await post("/delivery/replay", { sink: each.sink, ids: [each.id] }); await draw(); }) : ""]);
    fill(body, h("h1", {}, t("delivery.title")), table(t("delivery.title"), ["sink", "state", "waiting", "dead", "last", "error"].map((key) => t(`col.${key}`)), lanes, t("delivery.none")),
      h("h2", {}, t("delivery.dead")), h("p", { class: "small" }, t("delivery.dead_words")),
      dead.length && person.role === "admin" ? action(t("delivery.all_again"), [], async () => { await post("/delivery/replay", {}); await draw(); }) : null,
      table(t("delivery.dead"), ["sink", "time", "line", "what", "attempts", "error", ""].map((key) => key && t(`col.${key}`)), dead, t("delivery.no_dead")));
  };
  await draw();
  const timer = setInterval(() => { if (!body.contains(document.activeElement)) draw(true).catch(() => {}); }, 5000);
  return () => clearInterval(timer);
}
