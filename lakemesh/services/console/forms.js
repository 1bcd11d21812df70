// A form from an agent's JSON schema, and the data that was filled in.

import { make } from "./dom.js";

function resolve(schema, root) {
  if (schema.$ref) return resolve(root.$defs[schema.$ref.split("/").pop()], root);
  const choice = (schema.anyOf || schema.allOf || [])[0];
  return choice ? { ...resolve(choice, root), ...schema } : schema;
}

function input(name, schema, required) {
  const id = `field-${name}`;
  if (schema.enum) return make("select", { id, name, required }, schema.enum.map((value) => make("option", {}, value)));
  if (schema.type === "boolean") return make("input", { id, name, type: "checkbox" });
  if (schema.type === "integer" || schema.type === "number") {
    return make("input", { id, name, required, type: "number", step: schema.type === "integer" ? 1 : "any", value: schema.default });
  }
  if (schema.type === "string" || !schema.type) {
    const example = schema.format === "date-time" ? new Date().toISOString().slice(0, 19) + "Z" : schema.default;
    return make("input", { id, name, required, value: example });
  }
  return make("textarea", { id, name, required, rows: 3, spellcheck: "false" }, JSON.stringify(schema.default ?? (schema.type === "array" ? [] : {})));
}

export function schemaFields(schema) {
  const properties = Object.entries(schema.properties || {});
  if (!properties.length) {
    return [make("label", { for: "field-" }, "data (JSON)", make("textarea", { id: "field-", name: "", rows: 5 }, "{}"))];
  }
  return properties.map(([name, property]) => {
    const resolved = resolve(property, schema);
    const required = (schema.required || []).includes(name);
    const json = ["array", "object"].includes(resolved.type) ? " (JSON)" : "";
    return make("label", { for: `field-${name}` }, name.replaceAll("_", " ") + json + (required ? " *" : ""), input(name, resolved, required));
  });
}

export function formData(form, schema) {
  if (!Object.keys(schema.properties || {}).length) return JSON.parse(form.elements[""]?.value || form.querySelector("textarea").value);
  const data = {};
  for (const [name, property] of Object.entries(schema.properties)) {
    const resolved = resolve(property, schema);
    const field = form.elements[name];
    if (resolved.type === "boolean") data[name] = field.checked;
    else if (field.value === "") continue;
    else if (resolved.type === "integer" || resolved.type === "number") data[name] = Number(field.value);
    else if (resolved.type === "array" || resolved.type === "object") data[name] = JSON.parse(field.value);
    else data[name] = field.value;
  }
  return data;
}
