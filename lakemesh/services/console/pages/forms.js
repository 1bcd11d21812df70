// A form from a JSON schema with example values, what was filled in, and errors shown at their fields.

import { make } from "./dom.js";

let forms = 0;

export function resolve(schema, root) {
  if (schema?.$ref) return { ...resolve(root.$defs?.[schema.$ref.split("/").pop()] || {}, root), ...without(schema, "$ref") };
  const options = schema?.anyOf || schema?.oneOf || schema?.allOf;
  if (!options) return schema || {};
  const first = options.find((one) => one.type !== "null") || options[0];
  return { ...resolve(first, root), ...without(schema, "anyOf", "oneOf", "allOf") };
}

const without = (value, ...names) => Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)));

// What the schema gives as an example, or something that fits it.
export function example(schema, root, depth = 0) {
  const one = resolve(schema, root);
  if (one.examples?.length) return one.examples[0];
  if (one.default !== undefined && one.default !== null) return one.default;
  if (one.const !== undefined) return one.const;
  if (one.enum) return one.enum[0];
  if (depth > 4) return null;
  switch (one.type) {
    case "boolean": return false;
    case "integer": return Math.ceil(one.minimum ?? (one.exclusiveMinimum === undefined ? 1 : one.exclusiveMinimum + 1));
    case "number": return one.minimum ?? (one.exclusiveMinimum === undefined ? 1 : one.exclusiveMinimum + 1);
    case "array": return one.items && (one.minItems ?? 1) > 0 ? [example(one.items, root, depth + 1)] : [];
    case "object": return Object.fromEntries(Object.entries(one.properties || {})
      .filter(([name]) => !one.required || one.required.includes(name)).map(([name, value]) => [name, example(value, root, depth + 1)]));
    default: return text(one);
  }
}

function text(schema) {
  const now = new Date().toISOString();
  if (schema.format === "date-time") return `${now.slice(0, 19)}Z`;
  if (schema.format === "date") return now.slice(0, 10);
  if (schema.format === "uuid") return crypto.randomUUID?.() ?? "00000000-0000-4000-8000-000000000000";
  if (schema.format === "uri") return "https://example.com/";
  if (schema.format === "email") return "ann@example.com";
  return schema.pattern ? "" : "Hello".slice(0, schema.maxLength ?? 5);
}

export class SchemaForm {
  constructor(schema) {
    this.schema = schema;
    this.prefix = `form${(forms += 1)}`;
    this.fields = new Map();
    const given = schema.examples?.[0];
    const properties = Object.entries(schema.properties || {});
    this.element = make("div", { class: "fields" }, properties.length
      ? properties.map(([name, property]) => this.field(name, resolve(property, schema), (schema.required || []).includes(name), given?.[name]))
      : this.field("", { type: "object", title: "data" }, true, given ?? {}));
  }

  field(name, schema, required, given) {
    const id = `${this.prefix}-${name || "data"}`;
    const value = given ?? (required || schema.examples || schema.default != null ? example(schema, this.schema) : undefined);
    const input = this.input(id, schema, required, value);
    const fault = make("p", { class: "bad", id: `${id}-fault`, hidden: true });
    input.setAttribute("aria-describedby", `${id}-fault`);
    this.fields.set(name, { input, fault, schema });
    const kind = isJson(schema) ? "JSON" : schema.type && schema.type !== "string" ? schema.type : "";
    const head = make("span", {}, (name || "data").replaceAll("_", " "), required ? make("span", { "aria-hidden": "true" }, " *") : null, make("small", { class: "soft" }, ` ${kind}`));
    return make("div", { class: schema.type === "boolean" ? "field check" : "field" },
      make("label", { for: id }, head), input, schema.description ? make("small", { class: "soft" }, schema.description) : null, fault);
  }

  input(id, schema, required, value) {
    const common = { id, "aria-required": required ? "true" : null };
    if (schema.enum) {
      const options = [...(required ? [] : [""]), ...schema.enum];
      return make("select", common, options.map((one) => make("option", { value: one, selected: one === value }, String(one))));
    }
    if (schema.type === "boolean") return make("input", { ...common, type: "checkbox", checked: value === true });
    if (schema.type === "integer" || schema.type === "number") {
      return make("input", { ...common, type: "number", step: schema.type === "integer" ? 1 : "any", min: schema.minimum, max: schema.maximum, value });
    }
    if (isJson(schema)) {
      const shown = value === undefined ? "" : JSON.stringify(value, null, 2);
      return make("textarea", { ...common, class: "code", rows: Math.min(12, Math.max(2, shown.split("\n").length)), spellcheck: "false" }, shown);
    }
    if ((schema.maxLength ?? 0) > 300 || String(value ?? "").length > 80) return make("textarea", { ...common, rows: 3 }, value ?? "");
    return make("input", { ...common, value: value ?? "" });
  }

  // The data, or null when something in it cannot be read: then its field says so.
  data() {
    this.clear();
    const data = {};
    let sound = true;
    for (const [name, { input, schema }] of this.fields) {
      if (schema.type === "boolean") { data[name] = input.checked; continue; }
      if (input.value === "") continue;
      try {
        data[name] = isJson(schema) ? JSON.parse(input.value) : schema.type === "integer" || schema.type === "number" ? Number(input.value) : input.value;
      } catch (error) {
        this.fault(name, `This is not JSON: ${error.message}`);
        sound = false;
      }
    }
    if (!sound) return null;
    return this.fields.has("") ? data[""] ?? {} : data;
  }

  // Errors of a problem document (`path`: data.field or value.field) at their fields; those that have none are returned.
  faults(errors) {
    const rest = [];
    for (const error of errors || []) {
      const [, name = "", ...inner] = error.path.split(".");
      if (!this.fault(name, inner.length ? `${inner.join(".")}: ${error.message}` : error.message)) rest.push(`${error.path}: ${error.message}`);
    }
    this.element.querySelector("[aria-invalid=true]")?.focus();
    return rest;
  }

  fault(name, words) {
    const field = this.fields.get(name) || this.fields.get("");
    if (!field) return false;
    field.fault.textContent = words;
    field.fault.hidden = false;
    field.input.setAttribute("aria-invalid", "true");
    return true;
  }

  clear() {
    for (const { input, fault } of this.fields.values()) {
      fault.hidden = true;
      input.removeAttribute("aria-invalid");
    }
  }
}

const isJson = (schema) => schema.type === "array" || schema.type === "object" || (!schema.type && !schema.enum);
