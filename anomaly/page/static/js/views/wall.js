// For a screen that is read from five metres. It has no controls.
import { fill, h } from "../dom.js";
import { when } from "../format.js";
import * as live from "../live.js";
import { heldBack, priority, said, sparkline, stateMark } from "../parts.js";
import { t } from "../words.js";

export async function wall(body) {
  const clock = h("p", { class: "wall-clock" });
  const list = h("ul", { class: "wall" });
  fill(body, h("h1", { class: "hidden" }, t("wall.title")), clock, list);
  const draw = (found) => fill(list, found.lines.map((line) => h("li", { class: `card card-${line.state}` },
    h("h2", {}, line.name), stateMark(line.state), line.worst_priority ? priority(line.worst_priority) : null,
    line.waiting ? h("p", { class: "wall-count" }, t("wall.waiting", { n: line.waiting })) : null,
    line.causes.length ? h("p", {}, said(line.causes[0])) : null, heldBack(line), sparkline(line.sparkline, line.budget_share, line.least_p))));
  draw(await live.lines());
  const tick = () => { clock.textContent = when(new Date().toISOString(), true); };
  tick();
  const timer = setInterval(tick, 1000);
  const off = live.on("lines", draw);
  return () => {
    clearInterval(timer);
    off();
  };
}
