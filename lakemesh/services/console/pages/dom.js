// Making elements, without ever turning data into markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export const link = (href, ...content) => make("a", { href }, ...content);

export const badge = (kind, text, title) => make("span", { class: `badge ${kind}`, title }, text);

export const section = (title, ...content) => make("section", {}, make("h2", {}, title), ...content);

export const empty = (...content) => make("div", { class: "empty" }, ...content);

export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value != null && value !== "" && value !== false);
  return make("dl", { class: "facts" }, shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

// A region that scrolls by itself must be reachable by keyboard, and say what it is.
export const scrolling = (label, ...content) =>
  make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...content);

export const json = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

export const code = (value, label) => make("pre", { tabindex: "0", role: "region", "aria-label": label || "Data" }, json(value));

export const folded = (title, ...content) => make("details", {}, make("summary", {}, title), ...content);

export const choice = (label, options, value, onchange) =>
  make("label", { class: "inline" }, make("span", {}, label),
    make("select", { id: `choose-${label.toLowerCase().replaceAll(" ", "-")}`, onchange: (event) => onchange(event.target.value) },
      options.map(([key, text]) => make("option", { value: key, selected: key === value }, text))));

// columns: [{ title, cell(row), number, wide, key }]; `keyOf` makes rows stay the same elements over updates, so that
// focus and selection survive them.
export class Table {
  constructor(caption, columns, keyOf) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.rows = new Map();
    const head = columns.map((column) => make("th", { scope: "col", class: classOf(column) }, column.title));
    this.body = make("tbody");
    this.element = scrolling(caption, make("table", {}, make("caption", { class: "hidden" }, caption), make("thead", {}, make("tr", {}, head)), this.body));
  }

  update(rows) {
    const kept = new Map();
    const elements = rows.map((row, place) => {
      const key = this.keyOf ? this.keyOf(row) : place;
      const element = (this.keyOf && this.rows.get(key)) || this.row(row);
      kept.set(key, element);
      return element;
    });
    this.rows = kept;
    for (const element of [...this.body.children]) if (!elements.includes(element)) element.remove();
    elements.forEach((element, place) => {
      if (this.body.children[place] !== element) this.body.insertBefore(element, this.body.children[place] || null);
    });
    return this.element;
  }

  row(row) {
    return make("tr", {}, this.columns.map((column) => make("td", { class: classOf(column) }, column.cell(row))));
  }
}

const classOf = (column) => [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null;
