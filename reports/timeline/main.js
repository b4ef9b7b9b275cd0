// What a person does, and what follows from it. The address holds the selected close, so that a ticket can point at it.
function announce(text) { $("#status").textContent = text; }
function count() {
  const n = page.shown.filter((c) => c.x !== null && c.x >= state.from && c.x <= state.to).length;
  const timeless = page.shown.filter((c) => c.x === null).length;
  announce(`${n.toLocaleString("en")} of ${page.closes.length.toLocaleString("en")} closes in view, ${length(state.to - state.from)}${timeless ? `; ${timeless} without a time` : ""}`);
}
function refresh() {
  filterCloses(); table(); draw(); count();
  for (const card of $$(".card")) card.classList.toggle("active", card.dataset.incident === state.incident);
}
function look(from, to) {
  state.from = from; state.to = Math.max(to, from + 1);
  if (state.inView) { filterCloses(); table(); }
  draw(); count();
}
function select(c, { quiet = false, move = true } = {}) {
  state.selected = c;
  if (c && !page.listed.includes(c) && move) clearFilters();
  panel();
  if (c) {
    turnTo(c);
    if (c.x !== null && (c.x < state.from || c.x > state.to)) {
      const width = state.to - state.from;
      look(c.x - width / 2, c.x + width / 2);
    } else draw();
    announce(`${clock(c.x)} ${c.cause}, ${percent(c.p)}, ${page.sure[c.verdict] || c.verdict}, ${c.evidence.length} lines of evidence`);
  } else { markRows(); draw(); count(); }
  if (!quiet) {
    // A file's address cannot be pushed everywhere; replacing is enough, and keeps the way back free.
    const hash = c ? linkOf(c) : "#";
    try { history.replaceState(null, "", hash); } catch { location.hash = hash; }
  }
}
function step(by) {
  if (!page.listed.length) return;
  const place = page.listed.indexOf(state.selected);
  const start = place < 0 ? (by > 0 ? page.listed.findIndex((c) => c.x !== null && c.x >= state.from) : 0) : place + by;
  select(page.listed[Math.max(0, Math.min(page.listed.length - 1, start))]);
  const row = $('#table tr[aria-selected="true"]');
  if (row && document.activeElement && document.activeElement.closest("#table")) row.focus();
}
function clearFilters(incident = "") {
  Object.assign(state, { code: "", service: "", project: "", search: "", incident, inView: false });
  state.families.clear();
  for (const id of ["code", "service", "project", "search"]) $(`#${id}`).value = "";
  $("#in-view").checked = false;
  $$(".chip").forEach((chip) => chip.setAttribute("aria-pressed", "false"));
  refresh();
}
function chooseIncident(id) {
  if (state.incident === id) { state.incident = ""; [state.from, state.to] = homeWindow(); refresh(); return; }
  const i = page.byNumber.get(id);
  if (!i) return;
  const own = page.closes.filter((c) => c.incident_id === id && c.x !== null);
  const from = Math.min(i.start ?? Infinity, ...own.slice(0, 1).map((c) => c.x)), to = Math.max(i.end ?? -Infinity, ...own.slice(-1).map((c) => c.x));
  if (Number.isFinite(from) && Number.isFinite(to)) [state.from, state.to] = widened(from, to, 0.12);
  clearFilters(id); // another filter could hide the very closes that were asked for
  if (own.length && (!state.selected || state.selected.incident_id !== id)) select(tellingOf(i, own));
}
// The close that the incident's first proof belongs to: what the heading says stands in the panel beside it.
const tellingOf = (i, own) => page.byId.get(i.proof) || own.find((c) => c.evidence.length) || own[0];
function nextIncident(by) {
  const order = page.incidents.filter((i) => i.start !== null).sort((a, b) => a.start - b.start), place = order.findIndex((i) => i.id === state.incident);
  const next = order[place < 0 ? (by > 0 ? 0 : order.length - 1) : place + by];
  if (next) chooseIncident(next.id);
}
function follow() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("close");
  if (!wanted) return;
  const c = page.byId.get(wanted);
  if (c) select(c, { quiet: true }); else announce(`No close has the id ${wanted}`);
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#keys").open) return;
  const typing = ["INPUT", "SELECT"].includes(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "Escape") {
    if (typing) { event.target.blur(); return; }
    state.incident = ""; [state.from, state.to] = homeWindow(); select(null); refresh();
    return;
  }
  if (typing) { if (event.key === "Enter") { event.preventDefault(); step(1); event.target.blur(); } return; }
  const table = event.target.closest && event.target.closest("#table"), middle = (state.from + state.to) / 2, width = state.to - state.from;
  const acts = {
    j: () => step(1), k: () => step(-1), "/": () => $("#search").focus(), "?": () => $("#keys").showModal(), t: () => $("#theme").click(),
    0: () => { state.incident = ""; [state.from, state.to] = homeWindow(); refresh(); }, "+": () => look(middle - width / 4, middle + width / 4), "-": () => look(middle - width, middle + width),
    "]": () => nextIncident(1), "[": () => nextIncident(-1), w: () => look(middle - width / 4, middle + width / 4), s: () => look(middle - width, middle + width),
    a: () => look(state.from - width / 3, state.to - width / 3), d: () => look(state.from + width / 3, state.to + width / 3),
    ArrowDown: () => step(1), ArrowUp: () => step(-1),
    Enter: () => { if (event.target.closest && event.target.closest("button, a, summary")) return false; if (table) { const row = event.target.closest("tr[data-index]"); if (row) select(page.closes[Number(row.dataset.index)]); } $("#panel").focus(); return true; },
  };
  // Arrows scroll the page unless somebody is walking the closes already.
  if (event.key.startsWith("Arrow") && !table && !state.selected) return;
  if (/^[1-9]$/.test(event.key)) { const i = page.incidents.find((n) => n.number === Number(event.key)); if (i) chooseIncident(i.id); return; }
  if (acts[event.key] && acts[event.key]() !== false) event.preventDefault();
}

function options(id, label, of) {
  const values = [...new Set(page.closes.map(of))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const box = $(`#${id}`);
  box.replaceChildren(el("option", { value: "" }, `any ${label}`), ...values.filter(Boolean).map((v) => el("option", { value: v }, v)));
  box.hidden = values.length < 2;
  box.addEventListener("change", () => { state[id] = box.value; state.at = 0; refresh(); });
}

function bind() {
  options("code", "code", codeOf); options("service", "service", (c) => c.service || ""); options("project", "project", (c) => c.project || "");
  $(".bar").addEventListener("submit", (event) => event.preventDefault());
  let wait = 0;
  $("#search").addEventListener("input", (event) => { clearTimeout(wait); wait = setTimeout(() => { state.search = event.target.value; state.at = 0; refresh(); }, 120); });
  for (const chip of $$(".chip")) chip.addEventListener("click", () => {
    const { family } = chip.dataset, on = !state.families.has(family);
    if (on) state.families.add(family); else state.families.delete(family);
    chip.setAttribute("aria-pressed", String(on)); state.at = 0; refresh();
  });
  $("#home").addEventListener("click", () => { state.incident = ""; [state.from, state.to] = widened(page.first, page.last, 0.02); clearFilters(); });
  $("#in-view").addEventListener("change", (event) => { state.inView = event.target.checked; state.at = 0; refresh(); });
  $("#previous").addEventListener("click", () => { state.at -= PAGE; table(); });
  $("#next").addEventListener("click", () => { state.at += PAGE; table(); });
  $("#table tbody").addEventListener("click", (event) => { const row = event.target.closest("tr"); if (row) select(page.closes[Number(row.dataset.index)]); });
  for (const card of $$(".card")) card.addEventListener("click", (event) => { if (!event.target.closest("a")) chooseIncident(card.dataset.incident); });
  const more = $("#more");
  if (more) more.addEventListener("click", () => { const all = $(".cards").classList.toggle("all"); more.setAttribute("aria-expanded", String(all)); });
  $("#help").addEventListener("click", () => $("#keys").showModal());
  followTheme(draw);
  document.addEventListener("keydown", keys);
  addEventListener("hashchange", follow);
  let seen = 0;
  new ResizeObserver(([entry]) => { if (Math.abs(entry.contentRect.width - seen) > 1 && !matchMedia("print").matches) { seen = entry.contentRect.width; draw(); } }).observe($("#plot-box"));
  const box = $("#strip");
  let start = null;
  const at = (event) => { const r = box.getBoundingClientRect(), [a, b] = widened(page.first, page.last, 0.01); return a + ((event.clientX - r.left) / r.width) * (b - a); };
  box.addEventListener("pointerdown", (event) => { start = at(event); box.setPointerCapture(event.pointerId); });
  box.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const end = at(event), width = state.to - state.from, drag = Math.abs(end - start) > (page.last - page.first) / 200;
    look(...(drag ? [Math.min(start, end), Math.max(start, end)] : [end - width / 2, end + width / 2]));
    start = null;
  });
}

function fail(text) { const box = $("#failure"); box.textContent = text; box.hidden = false; }

(async () => {
  if (!canUnpack()) { fail("This browser cannot unpack the page's data: Chrome 80, Firefox 113, Safari 16.4 or later can. report.md holds the same verdicts."); return; }
  try {
    await load();
    [state.from, state.to] = homeWindow();
    filterCloses(); table(); bind(); count(); follow();
    await startPlotly();
    draw();
    const worst = page.incidents.find((i) => i.family !== "client");
    const first = worst && tellingOf(worst, page.closes.filter((c) => c.incident_id === worst.id));
    if (!state.selected && first) { select(first, { quiet: true }); count(); }
    performance.mark("picture");
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    fail(`The picture could not be drawn: ${error.message}. The table and report.md hold the same closes.`);
    console.error(error);
  }
})();
