// The accessible view: every close is a row; at most 200 rows stand in the document at once. What is `wide` is left to the
// panel where the window is narrow.
const PAGE = 200;
const COLUMNS = [
  ["incident", "#", (c) => { const i = page.byNumber.get(c.incident_id); return i ? String(i.number) : "·"; }, ""],
  ["t", "UTC", (c) => (c.t === null ? openTime(c) : clock(c.t)), "mono"],
  ["error", "error", errorOf, "mono right wide"],
  ["project", "project", (c) => c.project || "", "wide"],
  ["client", "client", client, "mono"],
  ["via", "via", (c) => c.via || "", "wide"],
  ["code", "code", codeOf, "mono"],
  ["lasted", "lasted", lastedOf, "mono right wide"],
  ["cause", "cause", (c) => c.cause, ""],
  ["p", "sure", (c) => percent(c.p), "mono right wide"],
  ["verdict", "verdict", (c) => c.verdict, "wide"],
  ["proof", "first proof", (c) => { const e = c.evidence.find((i) => i.role !== "contradicts"); return e ? `${e.file}:${e.line}` : "none"; }, "mono long wide"],
];
const SORTERS = { incident: (c) => page.byNumber.get(c.incident_id)?.number ?? 1e9, t: (c) => c.x ?? Infinity, error: (c) => half(c) ?? Infinity, client, code: (c) => c.code ?? c.http ?? 0, lasted: (c) => (c.established === false ? -1 : c.lasted ?? Infinity), p: (c) => c.p ?? -1 };

function filterCloses() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  page.shown = page.closes.filter((c) => (!state.families.size || state.families.has(c.family)) && (!state.code || codeOf(c) === state.code) && (!state.service || (c.service || "") === state.service)
    && (!state.project || (c.project || "") === state.project) && (!state.incident || c.incident_id === state.incident) && words.every((w) => textOf(c).includes(w)));
  page.listed = page.shown.filter((c) => !state.inView || (c.x !== null && c.x >= state.from && c.x <= state.to));
  const of = SORTERS[state.sort] || COLUMNS.find(([id]) => id === state.sort)[2], way = state.down ? -1 : 1;
  page.listed.sort((a, b) => { const x = of(a), y = of(b); return (x < y ? -1 : x > y ? 1 : a.index - b.index) * way; });
}

function table() {
  state.at = Math.max(0, Math.min(state.at, Math.floor((page.listed.length - 1) / PAGE) * PAGE));
  $("#table thead tr").replaceChildren(...COLUMNS.map(([id, label, , look]) => {
    const sorted = state.sort === id;
    return el("th", { scope: "col", class: look.split(" ").filter((l) => l === "right" || l === "wide").join(" ") || null, "aria-sort": sorted ? (state.down ? "descending" : "ascending") : null },
      el("button", { type: "button", onclick: () => { state.down = sorted && !state.down; state.sort = id; refresh(); } }, label + (sorted ? (state.down ? " ↓" : " ↑") : "")));
  }));
  const part = page.listed.slice(state.at, state.at + PAGE);
  $("#table tbody").replaceChildren(...part.map((c, n) => {
    const row = el("tr", { "data-close": c.close_id, "data-index": c.index, class: c.family === "client" ? "calm" : null });
    for (const [id, , say, look] of COLUMNS) {
      const cell = el("td", { class: look || null });
      if (id === "cause") cell.append(mark(c.family));
      cell.append(say(c));
      if (id === "cause" && c.n > 1) cell.append(` ×${c.n}`);
      row.append(cell);
    }
    markRow(row, c, n);
    return row;
  }));
  const last = Math.min(page.listed.length, state.at + PAGE);
  $("#range").textContent = page.listed.length ? `${state.at + 1} to ${last} of ${page.listed.length.toLocaleString("en")}${page.listed.length < page.closes.length ? `, ${page.closes.length.toLocaleString("en")} in all` : ""}` : "none fits the filter";
  $("#previous").disabled = state.at === 0;
  $("#next").disabled = last >= page.listed.length;
}
function markRow(row, c, n) {
  const chosen = c === state.selected;
  row.setAttribute("aria-selected", String(chosen));
  row.tabIndex = chosen || (n === 0 && !page.listed.slice(state.at, state.at + PAGE).includes(state.selected)) ? 0 : -1;
}
function markRows() {
  $$("#table tbody tr").forEach((row, n) => markRow(row, page.closes[Number(row.dataset.index)], n));
}
// Brings the selected close's page into the table.
function turnTo(c) {
  const place = page.listed.indexOf(c);
  if (place < 0) return;
  const at = Math.floor(place / PAGE) * PAGE;
  if (at !== state.at) { state.at = at; table(); } else markRows();
}
