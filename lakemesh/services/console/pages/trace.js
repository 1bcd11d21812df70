// One trace: the tree of what happened with its times, and beside it what went in and out of each step.

import { Table, badge, code, facts, folded, link, make, scrolling, section } from "./dom.js";
import { columns, outcome, summary } from "./executions.js";
import { cell, count, milliseconds, moment, wordsOf } from "./format.js";
import { get } from "./server.js";
import { judgement } from "./sessions.js";

const WAIT_TIMES = 24; // five minutes
const ICONS = { invoke_agent: "agent", execute_tool: "tool", chat: "model", embeddings: "model", text_completion: "model" };

export async function traces([id], query, context) {
  const box = make("div");
  let waited = 0;
  const update = async () => {
    const trace = await get(`console/api/traces/${encodeURIComponent(id)}`);
    if (trace.pending && waited++ < WAIT_TIMES) {
      if (!box.firstChild || !trace.spans.length) box.replaceChildren(...waiting(trace, context));
      return false;
    }
    box.replaceChildren(...shown(trace, query.span, context));
    return true;
  };
  if (!await update()) context.until(update);
  return [make("div", { class: "title" }, make("h1", {}, "Trace"), make("code", { class: "soft" }, id)), box];
}

const waiting = (trace, context) => [
  make("p", { role: "status" }, make("span", { class: "spinner", "aria-hidden": "true" }), " This trace is not in Delta yet. Telemetry arrives every few seconds; the page looks again by itself."),
  trace.executions.length ? table(trace.executions, context) : null,
].filter(Boolean);

const table = (rows, context) => new Table("Executions of this trace", columns(context.me).filter((column) => column.title !== "Trace")).update(rows);

function shown(trace, wanted, context) {
  const { spans, executions, logs, feedback } = trace;
  if (!spans.length) return [make("p", {}, "Nothing of this trace is here. It was not sampled, it is older than the tables keep, or it is not yours.")];
  const root = executions.find((row) => row.parent_execution_id == null) || executions[0];
  const detail = make("div", { class: "panel detail", "aria-live": "polite" });
  return [
    root ? [make("p", {}, link(`#executions/${root.execution_id}`, root.agent_id), " ", outcome(root), feedback.map((one) => [" ", judgement(one)])), summary(root, context.me)] : [],
    make("div", { class: "trace" }, tree(spans, detail, wanted), detail),
    executions.length > 1 ? section(`Executions (${executions.length})`, table(executions, context)) : null,
    logs.length ? section(`Log lines (${logs.length})`, logTable(logs)) : null,
  ].flat().filter(Boolean);
}

function tree(spans, detail, wanted) {
  const start = Math.min(...spans.map((span) => span.start_ms));
  const length = Math.max(...spans.map((span) => span.end_ms)) - start || 1;
  const select = (button, span) => {
    for (const one of list.querySelectorAll("button")) one.toggleAttribute("aria-current", one === button);
    detail.replaceChildren(...details(span, start));
  };
  const rows = spans.map((span) => {
    const kind = ICONS[span.operation] || "step";
    const bar = make("i");
    bar.style.left = `${((span.start_ms - start) / length) * 100}%`;
    bar.style.width = `${((span.end_ms - span.start_ms) / length) * 100}%`;
    const name = make("span", { class: "name" }, make("span", { class: `kind ${kind}` }, kind), titleOf(span), span.failed ? [" ", badge("bad", "failed")] : null);
    name.style.paddingLeft = `${Math.min(span.depth, 12) * 0.9}rem`;
    const button = make("button", { type: "button", class: span.failed ? "failed" : null, onclick: () => select(button, span) },
      name, make("span", { class: "track", "aria-hidden": "true" }, bar), make("span", { class: "took" }, milliseconds(span.end_ms - span.start_ms)));
    return make("li", {}, button);
  });
  const list = make("ol", { class: "spans panel", "aria-label": "Spans of the trace", onkeydown: walk }, rows);
  const first = Math.max(0, spans.findIndex((span) => (wanted ? span.id === wanted : false)));
  select(rows[first].firstChild, spans[first]);
  return list;
}

// Up and down go from span to span.
function walk(event) {
  const item = event.target.closest("li");
  const next = event.key === "ArrowDown" ? item?.nextElementSibling : event.key === "ArrowUp" ? item?.previousElementSibling : null;
  if (!next) return;
  event.preventDefault();
  next.firstChild.focus();
  next.firstChild.click();
}

const titleOf = (span) => span.name.replace(/^(invoke_agent|execute_tool|chat|embeddings) /, "");

function details(span, start) {
  const { attributes } = span;
  const exceptions = span.events.filter((event) => event.name === "exception");
  const others = span.events.filter((event) => event.name !== "exception");
  const inTokens = attributes["gen_ai.usage.input_tokens"];
  return [
    make("h2", {}, span.name),
    facts([
      ["Took", milliseconds(span.end_ms - span.start_ms)],
      ["Began after", milliseconds(span.start_ms - start)],
      ["Model", attributes["gen_ai.response.model"] || attributes["gen_ai.request.model"]],
      ["Tokens", inTokens == null ? null : `${count(inTokens)} in, ${count(attributes["gen_ai.usage.output_tokens"])} out`],
      ["Error", attributes["error.type"] ? badge("bad", attributes["error.type"]) : null],
    ]),
    ...exceptions.map(exception),
    span.messages.length ? make("div", { class: "conversation small" }, make("h3", {}, "Messages"), span.messages.map(message)) : null,
    span.input != null && !span.messages.length ? [make("h3", {}, "Input"), code(span.input, "Input")] : null,
    span.output != null && !span.messages.length ? [make("h3", {}, "Output"), code(span.output, "Output")] : null,
    others.length ? folded(`Events (${others.length})`, others.map((event) => code(event, event.name))) : null,
    folded("Attributes", scrolling("Attributes", make("table", { class: "attributes" }, make("tbody", {}, Object.entries(attributes).map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, cell(value)))))))),
  ].flat().filter(Boolean);
}

const exception = ({ attributes }) => make("div", { class: "exception" },
  make("h3", { class: "bad" }, attributes["exception.type"] || "Exception"),
  make("p", {}, attributes["exception.message"]),
  attributes["exception.stacktrace"] ? folded("Stack", code(attributes["exception.stacktrace"], "Stack")) : null);

function message({ role, parts }) {
  const bodies = (parts || []).map((part) => {
    if (part.type === "text") return make("div", { class: "words" }, cell(part.content));
    if (part.type === "tool_call") return make("div", {}, badge("plain", `calls ${part.name}`), code(part.arguments ?? "", `Arguments of ${part.name}`));
    if (part.type === "tool_call_response") return make("div", {}, badge("plain", "tool answered"), code(part.response ?? "", "Answer of the tool"));
    return make("div", {}, badge("plain", part.type), part.content ? wordsOf(part.content) : null);
  });
  return make("div", { class: `bubble ${role === "user" ? "user" : "agent"} ${role}` }, make("small", { class: "soft" }, role), bodies);
}

const logTable = (logs) => new Table("Log lines of this trace", [
  { title: "Time", cell: (row) => moment(row.time) },
  { title: "Level", cell: (row) => badge(/ERROR|FATAL/.test(row.severity) ? "bad" : row.severity === "WARN" ? "warn" : "plain", row.severity.toLowerCase()) },
  { title: "Line", cell: (row) => logLine(row) },
]).update(logs);

function logLine(row) {
  const { "exception.stacktrace": stack, ...attributes } = row.attributes;
  return make("div", { class: "line" }, row.body, " ", make("span", { class: "soft" }, Object.entries(attributes).map(([name, value]) => `${name}=${cell(value)}`).join("  ")),
    stack ? folded("Stack", code(stack, "Stack")) : null);
}
