// Executions by filters, and one of them with its content.

import { Table, badge, choice, code, empty, facts, link, make, section } from "./dom.js";
import { SPANS, count, dollars, milliseconds, moment, tokens } from "./format.js";
import { get } from "./server.js";

const LIVE_SECONDS = 2;
const OUTCOMES = [["", "All"], ["failed", "Failed"], ["degraded", "Degraded"]];

export function outcome(row) {
  if (row.refused) return badge("warn", row.error_code || "refused", row.error_message);
  if (!row.success) return badge("bad", row.error_code || "failed", row.error_message);
  return row.degraded?.length ? badge("warn", "degraded", row.degraded.join("; ")) : badge("good", "ok");
}

export const traceLink = (row, text = "trace") => (row.trace_id ? link(`#traces/${row.trace_id}`, text) : null);

export const sessionLink = (row, text) =>
  row.session_id ? link(`#sessions/${encodeURIComponent(row.session_id)}?${new URLSearchParams({ user: row.user_id })}`, text ?? row.session_id.slice(0, 12)) : null;

export const columns = (me) => [
  { title: "Started", cell: (row) => moment(row.timestamp) },
  { title: "Agent", cell: (row) => link(`#executions/${row.execution_id}`, row.agent_id || "(unknown)") },
  { title: "Outcome", cell: outcome },
  { title: "Trace", cell: (row) => traceLink(row, "open") || "" },
  { title: "Took", number: true, cell: (row) => milliseconds(row.latency_ms) },
  me.operator && { title: "User", wide: true, cell: (row) => row.user_id },
  { title: "Session", wide: true, cell: (row) => sessionLink(row) || "" },
  { title: "Door", wide: true, cell: (row) => row.door },
  { title: "Tokens", number: true, wide: true, cell: (row) => (tokens(row) ? count(tokens(row)) : "") },
  { title: "Cost", number: true, wide: true, cell: (row) => (row.cost_usd ? dollars(row.cost_usd) : "") },
].filter(Boolean);

export async function executions(path, query, context) {
  if (path.length) return execution(path[0], context);
  const filters = { hours: "24", ...query };
  const table = new Table("Executions, newest first", columns(context.me), (row) => row.execution_id);
  const box = make("div");
  let rows = [];
  const draw = (found) => {
    const known = new Map([...rows, ...found].map((row) => [row.execution_id, row]));
    rows = [...known.values()].sort((one, other) => (one.timestamp < other.timestamp ? 1 : -1)).slice(0, 200);
    if (!rows.length) box.replaceChildren(empty(make("p", {}, "No execution fits."), make("p", {}, link("#chat", "Chat with an agent"), " or ", link("#agents", "try one by a form"), ".")));
    else if (box.firstChild !== table.element) { table.update(rows); box.replaceChildren(table.element); } else table.update(rows);
  };
  const { executions: found, more } = await get("console/api/executions", filters);
  draw(found);
  if (!filters.end) context.every(LIVE_SECONDS, async () => draw((await get("console/api/executions", { ...filters, live: true })).executions));
  return [
    make("div", { class: "title" }, make("h1", {}, "Executions")),
    await filterForm(filters, context), box,
    more ? make("p", { class: "soft" }, `The newest ${found.length}; narrow the filters to see others.`) : null,
  ];
}

async function filterForm(filters, context) {
  const change = (values) => context.filter([], { ...filters, ...values });
  const { agents } = await get("api/agents");
  const names = [...new Set([...agents.map((agent) => agent.name), ...(filters.agent ? [filters.agent] : [])])];
  const text = (name, label) => make("label", { class: "inline" }, make("span", {}, label),
    make("input", { id: `filter-${name}`, value: filters[name] || "", type: "search", size: 14, onchange: (event) => change({ [name]: event.target.value }) }));
  const shown = filters.failed ? "failed" : filters.degraded ? "degraded" : "";
  const spans = filters.end ? [[filters.hours, `Around ${new Date(Number(filters.end)).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`], ...SPANS] : SPANS;
  return make("div", { class: "filters" },
    choice("Time", spans, filters.hours, (hours) => change({ hours, end: "" })),
    choice("Agent", [["", "All"], ...names.map((name) => [name, name])], filters.agent || "", (agent) => change({ agent })),
    choice("Outcome", OUTCOMES, shown, (value) => change({ failed: value === "failed", degraded: value === "degraded" })),
    context.me.operator ? text("user", "User") : null,
    text("session", "Session"),
    make("label", { class: "inline check" }, make("input", { id: "filter-nested", type: "checkbox", checked: Boolean(filters.nested), onchange: (event) => change({ nested: event.target.checked }) }), make("span", {}, "nested calls too")));
}

async function execution(id, context) {
  const find = async () => (await get("console/api/executions", { execution: id, hours: 24 * 366 })).executions[0];
  const row = await find();
  if (!row) {
    context.until(async () => Boolean(await find()) && dispatchEvent(new HashChangeEvent("hashchange")));
    return [make("h1", {}, "Execution"), make("p", {}, "This execution is not there (yet), or it is not yours. The page looks again by itself.")];
  }
  return [
    make("div", { class: "title" }, make("h1", {}, `${row.agent_id} `, outcome(row)), traceLink(row, "Open the trace")),
    summary(row, context.me),
    row.error_message ? section("Error", make("p", { class: "bad" }, row.error_message)) : null,
    row.degraded.length ? section("Degraded", make("ul", {}, row.degraded.map((reason) => make("li", {}, reason)))) : null,
    content(row, context.me),
  ];
}

export const summary = (row, me) => facts([
  ["Started", moment(row.timestamp)],
  ["Took", milliseconds(row.latency_ms)],
  ["Agent", link(`#agents/${encodeURIComponent(row.agent_id)}`, row.agent_id)],
  ["User", me.operator ? row.user_id : null],
  ["Door", row.door],
  ["Session", sessionLink(row)],
  ["Models", row.models.join(", ")],
  ["Prompts", row.prompts.join(", ")],
  ["Tokens", tokens(row) ? `${count(row.input_tokens)} in, ${count(row.output_tokens)} out` : null],
  ["Cost", row.cost_usd ? dollars(row.cost_usd) : null],
  ["Confidence", row.confidence == null ? null : count(row.confidence)],
  ["Execution", make("code", {}, row.execution_id)],
]);

function content(row, me) {
  if (row.input_data == null && row.output_data == null) {
    return make("p", { class: "soft" }, me.captures_content ? "Its input and output are not kept, or not written yet." : "Inputs and outputs are not kept: telemetry.capture_content is off.");
  }
  return [section("Input", code(row.input_data ?? "none", "Input")), section("Output", code(row.output_data ?? "none", "Output"))];
}
