// What every page's script begins with: nodes, unpacking, lengths, the theme. Text of logs goes into nodes as text, never as markup.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "path", "text", "rect", "circle", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}

function mark(family) {
  const known = $("#marks").content.querySelector(`.f-${CSS.escape(family)}`);
  return (known || $("#marks").content.querySelector(".f-unknown")).cloneNode(true);
}

const canUnpack = () => typeof DecompressionStream !== "undefined";
async function unpack(id) {
  const node = document.getElementById(id);
  const binary = atob(node.textContent);
  node.remove(); // megabytes that nothing reads again
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
async function startPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly-source"); // the policy admits this very text by its hash
  document.head.append(script);
  if (!window.Plotly) throw new Error("plotly did not start");
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// plotly reads <b>, <br> and entities in hover text; a log's own are shown as they stand.
const bare = (text) => String(text ?? "").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const pad = (n, width = 2) => String(n).padStart(width, "0");

function length(ms) {
  if (ms === null || ms === undefined) return "";
  const size = Math.abs(ms), sign = ms < 0 ? "−" : "";
  if (size < 1) return sign + (size ? String(+size.toPrecision(3)) : "0") + " ms";
  if (size < 999.5) return `${sign}${Math.round(size)} ms`;
  if (size < 120000) return `${sign}${(size / 1000).toPrecision(3).replace(/e.*/, "")} s`.replace(/(\.\d*?)0+ s/, "$1 s").replace(". s", " s");
  const minutes = Math.floor(size / 60000), seconds = Math.floor((size % 60000) / 1000);
  if (minutes < 120) return `${sign}${minutes} min${seconds ? ` ${seconds} s` : ""}`;
  return minutes < 2880 ? `${sign}${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${sign}${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}
const signed = (ms) => (ms >= 0 ? "+" : "") + length(ms);
const percent = (p) => (p === null ? "no figure" : `${Math.min(99, Math.max(1, Math.round(p * 100)))} %`);

function dark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
// Charts take their colours when they are drawn, so they are drawn anew for another ground; paper is white, whatever the screen was.
function followTheme(redraw = () => {}) {
  const root = document.documentElement, button = $("#theme");
  if (button) button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; redraw(false); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(false));
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; redraw(true); });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; redraw(false); });
}
