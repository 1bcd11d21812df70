// The pages of the console: the address' hash names the page, its arguments and its filters.

import { agents } from "./agents.js";
import { approvals } from "./approvals.js";
import { budgets } from "./budgets.js";
import { chat } from "./chat.js";
import { dashboards } from "./dashboards.js";
import { badge, link, make } from "./dom.js";
import { executions } from "./executions.js";
import { healthPage } from "./health.js";
import { invocations } from "./invocations.js";
import { overview } from "./overview.js";
import { get, health, signIn, signOut, signedIn } from "./server.js";
import { sessions } from "./sessions.js";
import { traces } from "./trace.js";

const SECTIONS = [
  ["overview", "Overview", overview],
  ["chat", "Chat", chat],
  ["agents", "Agents", agents],
  ["executions", "Executions", executions],
  ["sessions", "Sessions", sessions],
  ["invocations", "Invocations", invocations],
  ["approvals", "Approvals", approvals],
  ["budgets", "Budgets", budgets],
  ["dashboards", "Dashboards", dashboards],
  ["health", "Health", healthPage],
];
const PAGES = { ...Object.fromEntries(SECTIONS.map(([name, , page]) => [name, page])), traces };
const PARENTS = { traces: "executions" };

const main = document.getElementById("main");
const state = document.getElementById("state");
let me = null;
let leaving = new AbortController();

// What a page may use: who looks, a signal that it was left, work to repeat while it is seen or until it is done, and
// changing its filters.
function contextOf(name, signal) {
  return {
    me,
    signal,
    every(seconds, work) {
      const timer = setInterval(() => !document.hidden && work().catch(report), seconds * 1000);
      signal.addEventListener("abort", () => clearInterval(timer));
      return () => clearInterval(timer);
    },
    // Soon at first, then ever more seldom, until the work says that it is done.
    until(work, seconds = 1) {
      let wait = seconds;
      let timer = 0;
      const again = async () => {
        const done = !document.hidden && await work().catch(report);
        wait = Math.min(wait * 1.3, 15);
        if (!done && !signal.aborted) timer = setTimeout(again, wait * 1000);
      };
      timer = setTimeout(again, wait * 1000);
      signal.addEventListener("abort", () => clearTimeout(timer));
    },
    filter(path, values) {
      const given = Object.entries(values).filter(([, value]) => value !== "" && value != null && value !== false);
      location.hash = `${[name, ...path].map(encodeURIComponent).join("/")}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
    },
    report,
  };
}

function report(error) {
  if (error.name === "AbortError" || error.status === 401) return;
  state.textContent = error.message;
  setTimeout(() => { state.textContent = ""; }, 8000);
}

function address() {
  const [path, search] = location.hash.slice(1).split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return { name: name || "overview", path: rest, query: Object.fromEntries(new URLSearchParams(search || "")) };
}

function showSections(current) {
  const shown = SECTIONS.filter(([name]) => (!["invocations", "approvals"].includes(name) || me.invocations) && (name !== "budgets" || me.budgets) && (name !== "dashboards" || me.operator));
  const links = shown.map(([name, title]) => make("a", { href: `#${name}`, "aria-current": name === (PARENTS[current] || current) ? "page" : null }, title));
  const bar = document.getElementById("sections");
  bar.replaceChildren(...links, link("docs", "API"));
  const here = links.find((one) => one.ariaCurrent);
  if (here) bar.scrollLeft = here.offsetLeft - bar.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2; // on a phone
  document.getElementById("caller").replaceChildren(me.user, me.operator ? badge("plain", "operator") : "",
    signedIn() ? make("button", { class: "quiet", onclick: () => { signOut(); location.reload(); } }, "Sign out") : "");
}

async function show({ focus = false } = {}) {
  const { name, path, query } = address();
  const place = [name, ...path].join("/");
  const focused = place === document.body.dataset.place ? document.activeElement?.id : null;
  if (name === "main") return main.focus();
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  try {
    me ??= await get("console/api/me");
    showSections(name);
    const page = PAGES[name] || overview;
    const content = await page(path, query, contextOf(PAGES[name] ? name : "overview", signal));
    if (signal.aborted) return undefined;
    main.replaceChildren(...content.flat(Infinity).filter((part) => part != null && part !== false));
  } catch (error) {
    if (signal.aborted || error.status === 401) return undefined;
    main.replaceChildren(make("h1", {}, "That did not work"), make("p", { class: "bad" }, error.message));
  }
  document.title = `${main.querySelector("h1")?.textContent || "Console"} – lakemesh`;
  document.body.dataset.shown = location.hash || "#overview";
  document.body.dataset.place = place;
  const again = focused && document.getElementById(focused);
  if (again) again.focus();
  else if (focus) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
  return undefined;
}

function askForToken(reason) {
  me = null;
  document.getElementById("sections").replaceChildren();
  document.getElementById("caller").replaceChildren();
  const field = make("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: "false" });
  const form = make("form", { class: "panel narrow", onsubmit: (event) => { event.preventDefault(); signIn(field.value.trim()); show({ focus: true }); } },
    make("h1", {}, "Sign in"),
    make("p", {}, "This server asks who you are. Enter the token that you call it with."),
    make("label", { for: "token" }, "Token", field),
    signedIn() ? make("p", { class: "bad", role: "alert" }, reason || "This token is not accepted.") : null,
    make("button", {}, "Sign in"),
    make("p", { class: "soft" }, "It is kept for this tab only, until you close it or sign out."));
  main.replaceChildren(form);
  document.title = "Sign in – lakemesh";
  document.body.dataset.shown = "signin";
  field.focus();
}

async function watchHealth() {
  const { status } = await health();
  document.body.dataset.health = status;
}

addEventListener("signedout", (event) => askForToken(event.detail));
addEventListener("hashchange", () => show({ focus: true }));
setInterval(() => !document.hidden && watchHealth().catch(() => {}), 30000);
watchHealth().catch(() => {});
show();
