// The shipped questions to the telemetry tables: charts where the server has the library, tables always.

import { draw, hasChart } from "./charts.js";
import { Table, choice, folded, link, make } from "./dom.js";
import { SPANS, cell, moment } from "./format.js";
import { get } from "./server.js";

const LINKS = { trace_id: "traces", execution_id: "executions" };

export async function dashboards([only], query, context) {
  const hours = query.hours || "24";
  const { dashboards: all } = await get("console/api/dashboards");
  const list = only ? all.filter(({ name }) => name === only) : all;
  const panels = list.map((item) => {
    const body = make("div", {}, make("p", { class: "soft" }, "Asking …"));
    const panel = make("section", { class: "panel", id: `dashboard-${item.name}` }, make("h2", {}, item.title), make("p", { class: "soft" }, item.description), body);
    show(item, hours, body, context)
      .then((rows) => { if (rows === 0) panel.parentElement?.append(panel); }) // what has nothing to say comes last
      .catch((error) => body.replaceChildren(make("p", { class: "bad" }, error.message)));
    return panel;
  });
  return [
    make("div", { class: "title" }, make("h1", {}, "Dashboards"), choice("Time", SPANS, hours, (value) => context.filter(only ? [only] : [], { hours: value })), only ? link(`#dashboards?hours=${hours}`, "All") : null),
    context.me.charts ? null : make("p", { class: "soft" }, "Charts appear with the extra 'charts' (pip install 'lakemesh[charts]')."), panels];
}

// Resolves with the number of rows.
async function show(item, hours, body, context) {
  const { columns, rows } = await get(`console/api/dashboards/${encodeURIComponent(item.name)}`, { hours });
  if (context.signal.aborted) return null;
  if (!rows.length) { body.replaceChildren(make("p", { class: "soft" }, "Nothing in this time.")); return 0; }
  const table = tableOf(item.title, columns, rows);
  if (!context.me.charts || !hasChart(item.name)) { body.replaceChildren(table); return rows.length; }
  const charts = make("div", { class: "vegas" });
  body.replaceChildren(charts, folded("As a table", table));
  const objects = rows.map((row) => Object.fromEntries(columns.map((name, place) => [name, row[place]])));
  await draw(item.name, objects, charts, context.me.charts).catch((error) => { charts.replaceChildren(make("p", { class: "bad" }, error.message)); });
  return rows.length;
}

function tableOf(title, columns, rows) {
  return new Table(title, columns.map((name, place) => ({
    title: name.replaceAll("_", " "),
    number: rows.some((row) => typeof row[place] === "number"),
    cell: (row) => shown(name, row[place]),
  }))).update(rows);
}

function shown(name, value) {
  if (value == null) return "";
  if (name in LINKS) return link(`#${LINKS[name]}/${value}`, String(value).slice(0, 12));
  if (name === "at" || name === "timestamp") return moment(value);
  return cell(value);
}
