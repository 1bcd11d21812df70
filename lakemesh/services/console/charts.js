// Two charts, as plain SVG: a line over time and bars by name. Each carries its figures for screen readers.

import { cell, make } from "./dom.js";

const WIDTH = 720;
const HEIGHT = 200;
const LEFT = 56;
const BOTTOM = 24;

function frame(title, highest) {
  const lines = [0, 0.5, 1].map((share) => {
    const y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - 14);
    return make("g", {},
      make("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y, y2: y }),
      make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, cell(highest * share)));
  });
  return make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, make("title", {}, title), lines);
}

// `series` is a list of lists of numbers, all as long as `times`.
export function lineChart(title, times, series) {
  const highest = Math.max(...series.flat(), 1e-9);
  const svg = frame(title, highest);
  const x = (place) => LEFT + (times.length > 1 ? (place / (times.length - 1)) * (WIDTH - LEFT - 8) : (WIDTH - LEFT) / 2);
  const y = (value) => HEIGHT - BOTTOM - (value / highest) * (HEIGHT - BOTTOM - 14);
  series.forEach((values, number) => {
    const points = values.map((value, place) => `${x(place)} ${y(value)}`);
    const path = points.length > 1 ? `M${points.join("L")}` : `M${x(0) - 4} ${y(values[0])}h8`;
    svg.append(make("path", { class: number ? "series second" : "series", d: path }));
  });
  const label = (time) => String(time).slice(5, 16).replace("T", " ");
  svg.append(make("text", { x: LEFT, y: HEIGHT - 6 }, label(times[0])));
  if (times.length > 1) svg.append(make("text", { x: WIDTH, y: HEIGHT - 6, "text-anchor": "end" }, label(times.at(-1))));
  return svg;
}

export function barChart(title, names, values) {
  const highest = Math.max(...values, 1e-9);
  const svg = frame(title, highest);
  const step = (WIDTH - LEFT) / names.length;
  names.forEach((name, place) => {
    const height = (values[place] / highest) * (HEIGHT - BOTTOM - 14);
    svg.append(make("rect", { class: "bar", x: LEFT + place * step + step * 0.15, width: step * 0.7, y: HEIGHT - BOTTOM - height, height },
      make("title", {}, `${name}: ${cell(values[place])}`)));
    svg.append(make("text", { x: LEFT + (place + 0.5) * step, y: HEIGHT - 6, "text-anchor": "middle" }, String(name).slice(0, Math.floor(step / 6.5))));
  });
  return svg;
}
