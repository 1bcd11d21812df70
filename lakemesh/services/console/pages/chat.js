// Talking with an agent that takes a text: streamed, in one session, with what it does on the way.

import { bubble } from "./sessions.js";
import { empty, link, make } from "./dom.js";
import { Run } from "./run.js";
import { get } from "./server.js";

const KEPT_CHARACTERS = 500000;
const MESSAGE_FIELDS = ["message", "text", "question", "query", "input", "prompt", "task"];
const idOf = () => (crypto.randomUUID ? crypto.randomUUID() : Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(""));

// The member of its input that takes a message, if nothing else is required.
export function messageField({ input_schema: schema }) {
  const required = schema.required || [];
  const name = MESSAGE_FIELDS.find((one) => schema.properties?.[one]?.type === "string");
  return name && required.every((one) => one === name) ? name : null;
}

// A conversation outlives a reload, in this tab. Of a long one the oldest turns go first.
class Conversation {
  constructor(agent) {
    this.key = `lakemesh.chat.${agent}`;
    const kept = JSON.parse(sessionStorage.getItem(this.key) || "null");
    this.session = kept?.session || idOf();
    this.turns = kept?.turns || [];
  }

  add(turn) {
    this.turns.push(turn);
    while (JSON.stringify(this.turns).length > KEPT_CHARACTERS) this.turns.shift();
    sessionStorage.setItem(this.key, JSON.stringify({ session: this.session, turns: this.turns }));
  }

  forget() { sessionStorage.removeItem(this.key); }
}

export async function chat([wanted], query, context) {
  const { agents } = await get("api/agents");
  const able = agents.filter(messageField).sort((one, other) => rank(one) - rank(other));
  if (!able.length) return [make("h1", {}, "Chat"), empty(make("p", {}, "No agent here takes a text message."), link("#agents", "Try one by a form"))];
  const agent = able.find(({ name }) => name === wanted) || able[0];
  return view(agent, able, new Conversation(agent.name), context);
}

// Agents that answer in words come before those that answer in figures.
const rank = ({ output_schema: schema }) => (schema?.properties?.text ? 0 : 1);

function view(agent, able, conversation, context) {
  const log = make("div", { class: "conversation", role: "log", "aria-label": `Conversation with ${agent.name}`, tabindex: "0" });
  const field = make("textarea", { id: "message", rows: 2, placeholder: `Message ${agent.name}`, "aria-label": "Message", maxlength: 100000 });
  const send = make("button", {}, "Send");
  const stop = make("button", { type: "button", class: "quiet", hidden: true }, "Stop");
  const hello = make("div", { class: "hello" }, make("strong", {}, agent.name), make("p", { class: "soft" }, agent.description));
  let run = null;

  const follow = () => { log.scrollTop = log.scrollHeight; };
  const draw = () => {
    log.replaceChildren(hello, ...conversation.turns.flatMap((turn) => [bubble("user", turn.message), kept(turn)]));
    follow();
  };
  const submit = async () => {
    const message = field.value.trim();
    if (!message || run) return;
    field.value = "";
    run = new Run();
    log.append(bubble("user", message), make("div", { class: "bubble agent" }, run.element));
    const watch = new MutationObserver(follow);
    watch.observe(log, { childList: true, subtree: true, characterData: true });
    send.hidden = true;
    stop.hidden = false;
    stop.onclick = () => run.cancel();
    follow();
    const body = { agent_name: agent.name, data: { [messageField(agent)]: message }, session_id: conversation.session };
    const outcome = await run.start(body);
    watch.disconnect();
    run = null;
    send.hidden = false;
    stop.hidden = true;
    conversation.add({ message, output: outcome.output, problem: outcome.problem, cancelled: outcome.cancelled });
    session.hidden = false;
    follow();
    if (!document.activeElement || document.activeElement === document.body || document.activeElement === stop) field.focus();
  };
  field.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  };
  context.signal.addEventListener("abort", () => run?.cancel());
  const choose = make("select", { id: "choose-agent", "aria-label": "Agent", onchange: (event) => { location.hash = `chat/${encodeURIComponent(event.target.value)}`; } },
    able.map(({ name }) => make("option", { selected: name === agent.name }, name)));
  const session = make("a", { href: `#sessions/${conversation.session}?user=${encodeURIComponent(context.me.user)}`, hidden: !conversation.turns.length }, "Session");
  const anew = make("button", { type: "button", class: "quiet", onclick: () => { conversation.forget(); dispatchEvent(new HashChangeEvent("hashchange")); } }, "New");
  draw();
  queueMicrotask(follow);
  requestAnimationFrame(follow);
  return [make("div", { class: "title" }, make("h1", {}, "Chat"), choose, anew, session),
    make("div", { class: "chat" }, log,
      make("form", { class: "composer panel", onsubmit: (event) => { event.preventDefault(); submit(); } }, field, send, stop))];
}

function kept({ output, problem, cancelled }) {
  const run = new Run();
  if (output) run.showOutput(output);
  else if (cancelled) run.cancelled();
  else run.failed(problem || {});
  return make("div", { class: "bubble agent" }, run.element);
}
