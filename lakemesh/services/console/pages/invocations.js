// Durable invocations: where they stand, what they ask, and what became of them.

import { Table, badge, choice, code, empty, facts, link, make, section } from "./dom.js";
import { SchemaForm } from "./forms.js";
import { moment } from "./format.js";
import { events, get, post } from "./server.js";

const STATUSES = ["queued", "running", "waiting", "completed", "failed", "cancelled"];
const KINDS = { completed: "good", failed: "bad", cancelled: "warn", waiting: "warn" };
const ENDED = new Set(["completed", "failed", "cancelled"]);
const MAX_EVENTS = 500;

const statusOf = ({ status }) => badge(KINDS[status] || "plain", status);

export async function invocations([id], query, context) {
  if (id) return invocation(id, context);
  const table = new Table("Invocations, newest first", [
    { title: "Accepted", cell: (row) => moment(row.created_at) },
    { title: "Invocation", cell: (row) => link(`#invocations/${row.id}`, row.id.slice(0, 8)) },
    { title: "Agent", cell: (row) => row.agent_name },
    { title: "Status", cell: statusOf },
    { title: "Attempt", number: true, wide: true, cell: (row) => String(row.attempt) },
    { title: "Ended", wide: true, cell: (row) => moment(row.ended_at) },
    { title: "Session", wide: true, cell: (row) => row.session_id || "" },
  ], (row) => `${row.id} ${row.status} ${row.attempt}`);
  const box = make("div");
  let cursors = query.before;
  const page = async () => {
    const { invocations: found, next } = await get("api/invocations", { status: query.status, before: query.before, limit: 50 });
    table.update(found);
    const shown = found.length ? table.element : empty(make("p", {}, "No invocation is there."), make("p", { class: "soft" }, "POST /api/invocations starts one that survives restarts."));
    if (box.firstChild !== shown) box.replaceChildren(shown);
    cursors = next;
  };
  await page();
  if (!query.before) context.every(3, page);
  return [make("div", { class: "title" }, make("h1", {}, "Invocations"),
    choice("Status", [["", "All"], ...STATUSES.map((one) => [one, one])], query.status || "", (status) => context.filter([], { status }))), box,
  cursors ? make("p", {}, link(`#invocations?${new URLSearchParams({ ...query, before: cursors })}`, "Older")) : null];
}

async function invocation(id, context) {
  const address = `api/invocations/${encodeURIComponent(id)}`;
  const box = make("div");
  const log = make("ol", { class: "events panel" });
  const asked = make("div");
  let questions = "";
  const update = async () => {
    const found = await get(address);
    const act = (path, label) => make("button", { type: "button", class: "quiet", onclick: () => post(`${address}/${path}`, {}).then(update, context.report) }, label);
    box.replaceChildren(...[
      make("p", { class: "buttons" }, statusOf(found), ENDED.has(found.status) ? null : act("cancel", "Cancel"), found.status === "failed" ? act("replay", "Run it again") : null),
      facts([["Agent", found.agent_name], ["Accepted", moment(found.created_at)], ["Started", moment(found.started_at)], ["Ended", moment(found.ended_at)], ["Attempt", String(found.attempt)],
        ["Session", found.session_id], ["Trace", found.metadata?.trace_id ? link(`#traces/${found.metadata.trace_id}`, "open") : null]]),
      found.error ? section("Error", make("p", { class: "bad" }, found.error.detail), code(found.error, "Error")) : null,
      found.output === undefined ? null : section("Output", code(found.output ?? "nothing", "Output")),
    ].filter(Boolean));
    const key = JSON.stringify((found.questions || []).map((one) => one.question_id));
    if (key !== questions) {
      questions = key;
      asked.replaceChildren(...(found.questions || []).map((one) => question(one, address, update)));
    }
    return found;
  };
  await update();
  follow(`${address}/events`, log, update, context).catch(context.report);
  return [make("div", { class: "title" }, make("h1", {}, "Invocation"), make("code", { class: "soft" }, id)), box, asked, section("Events", log)];
}

async function follow(address, log, update, context) {
  let text = null;
  for await (const { type, data } of events(address, { signal: context.signal })) {
    if (type === "text_delta" && text) text.append(data.text);
    else {
      const body = type === "text_delta" ? make("span", { class: "words" }, data.text) : make("code", {}, JSON.stringify(data).slice(0, 400));
      text = type === "text_delta" ? body : null;
      log.append(make("li", {}, badge("plain", type), " ", body));
      if (log.childElementCount > MAX_EVENTS) log.firstChild.remove();
    }
    if (!["text_delta", "progress"].includes(type)) await update();
  }
  await update();
}

function question({ question_id: id, message, schema, answerable }, address, update) {
  if (!answerable) {
    const approval = message.match(/\/api\/approvals\/([0-9a-f-]+)/)?.[1];
    return make("p", { class: "panel question" }, make("strong", {}, message), " ", approval ? link(`#approvals/${approval}`, "Look at it") : null);
  }
  const form = new SchemaForm(schema);
  const note = make("p", { class: "bad", role: "alert" });
  const send = (value) => post(`${address}/answer`, { question_id: id, value }).then(update, (error) => {
    note.textContent = form.faults(error.body?.errors).join("; ") || (error.body?.errors ? "" : error.message);
  });
  return make("form", { class: "panel question", onsubmit: (event) => { event.preventDefault(); const value = form.data(); if (value) send(value); } },
    make("p", {}, make("strong", {}, message)), form.element, note,
    make("div", { class: "buttons" }, make("button", {}, "Answer"), make("button", { type: "button", class: "quiet", onclick: () => send(null) }, "Decline")));
}
