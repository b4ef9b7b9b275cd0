// What the file holds, as rows, and how its values are said.
// Columns to objects: text columns come as their values and an index, times in µs since the base and leave in ms.
const MICROSECONDS = ["t", "lo", "hi", "opened", "lasted", "delta", "error"];
function rows(columns) {
  const names = Object.keys(columns);
  const lists = names.map((name) => (Array.isArray(columns[name]) ? columns[name] : columns[name].i.map((i) => (i === null ? null : columns[name].k[i]))));
  const many = lists.length ? lists[0].length : 0;
  const out = new Array(many);
  for (let r = 0; r < many; r++) {
    const row = { index: r };
    for (let c = 0; c < names.length; c++) {
      const value = lists[c][r];
      row[names[c]] = value !== null && MICROSECONDS.includes(names[c]) ? value / 1000 : value;
    }
    out[r] = row;
  }
  return out;
}

function clock(ms, digits = 3) {
  if (ms === null || ms === undefined) return "time not known";
  const unit = 10 ** (3 - digits);
  const d = new Date(Math.floor((page.base + ms) / unit + 1e-6) * unit);
  const fraction = digits > 0 ? "." + pad(d.getUTCMilliseconds(), 3).slice(0, digits) : "";
  return `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}${fraction}`;
}
const day = (ms) => new Date(page.base + ms).toISOString().slice(0, 10);

const page = {}; // what the file holds
const state = { from: 0, to: 1, families: new Set(), code: "", service: "", project: "", search: "", incident: "", inView: false, selected: null, sort: "t", down: false, at: 0 };

function codeOf(c) {
  if (c.code !== null) return String(c.code);
  if (c.http !== null && c.http !== 101) return `HTTP ${c.http}`; // 101 says that it opened, not how it closed
  return "none";
}
const client = (c) => (c.client_address ? `${c.client_address}${c.client_port !== null ? `:${c.client_port}` : ""}` : "not known");
const half = (c) => (c.lo === null || c.hi === null ? null : (c.hi - c.lo) / 2);
const errorOf = (c) => (half(c) === null ? "open" : `±${length(half(c))}`);
const lastedOf = (c) => (c.established === false ? "refused" : length(c.lasted));

// What the search looks through: all that is known of the close, and its evidence; put together when it is first asked for.
const textOf = (c) => (c.text ??= [c.close_id, c.conn_id, client(c), codeOf(c), c.reason, c.cause, page.titles[c.cause], c.family, c.verdict, c.service, c.project, c.via, c.incident_id, ...c.evidence.map((e) => `${e.file}:${e.line} ${e.said || ""}`)].join(" ").toLowerCase());

async function load() {
  Object.assign(page, JSON.parse(await unpack("page-data")));
  page.closes = rows(page.closes);
  page.evidence = rows(page.evidence);
  page.events = rows(page.events);
  for (const lane of page.lanes) {
    lane.spans = lane.spans.map(([kind, from, to]) => ({ kind, from: from === null ? null : from / 1000, to: to === null ? null : to / 1000 }));
    lane.labels = lane.labels.map(([t, text, loud]) => ({ t: t / 1000, text, loud }));
  }
  for (const i of page.incidents) for (const side of ["start", "end"]) if (i[side] !== null) i[side] /= 1000;
  page.byId = new Map();
  for (const c of page.closes) {
    c.evidence = [];
    c.x = c.t ?? c.hi ?? c.lo; // an open side leaves the bound that is known
    page.byId.set(c.close_id, c);
  }
  for (const e of page.evidence) if (page.closes[e.close]) page.closes[e.close].evidence.push(e);
  page.byNumber = new Map(page.incidents.map((i) => [i.id, i]));
  page.projects = [...new Set([...page.closes, ...page.lanes, ...page.events].map((r) => r.project || ""))].sort();
  const times = [...page.closes.flatMap((c) => [c.x, c.opened]), ...page.events.map((e) => e.t)].filter((t) => t !== null);
  let first = Infinity, last = -Infinity;
  for (const t of times) { if (t < first) first = t; if (t > last) last = t; }
  page.first = times.length ? first : 0;
  page.last = times.length ? Math.max(last, first + 1) : 1000;
}
