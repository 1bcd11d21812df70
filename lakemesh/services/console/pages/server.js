// What the pages ask the server. A token, where one is needed, is kept for this tab alone and sent as a header: no other
// page can use it, and nothing is sent by itself, so there is nothing to forge.

const KEY = "lakemesh.token";

export const signedIn = () => sessionStorage.getItem(KEY) !== null;
export const signIn = (token) => sessionStorage.setItem(KEY, token);
export const signOut = () => sessionStorage.clear();

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.body = body;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token === null ? more : { ...more, authorization: `Bearer ${token}` };
}

async function send(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server cannot be reached." });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) dispatchEvent(new CustomEvent("signedout", { detail: body.detail }));
  throw new Problem(response.status, body);
}

export async function get(address, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  const search = new URLSearchParams(given).toString();
  return (await send(search ? `${address}?${search}` : address)).json();
}

export async function post(address, body) {
  const response = await send(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
}

// Health answers 503 with the same body when it is not well.
export const health = async () => (await fetch("health/ready", { headers: headers() })).json();

// Server-sent events of a request, in order, as { type, data }.
export async function* events(address, { body, signal } = {}) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const response = await send(address, { ...options, signal, headers: { accept: "text/event-stream", "content-type": "application/json" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting += value;
    for (let end = waiting.indexOf("\n\n"); end >= 0; end = waiting.indexOf("\n\n")) {
      const event = parse(waiting.slice(0, end));
      waiting = waiting.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parse(text) {
  const lines = text.split("\n");
  const valueOf = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
  const type = valueOf("event");
  return type ? { type, data: JSON.parse(valueOf("data") || "null") } : null;
}
