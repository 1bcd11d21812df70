// A client of lakemesh servers. `openapi.ts` is generated from the server's OpenAPI document; what is here is how its
// requests are sent, its streams read and its errors told.
import type { components, paths } from "./openapi.js";

export type { components, paths } from "./openapi.js";
export type Schemas = components["schemas"];
export type Answer = Schemas["ExecuteResponse"];
export type Problem = Schemas["Problem"];
export type AgentDescription = paths["/api/agents"]["get"]["responses"][200]["content"]["application/json"]["agents"][number];
export type Invocation = paths["/api/invocations/{id}"]["get"]["responses"][200]["content"]["application/json"];
export type Data = Record<string, unknown>;

/** One event of a stream. `id` takes a durable invocation's events up again behind it. */
export interface ServerEvent {
  type: string;
  data: Record<string, any>;
  id?: number;
}

/** What the server answered in place of a result (RFC 9457). `problem` has all it said. */
export class ServerError extends Error {
  readonly status: number;
  readonly code: string;
  readonly executionId: string | undefined;
  readonly problem: Partial<Problem> & Record<string, unknown>;

  constructor(status: number, problem: Record<string, unknown>) {
    const code = String(problem["code"] ?? status);
    super(`${code}: ${problem["detail"] ?? problem["title"] ?? "the server says no more"}`);
    this.name = "ServerError";
    this.status = status;
    this.code = code;
    this.executionId = problem["execution_id"] as string | undefined;
    this.problem = problem;
  }
}

export interface Options {
  /** Sent as a bearer token. */
  token?: string | undefined;
  /** In place of the global one, such as one with a proxy. */
  fetch?: typeof fetch;
  headers?: Record<string, string>;
}

export interface ExecuteOptions {
  sessionId?: string;
  timeoutSeconds?: number;
  /** The same request again with the same key is given the first one's answer. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

export interface InvokeOptions {
  sessionId?: string;
  background?: boolean;
  /** A UUID: the same id again is the same invocation. */
  id?: string;
}

type Method = "GET" | "POST" | "DELETE";

interface Sent {
  body?: unknown;
  headers?: Record<string, string | undefined>;
  signal?: AbortSignal | undefined;
}

export class Client {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof fetch;

  constructor(url: string, options: Options = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = { ...(options.token ? { authorization: `Bearer ${options.token}` } : {}), ...options.headers };
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** One answer of one agent. */
  async execute(agent: string, data: Data, options: ExecuteOptions = {}): Promise<Answer> {
    return (await this.#json("POST", "/api/execute", executed(agent, data, options))) as Answer;
  }

  /** What happens on the way to the answer, which is in the last event, `completed`. Leaving the loop cancels it. */
  async *stream(agent: string, data: Data, options: ExecuteOptions = {}): AsyncGenerator<ServerEvent> {
    yield* this.#events("POST", "/api/execute", executed(agent, data, options));
  }

  /** An outcome for each of many, in order. */
  async batch(requests: Array<[agent: string, data: Data]>): Promise<Array<Answer | ServerError>> {
    const body = { requests: requests.map(([agent_name, data]) => ({ agent_name, data })) };
    const found = (await this.#json("POST", "/api/execute/batch", { body })) as { results: any[] };
    return found.results.map((one) => one.output ?? new ServerError(one.error.status, one.error));
  }

  /** Those that this caller may call, with their schemas. */
  async agents(): Promise<AgentDescription[]> {
    return ((await this.#json("GET", "/api/agents")) as { agents: AgentDescription[] }).agents;
  }

  /** Say what an answer was worth, from 0 to 1. */
  async feedback(executionId: string, value: number, more: { comment?: string; correction?: unknown } = {}): Promise<void> {
    await this.#json("POST", "/api/feedback", { body: { execution_id: executionId, value, ...more } });
  }

  /** Answer an `asked` event of a stream; null declines. */
  async answer(executionId: string, questionId: string, value: unknown): Promise<void> {
    const path = `/api/executions/${encodeURIComponent(executionId)}/answer`;
    await this.#json("POST", path, { body: { question_id: questionId, value } });
  }

  /** A durable execution: the invocation with its result, or, in the background, with its status. */
  async invoke(agent: string, data: Data, options: InvokeOptions = {}): Promise<Invocation> {
    const body = {
      id: options.id ?? crypto.randomUUID(),
      agent_name: agent,
      input: data,
      session_id: options.sessionId,
      background: options.background ?? false,
    };
    return (await this.#json("POST", "/api/invocations", { body })) as Invocation;
  }

  async invocation(id: string): Promise<Invocation> {
    return (await this.#json("GET", `/api/invocations/${encodeURIComponent(id)}`)) as Invocation;
  }

  async cancel(id: string): Promise<Invocation> {
    return (await this.#json("POST", `/api/invocations/${encodeURIComponent(id)}/cancel`)) as Invocation;
  }

  /** The events of an invocation behind `after`, those to come too. */
  async *follow(id: string, after = 0): AsyncGenerator<ServerEvent> {
    yield* this.#events("GET", `/api/invocations/${encodeURIComponent(id)}/events?after=${after}`, {});
  }

  /** Any other route, by its path in the OpenAPI document. Throws `ServerError`. */
  async request<P extends keyof paths, M extends Method>(method: M, path: P, body?: unknown): Promise<Result<P, M>> {
    return (await this.#json(method, path, body === undefined ? {} : { body })) as Result<P, M>;
  }

  async #json(method: Method, path: string, sent: Sent = {}): Promise<unknown> {
    const response = await this.#send(method, path, "application/json", sent);
    return response.status === 204 ? undefined : await response.json();
  }

  async *#events(method: Method, path: string, sent: Sent): AsyncGenerator<ServerEvent> {
    const leaving = new AbortController();
    const signal = sent.signal ? AbortSignal.any([sent.signal, leaving.signal]) : leaving.signal;
    const response = await this.#send(method, path, "text/event-stream", { ...sent, signal });
    try {
      for await (const event of events(response.body!)) {
        if (event.type === "failed") {
          const problem = event.data["error"] ?? event.data;
          throw new ServerError(Number(problem.status ?? 500), problem);
        }
        yield event;
      }
    } finally {
      leaving.abort();
    }
  }

  async #send(method: Method, path: string, accept: string, sent: Sent): Promise<Response> {
    const headers: Record<string, string> = { accept, ...this.#headers };
    for (const [name, value] of Object.entries(sent.headers ?? {})) if (value !== undefined) headers[name] = value;
    const init: RequestInit = { method, headers };
    if (sent.signal) init.signal = sent.signal;
    if (sent.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(sent.body);
    }
    const response = await this.#fetch(this.#url + path, init);
    if (response.ok) return response;
    const problem: unknown = await response.json().catch(() => undefined);
    const told = problem !== null && typeof problem === "object" ? problem : { detail: response.statusText };
    throw new ServerError(response.status, told as Record<string, unknown>);
  }
}

type Result<P extends keyof paths, M extends Method> = paths[P] extends {
  [key in Lowercase<M>]: { responses: { 200: { content: { "application/json": infer R } } } };
}
  ? R
  : unknown;

function executed(agent: string, data: Data, options: ExecuteOptions): Sent {
  return {
    body: { agent_name: agent, data, session_id: options.sessionId },
    headers: { "x-request-timeout": options.timeoutSeconds?.toString(), "idempotency-key": options.idempotencyKey },
    signal: options.signal,
  };
}

/** Server-sent events of a body (HTML living standard, section 9.2.6). */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const pieces = (rest + decoder.decode(value, { stream: true })).replaceAll("\r\n", "\n").split("\n\n");
      rest = pieces.pop() ?? "";
      for (const piece of pieces) {
        const event = eventOf(piece);
        if (event) yield event;
      }
    }
  } finally {
    reader.releaseLock();
  }
}

function eventOf(text: string): ServerEvent | undefined {
  const fields: Record<string, string> = {};
  const data: string[] = [];
  for (const line of text.split("\n")) {
    const [name = "", ...value] = line.split(":");
    const content = value.join(":").replace(/^ /, "");
    if (name === "data") data.push(content);
    else if (name) fields[name] = content;
  }
  if (!data.length) return undefined;
  const id = /^\d+$/.test(fields["id"] ?? "") ? { id: Number(fields["id"]) } : {};
  return { type: fields["event"] ?? "message", data: JSON.parse(data.join("\n")), ...id };
}
