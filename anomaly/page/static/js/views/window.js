// The readings of the sensors that speak: the hours before an alarm, and its window.
import { alarmPath, get } from "../api.js";
import { sensorChart } from "../charts.js";
import { add, h } from "../dom.js";
import { percent } from "../format.js";
import { choice, field } from "../parts.js";
import { t } from "../words.js";

const SHOWN = 6;

export async function windowView(room, id, one) {
  const found = await get(alarmPath(id, `/${one.role}/window`));
  const { readings, window_rows: rows, bands } = found;
  const from = new Date(readings.times[readings.times.length - rows]).getTime() / 1000;
  const charts = h("div", {});
  let ends = [];
  const draw = (span) => {
    ends.forEach((end) => end());
    ends = [];
    charts.replaceChildren();
    const last = new Date(readings.times[readings.times.length - 1]).getTime();
    const begin = span === "window" ? readings.times.length - rows : Math.max(0, readings.times.findIndex((time) => new Date(time).getTime() >= last - Number(span) * 1000));
    const few = (all) => all.slice(begin);
    readings.sensors.slice(0, SHOWN).forEach((name, place) => {
      const [chart, end] = sensorChart(name, readings.units[place], few(readings.times), few(readings.values[place]), from, bands[place]);
      ends.push(end);
      charts.append(h("figure", { class: "sensor" }, h("figcaption", {}, h("b", {}, name), readings.units[place] ? ` (${readings.units[place]})` : "", ` – ${t("window.share", { share: percent(readings.shares[place]) })}`), chart));
    });
  };
  add(room, [field(t("line.span"), choice("span", [["window", t("window.only")], ["3600", t("unit.h", { n: 1 })], ["21600", t("unit.h", { n: 6 })]], "21600", (event) => draw(event.target.value))), h("p", { class: "small" }, t("window.words"), bands.slice(0, SHOWN).some((each) => each) ? ` ${t("window.bands")}` : ""), charts,
    readings.sensors.length > SHOWN ? h("p", { class: "small" }, t("window.more", { names: readings.sensors.slice(SHOWN).join(", ") })) : null]);
  draw("21600");
  return [() => ends.forEach((end) => end())];
}
