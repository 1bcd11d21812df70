// Figures and times as people read them; times are local.

import { make } from "./dom.js";

const minute = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const second = { ...minute, second: "2-digit" };
const day = { month: "short", day: "numeric" };

export function moment(value) {
  const at = new Date(value);
  if (value == null || Number.isNaN(at.getTime())) return "";
  return make("time", { datetime: at.toISOString(), title: at.toLocaleString() }, short(at));
}

export function short(at, options = second) {
  const today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString([], options) : at.toLocaleString([], { ...day, ...minute });
}

export const axisTime = (at, hours) =>
  hours > 48 ? at.toLocaleDateString([], day) : short(at, minute);

export function milliseconds(value) {
  if (value == null) return "–";
  if (value === 0) return "0";
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60000) return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
  return `${Math.floor(value / 60000)} min ${Math.round((value % 60000) / 1000)} s`;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });

export const count = (value) => (value >= 10000 ? compact.format(value) : plain.format(value ?? 0));

export const dollars = (value) => (!value ? "$0" : `$${value < 0.01 ? value.toPrecision(2) : value.toFixed(2)}`);

export const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part < whole / 100 ? 2 : 1)} %` : "–");

export const tokens = (row) => (row.input_tokens || 0) + (row.output_tokens || 0);

export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return plain.format(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

export const SPANS = [["1", "Last hour"], ["6", "Last 6 hours"], ["24", "Last day"], ["168", "Last week"], ["720", "Last 30 days"]];

export const TEXT_FIELDS = ["text", "answer", "message", "reply", "narrative", "summary", "output"];

// The words of an answer, or of a question, when it has any.
export function wordsOf(value) {
  if (typeof value === "string") return value;
  if (!value || typeof value !== "object") return null;
  const name = [...TEXT_FIELDS, "question", "query", "input", "prompt"].find((one) => typeof value[one] === "string");
  return name ? value[name] : null;
}

export const isWordsAlone = (value) => typeof value === "string" || (wordsOf(value) != null && Object.keys(value).length === 1);
