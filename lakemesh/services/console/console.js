// The pages of the console. The address' hash names the page; data comes from the server's own API.

import { barChart, lineChart } from "./charts.js";
import { cell, dataTable, fetchJson, make } from "./dom.js";
import { formData, schemaFields } from "./forms.js";

const main = document.getElementById("main");
const state = document.getElementById("state");
let refresh = null;

const traceLink = { trace_id: (id) => `#traces/${id}` };

async function agents(name) {
  if (name) return agent(name);
  const { agents: list } = await fetchJson("api/agents");
  const panels = list.map((item) => make("section", { class: "panel" },
    make("h2", {}, make("a", { href: `#agents/${item.name}` }, item.name)),
    make("p", {}, item.description),
    make("p", { class: "soft" }, `doors: ${item.expose.join(", ")}`)));
  return [make("h1", {}, "Agents"), make("div", { class: "grid" }, panels)];
}

async function agent(name) {
  const item = await fetchJson(`api/agents/${encodeURIComponent(name)}`);
  const answer = make("pre", { "aria-live": "polite", hidden: true });
  const form = make("form", { class: "panel", onsubmit: (event) => { event.preventDefault(); run(item, form, answer); } },
    schemaFields(item.input_schema), make("button", {}, "Run"));
  const schema = (title, value) => make("details", {}, make("summary", {}, title), make("pre", {}, JSON.stringify(value, null, 2)));
  return [make("h1", {}, item.name), make("p", {}, item.description), form, answer,
    schema("Input schema", item.input_schema), schema("Output schema", item.output_schema)];
}

async function run(item, form, output) {
  output.hidden = false;
  output.textContent = "running …";
  try {
    const body = JSON.stringify({ agent_name: item.name, data: formData(form, item.input_schema) });
    const headers = { "content-type": "application/json" };
    const answer = await fetchJson("api/execute", { method: "POST", headers, body });
    output.textContent = JSON.stringify(answer, null, 2);
    output.append("\n", make("a", { href: `#traces/${answer.metadata.trace_id}` }, "trace"));
  } catch (error) {
    output.textContent = String(error.message);
  }
}

async function executions() {
  const box = make("div");
  const show = async () => {
    const { executions: rows } = await fetchJson("console/api/executions");
    const columns = ["started", "agent", "door", "latency_ms", "outcome", "degraded", "trace_id"];
    box.replaceChildren(rows.length
      ? dataTable(`The last ${rows.length} executions of this server, newest first`, columns, rows.map((row) => columns.map((name) => row[name])), traceLink)
      : make("p", {}, "Nothing has run yet. Try an agent."));
  };
  await show();
  refresh = setInterval(() => show().catch(report), 2000);
  return [make("h1", {}, "Executions"), box];
}

async function traces(id) {
  const { spans } = await fetchJson(`console/api/traces/${encodeURIComponent(id)}`);
  if (!spans.length) return [make("h1", {}, "Trace"), make("p", {}, "Nothing of this trace is in Delta yet; telemetry arrives every few seconds.")];
  const start = Math.min(...spans.map((span) => span.start_ms));
  const length = Math.max(...spans.map((span) => span.end_ms)) - start || 1;
  const rows = spans.map((span) => {
    const bar = make("i");
    bar.style.left = `${((span.start_ms - start) / length) * 100}%`;
    bar.style.width = `${((span.end_ms - span.start_ms) / length) * 100}%`;
    const name = make("td", {}, span.name + (span.failed ? " (failed)" : ""));
    name.style.paddingLeft = `${span.depth * 1.2}rem`;
    return make("tr", { class: span.failed ? "failed" : null }, name,
      make("td", { class: "number" }, `${cell(span.end_ms - span.start_ms)} ms`),
      make("td", { class: "track" }, bar));
  });
  const details = spans.map((span) => make("details", {}, make("summary", {}, span.name), make("pre", {}, JSON.stringify(span.attributes, null, 2))));
  return [make("h1", {}, "Trace"), make("p", { class: "soft" }, id),
    make("div", { class: "scroll panel", tabindex: "0", role: "region", "aria-label": "Waterfall of the trace" },
      make("table", { class: "waterfall" }, make("tbody", {}, rows))),
    make("h2", {}, "Attributes"), details];
}

const charts = {
  executions_over_time: (rows, at) => [
    lineChart("Executions, and failures (dashed)", at(rows, "at"), [at(rows, "executions"), at(rows, "failures")]),
    lineChart("Average latency in ms, and 95th percentile (dashed)", at(rows, "at"), [at(rows, "average_ms"), at(rows, "p95_ms")])],
  error_rate_by_agent: (rows, at) => [barChart("Share of failed executions", at(rows, "agent_id"), at(rows, "error_rate"))],
  tokens_and_cost: (rows, at) => [barChart("Model calls by agent", at(rows, "agent_id"), at(rows, "calls"))],
};

async function dashboards(hours = "24") {
  const { dashboards: list } = await fetchJson("console/api/dashboards");
  const choice = make("select", { "aria-label": "Time span", onchange: (event) => { location.hash = `#dashboards/${event.target.value}`; } },
    [["1", "last hour"], ["24", "last day"], ["168", "last week"]].map(([value, label]) => make("option", { value, selected: value === hours }, label)));
  const panels = await Promise.all(list.map(async (item) => {
    const panel = make("section", {}, make("h2", {}, item.title), make("p", { class: "soft" }, item.description));
    try {
      const { columns, rows } = await fetchJson(`console/api/dashboards/${item.name}?hours=${encodeURIComponent(hours)}`);
      const at = (all, name) => all.map((row) => row[columns.indexOf(name)] ?? 0);
      if (!rows.length) panel.append(make("p", {}, "Nothing in this time."));
      else panel.append(...(charts[item.name]?.(rows, at) ?? []), dataTable(item.title, columns, rows, traceLink));
    } catch (error) {
      panel.append(make("p", { class: "bad" }, error.message));
    }
    return panel;
  }));
  return [make("h1", {}, "Dashboards"), choice, ...panels];
}

async function health() {
  const answer = await (await fetch("health/ready")).json();
  const parts = Object.entries(answer.parts || {}).map(([name, part]) => make("section", { class: "panel" },
    make("h2", {}, name, " ", make("span", { class: part.degraded ? "bad" : "good" }, part.degraded ? "degraded" : "well")),
    make("pre", {}, JSON.stringify(part, null, 2))));
  return [make("h1", {}, "Health"), make("p", {}, `This server is ${answer.status}.`), make("div", { class: "grid" }, parts)];
}

const pages = { agents, executions, traces, dashboards, health };

function report(error) {
  state.textContent = error.message;
  state.className = "bad";
}

async function show() {
  const [name, argument] = (location.hash.slice(1) || "agents").split("/");
  clearInterval(refresh);
  state.textContent = "";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const content = await (pages[name] || agents)(argument && decodeURIComponent(argument));
    main.replaceChildren(...content.flat());
    document.title = `${main.querySelector("h1").textContent} – lakemesh`;
    document.body.dataset.shown = location.hash;
  } catch (error) {
    main.replaceChildren(make("h1", {}, "That did not work"), make("p", { class: "bad" }, error.message));
  }
}

addEventListener("hashchange", async () => { await show(); main.focus(); });
show();
