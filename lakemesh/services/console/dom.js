// Making elements, and tables of data, without ever turning data into markup.

export function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "path", "rect", "line", "text", "title", "g"].includes(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return value.toLocaleString("en", { maximumFractionDigits: 4 });
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

// `links` maps a column to a function from its value to an address.
export function dataTable(caption, columns, rows, links = {}) {
  const numeric = columns.map((_, place) => rows.some((row) => typeof row[place] === "number"));
  const body = rows.map((row) =>
    make("tr", {}, row.map((value, place) => {
      const link = links[columns[place]];
      const content = link && value ? make("a", { href: link(value) }, cell(value).slice(0, 16)) : cell(value);
      return make("td", { class: numeric[place] ? "number" : null }, content);
    })));
  const head = columns.map((name, place) => make("th", { scope: "col", class: numeric[place] ? "number" : null }, name.replaceAll("_", " ")));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", { class: "soft" }, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)));
}

export async function fetchJson(address, options) {
  const response = await fetch(address, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail || response.statusText);
  return body;
}
