// A small chart of bars over time in plain HTML, so that the overview is there at once: its text has the size of text on
// every screen, and each bar is a link to what is behind it.

import { make } from "./dom.js";
import { axisTime } from "./format.js";

// points: [{ at (seconds), ...}]; series: [{ name, kind, value(point) }] drawn in the same bar, the first at the back.
export function bars({ title, points, series, format, href, describe, hours }) {
  const highest = Math.max(...points.map((point) => Math.max(...series.map((one) => one.value(point) || 0))), 0);
  const columns = points.map((point) => {
    if (!series.some((one) => one.value(point))) return make("span", { class: "column" });
    const column = make("a", { class: "column", href: href(point), title: describe(point), "aria-label": describe(point) });
    for (const one of series) {
      const value = one.value(point);
      if (!value) continue;
      const bar = make("i", { class: one.kind });
      bar.style.height = `${Math.max(1.5, (100 * value) / highest)}%`;
      column.append(bar);
    }
    return column;
  });
  const at = (place) => axisTime(new Date(points[Math.min(place, points.length - 1)].at * 1000), hours);
  return make("figure", { class: "panel chart" },
    make("figcaption", {}, make("strong", {}, title),
      make("span", { class: "legend" }, series.map((one) => make("span", {}, make("i", { class: one.kind }), one.name)))),
    make("div", { class: "plot" },
      make("div", { class: "scale soft", "aria-hidden": "true" }, make("span", {}, format(highest)), make("span", {}, format(0))),
      make("div", { class: "columns", role: "group", "aria-label": `${title}, highest ${format(highest)}` }, columns)),
    make("div", { class: "axis soft", "aria-hidden": "true" }, make("span", {}, at(0)), make("span", {}, at(points.length >> 1)), make("span", {}, at(points.length - 1))));
}
