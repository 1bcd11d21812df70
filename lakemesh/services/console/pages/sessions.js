// Sessions, and one of them as the conversation it was.

import { Table, badge, choice, code, empty, folded, link, make } from "./dom.js";
import { outcome, sessionLink, traceLink } from "./executions.js";
import { SPANS, count, dollars, isWordsAlone, milliseconds, moment, wordsOf } from "./format.js";
import { get } from "./server.js";

export async function sessions(path, query, context) {
  if (path.length) return conversation(path[0], query, context);
  const hours = query.hours || "168";
  const { sessions: found } = await get("console/api/sessions", { hours });
  const table = new Table("Sessions, newest first", [
    { title: "Last", cell: (row) => moment(row.ended) },
    { title: "Session", cell: (row) => sessionLink(row, row.session_id.slice(0, 24)) },
    { title: "Agent", cell: (row) => (row.agents > 1 ? `${row.agent_id} and ${row.agents - 1} more` : row.agent_id) },
    { title: "Turns", number: true, cell: (row) => count(row.turns) },
    { title: "Failed", number: true, cell: (row) => (row.failures ? badge("bad", count(row.failures)) : "0") },
    context.me.operator && { title: "User", wide: true, cell: (row) => row.user_id },
    { title: "Tokens", number: true, wide: true, cell: (row) => count(row.tokens || 0) },
    { title: "Cost", number: true, wide: true, cell: (row) => dollars(row.cost_usd) },
  ].filter(Boolean));
  return [
    make("div", { class: "title" }, make("h1", {}, "Sessions"), choice("Time", SPANS, hours, (value) => context.filter([], { hours: value }))),
    found.length ? table.update(found) : empty(make("p", {}, "No session in this time."), make("p", { class: "soft" }, "Requests that name the same session_id are one."), link("#chat", "Start one by a chat")),
  ];
}

async function conversation(id, query, context) {
  const log = make("div", { class: "conversation" });
  const note = make("p", { class: "soft" });
  const known = new Set();
  const update = async () => {
    const { turns, feedback } = await get("console/api/session", { session: id, user: query.user, hours: 24 * 366 });
    log.replaceChildren(...turns.flatMap((turn) => turnOf(turn, feedback.filter((one) => one.execution_id === turn.execution_id))));
    for (const turn of turns) known.add(turn.execution_id);
    const bare = turns.some((turn) => turn.input_data == null);
    note.textContent = !turns.length ? "Nothing of this session is there." : bare && !context.me.captures_content
      ? "What was said is not kept: telemetry.capture_content is off." : "";
  };
  await update();
  const again = async () => { if (!log.contains(document.activeElement)) await update(); };
  // What is new the server that answers knows at once; content and feedback come seconds later.
  context.every(3, async () => {
    const { executions } = await get("console/api/executions", { session: id, user: query.user, hours: 1, live: true });
    if (executions.some((row) => !known.has(row.execution_id))) await again();
  });
  context.until(again, 2);
  return [make("div", { class: "title" }, make("h1", {}, "Session"), make("code", {}, id)),
    query.user && context.me.operator ? make("p", { class: "soft" }, `of ${query.user}`) : null, log, note];
}

function turnOf(turn, feedback) {
  return [
    turn.input_data == null ? null : bubble("user", turn.input_data),
    turn.output_data != null ? bubble("agent", turn.output_data) : turn.success ? null : make("div", { class: "bubble agent bad" }, turn.error_message),
    make("p", { class: "meta soft" }, moment(turn.timestamp), " ", link(`#executions/${turn.execution_id}`, turn.agent_id), " ", outcome(turn), ` ${milliseconds(turn.latency_ms)} `, traceLink(turn),
      feedback.map((one) => [" ", judgement(one)])),
  ].filter(Boolean);
}

export const judgement = (one) =>
  badge(one.value >= 0.5 ? "good" : "bad", `${one.value >= 0.5 ? "good" : "bad"}${one.comment ? `: ${one.comment}` : ""}`, `${one.user_id}: ${one.value}`);

export function bubble(who, data) {
  const words = wordsOf(data);
  return make("div", { class: `bubble ${who}` },
    words == null ? code(data) : make("div", { class: "words" }, words),
    words != null && !isWordsAlone(data) ? folded("All of it", code(data)) : null);
}
