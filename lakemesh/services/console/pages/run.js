// One execution as it happens: text, tools, questions and the outcome, and what the caller thinks of it.

import { badge, code, folded, link, make } from "./dom.js";
import { SchemaForm } from "./forms.js";
import { count, dollars, isWordsAlone, milliseconds, wordsOf } from "./format.js";
import { isPipeline, pipeline } from "./pipeline.js";
import { events, post } from "./server.js";

export class Run {
  constructor() {
    this.steps = make("ol", { class: "steps", hidden: true });
    this.text = make("div", { class: "words" });
    this.answer = make("div", { class: "answer" });
    this.questions = make("div");
    this.foot = make("div", { class: "meta soft" });
    this.element = make("div", { class: "run" }, this.steps, this.text, this.answer, this.questions, this.foot);
    this.calls = new Map();
    this.leaving = new AbortController();
    this.running = false;
  }

  cancel() { this.leaving.abort(); }

  // Resolves with { output } or { problem } or { cancelled }; shows all of them, but leaves field errors to the caller.
  async start(body) {
    this.running = true;
    this.foot.replaceChildren(make("span", { class: "spinner", "aria-hidden": "true" }), " running …");
    try {
      for await (const { type, data } of events("api/execute", { body, signal: this.leaving.signal })) {
        if (type === "completed") return this.completed(data);
        if (type === "failed") return this.failed(data);
        this.show(type, data);
      }
      return this.failed({ detail: "The connection ended before the answer." });
    } catch (error) {
      if (error.name === "AbortError") return this.cancelled();
      return this.failed(error.body?.detail ? error.body : { detail: error.message });
    } finally {
      this.running = false;
      this.questions.replaceChildren();
    }
  }

  show(type, data, whose = "") {
    if (type === "started" && !whose) this.ids = data;
    else if (type === "text_delta" && !whose) this.text.append(data.text);
    else if (type === "progress") this.foot.lastChild.textContent = ` ${whose ? `${whose}: ` : ""}${data.message || `${count(data.progress)}${data.total ? ` of ${count(data.total)}` : ""}`}`;
    else if (type === "tool_called") this.toolCalled(data);
    else if (type === "tool_returned") this.toolReturned(data);
    else if (type === "artifact" && !whose) this.artifact(data);
    else if (type === "asked") this.ask(data);
    else if (type === "nested") this.show(data.event, data.data, data.agent_name);
  }

  toolCalled({ call_id: id, name, arguments: given }) {
    const state = make("span", { class: "spinner", title: "running" });
    this.calls.set(id, { state, began: performance.now() });
    this.steps.hidden = false;
    this.steps.append(make("li", {}, make("details", {}, make("summary", {}, state, " ", make("strong", {}, name)), code(given, `Arguments of ${name}`))));
  }

  toolReturned({ call_id: id, is_error: failed }) {
    const call = this.calls.get(id);
    if (!call) return;
    call.state.replaceWith(badge(failed ? "bad" : "good", failed ? "failed" : milliseconds(performance.now() - call.began)));
  }

  artifact({ artifact_id: id, name, text, data, url, append }) {
    this.artifacts ??= new Map();
    let box = this.artifacts.get(id);
    if (!box) {
      box = make("pre", { tabindex: "0" });
      this.artifacts.set(id, box);
      this.answer.append(folded(name || id, box));
    }
    if (!append) box.textContent = "";
    box.append(text ?? (data == null ? url ?? "(bytes)" : JSON.stringify(data, null, 2)));
  }

  ask({ execution_id: execution, question_id: question, message, schema }) {
    const form = new SchemaForm(schema);
    const note = make("p", { class: "bad", role: "alert" });
    const send = async (value) => {
      try {
        await post(`api/executions/${execution}/answer`, { question_id: question, value });
        box.replaceWith(make("p", { class: "soft" }, value === null ? `${message} – declined` : `${message} – answered`));
      } catch (error) {
        note.textContent = form.faults(error.body?.errors).join("; ") || (error.body?.errors ? "" : error.message);
      }
    };
    const box = make("form", { class: "panel question", onsubmit: (event) => { event.preventDefault(); const value = form.data(); if (value) send(value); } },
      make("p", {}, make("strong", {}, message)), form.element, note,
      make("div", { class: "buttons" }, make("button", {}, "Answer"), make("button", { type: "button", class: "quiet", onclick: () => send(null) }, "Decline")));
    this.questions.append(box);
    box.querySelector("input, select, textarea")?.focus();
  }

  completed(output) {
    this.showOutput(output);
    return { output };
  }

  showOutput({ result, confidence, metadata }) {
    const words = wordsOf(result);
    if (words != null) this.text.textContent = words;
    else this.text.textContent = "";
    if (isPipeline(result)) this.answer.replaceChildren(pipeline(result));
    else if (words == null) this.answer.append(code(result ?? "nothing", "Answer"));
    else if (!isWordsAlone(result)) this.answer.append(folded("The whole answer", code(result, "Answer")));
    const used = (metadata.input_tokens || 0) + (metadata.output_tokens || 0);
    this.foot.replaceChildren(...[
      milliseconds(metadata.latency_ms), used ? ` · ${count(used)} tokens` : null, metadata.cost_usd ? ` · ${dollars(metadata.cost_usd)}` : null,
      confidence == null ? null : ` · confidence ${count(confidence)}`, " · ", link(`#traces/${metadata.trace_id}`, "trace"),
      metadata.degraded?.length ? [" ", badge("warn", "degraded", metadata.degraded.join("; "))] : null, feedback(metadata.execution_id),
    ].flat().filter(Boolean));
  }

  failed(problem) {
    const trace = problem.trace_id || this.ids?.trace_id;
    this.foot.replaceChildren(badge("bad", problem.code || "failed"), ` ${problem.detail || problem.title} `, trace ? link(`#traces/${trace}`, "trace") : "");
    return { problem };
  }

  cancelled() {
    this.foot.replaceChildren(badge("warn", "cancelled"), this.ids ? [" ", link(`#traces/${this.ids.trace_id}`, "trace")] .flat()[1] : "");
    return { cancelled: true };
  }
}

// A thumb is kept at once; words about it may follow.
export function feedback(execution) {
  const note = make("span", { role: "status" });
  const comment = make("form", { class: "comment", hidden: true, onsubmit: (event) => { event.preventDefault(); give(value, comment.firstChild.value); } },
    make("input", { "aria-label": "Comment on this answer", placeholder: "Why? (optional)", maxlength: 4000 }), make("button", { class: "quiet" }, "Send"));
  let value = 1;
  const give = async (given, words) => {
    value = given;
    try {
      await post("api/feedback", { execution_id: execution, value: given, ...(words ? { comment: words } : {}) });
      note.textContent = "Thank you.";
      comment.hidden = Boolean(words);
    } catch (error) {
      note.textContent = error.message;
    }
    for (const [button, of] of [[up, 1], [down, 0]]) button.setAttribute("aria-pressed", String(of === given));
  };
  const thumb = (of, kind, label) => make("button", { type: "button", class: `quiet thumb ${kind}`, "aria-label": label, title: label, "aria-pressed": "false", onclick: () => give(of) });
  const [up, down] = [thumb(1, "up", "Good answer"), thumb(0, "down", "Bad answer")];
  return make("span", { class: "feedback" }, up, down, note, comment);
}
