// Draws lanes and marks with plotly. Text that plotly shows is text of this program or cleaned of its markup.
let plotted = null;

const cut = (text, most = 120) => (text && text.length > most ? text.slice(0, most) + "…" : text || "");

function draw(printing = false) {
  if (!window.Plotly) return;
  const box = $("#plot");
  const width = printing ? 900 : box.clientWidth;
  if (width < 50) return;
  const { lanes, height } = laneTable();
  const px = (t) => ((t - state.from) / (state.to - state.from)) * width;
  const traces = [], shapes = [], notes = [];
  const clip = (a, b) => [Math.max(a ?? -Infinity, state.from), Math.min(b ?? Infinity, state.to)];

  dense.strokes = []; dense.lanes = [];
  const marks = lanes.filter((l) => l.kind === "ticks").reduce((n, l) => n + strokesOf(l, px).reduce((m, level) => m + level.length, 0), 0);
  const byGl = marks > WEBGL_FROM && !printing && webgl();
  for (const project of page.projects) block(lanes.filter((l) => l.project === project && l.kind !== "fold"), project, shapes, clip);
  for (const lane of lanes) {
    if (lane.kind === "life") drawLife(lane, traces, notes, shapes, clip, px);
    else if (lane.kind === "connections") drawConnections(lane, traces, clip);
    else if (lane.kind === "family") drawFamily(lane, traces, px, clip);
    else if (lane.kind === "ticks") drawTicks(lane, traces, byGl);
  }
  drawSelection(lanes, traces, shapes, height);
  const ticks = axisTicks(width);
  const layout = {
    width, height: height + 40, margin: { l: 0, r: 0, t: 0, b: 40 }, paper_bgcolor: css("ground"), plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif', size: 12, color: css("muted") }, showlegend: false, barmode: "overlay", bargap: 0,
    hovermode: "closest", hoverlabel: { bgcolor: css("panel"), bordercolor: css("line"), font: { color: css("ink"), size: 12 }, align: "left" }, dragmode: "zoom",
    xaxis: { range: [state.from, state.to], tickmode: "array", tickvals: ticks.values, ticktext: ticks.texts, gridcolor: css("grid"), linecolor: css("muted"), showline: true, zeroline: false, ticks: "outside", tickcolor: css("muted"), ticklen: 4 },
    yaxis: { range: [height, 0], fixedrange: true, visible: false }, shapes, annotations: notes, uirevision: "fixed",
  };
  box.style.height = `${height + 40}px`;
  Plotly.react(box, traces, layout, { displayModeBar: false, doubleClick: false, responsive: false });
  if (!plotted) listen(box);
  plotted = { lanes, width };
  drawDense(width, height);
  labelLanes(lanes, height);
  badges(width, px);
  strip();
  $("#origin").textContent = (ticks.origin ? `Second line of the axis: since incident ${ticks.origin.number} began.` : "") + (page.binned ? ` ${page.binned.toLocaleString("en")} further lines are not drawn one by one.` : "");
}

function block(lanes, project, shapes, clip) {
  const body = lanes.filter((l) => l.kind !== "space" && l.kind !== "project");
  if (!body.length) return;
  const y0 = body[0].top, y1 = body.at(-1).top + body.at(-1).height;
  for (const i of page.incidents) {
    if (i.family === "client" || i.start === null || !(i.projects.includes(project) || i.projects[0] === "")) continue;
    const [x0, x1] = clip(i.start, i.end ?? i.start);
    if (x1 >= x0) shapes.push({ type: "rect", x0, x1, y0, y1, layer: "below", line: { width: 0 }, fillcolor: colour(i.family), opacity: state.incident === i.id ? 0.16 : 0.09 });
  }
  for (const l of body.filter((b) => b.kind === "life" && b.life.gateway))
    for (const s of l.life.spans) {
      const [x0, x1] = clip(s.from, s.to);
      if (["down", "paused", "cut off"].includes(s.kind) && x1 > x0) shapes.push({ type: "rect", x0, x1, y0, y1, layer: "below", line: { width: 0 }, fillcolor: css("restart"), opacity: 0.13 });
    }
  for (const l of body.filter((b) => b.kind === "family" || b.kind === "ticks"))
    shapes.push({ type: "line", x0: 0, x1: 1, xref: "paper", y0: l.y, y1: l.y, layer: "below", line: { color: css("grid"), width: 1 } });
}

function drawLife(lane, traces, notes, shapes, clip, px) {
  const y = lifeY(lane);
  const looks = {
    up: { color: css("up") }, starting: { color: css("ground"), pattern: { shape: "/", fgcolor: css("hatch"), size: 8, solidity: 0.25 } },
    down: { color: css("ground"), line: { color: css("restart"), width: 1.5 } }, unhealthy: { color: css("up"), pattern: { shape: "x", fgcolor: css("restart"), size: 8, solidity: 0.2 } },
    paused: { color: css("ground"), line: { color: css("hatch"), width: 1.5 } }, "cut off": { color: css("ground"), line: { color: css("network"), width: 1.5 } },
    reload: { color: css("restart"), line: { color: css("restart"), width: 1 } },
  };
  const written = new Set();
  const least = (state.to - state.from) / px(state.to) * 3; // a moment is 3 px wide
  for (const kind of Object.keys(looks)) {
    const spans = lane.life.spans.filter((s) => s.kind === kind).map((s) => [...clip(s.from, kind === "reload" && s.to - s.from < least ? s.from + least : s.to), s]).filter(([a, b]) => b > a);
    if (!spans.length) continue;
    traces.push({
      type: "bar", orientation: "h", base: spans.map((s) => s[0]), x: spans.map((s) => s[1] - s[0]), y: spans.map(() => y), width: spans.map(() => lane.high), marker: looks[kind],
      hovertemplate: spans.map(([, , s]) => `${bare(lane.label)} ${kind}<br>${s.from === null ? "from before the logs" : clock(s.from)} to ${s.to === null ? "the end of the logs" : clock(s.to)}${s.from !== null && s.to !== null ? `<br>${length(s.to - s.from)}` : ""}<extra></extra>`),
    });
    if (!lane.life.gateway) continue;
    for (const [a, b] of spans) {
      const words = { starting: "starting", unhealthy: "unhealthy", paused: "paused", down: "down", "cut off": "cut off" }[kind];
      if (!words || px(b) - px(a) <= words.length * 7 + 10) continue;
      written.add(words);
      notes.push({ x: a, y, text: words, showarrow: false, xanchor: "left", xshift: 3, font: { size: 12, color: css("ink") }, bgcolor: kind === "starting" ? css("ground") : undefined });
    }
  }
  if (lane.height < 30) return;
  // Loud labels take their place first: an OOM must not give way to the exit that follows it.
  const inside = lane.life.labels.filter((l) => l.t >= state.from && l.t <= state.to), taken = [];
  for (const l of [...inside.filter((i) => i.loud), ...inside.filter((i) => !i.loud)]) {
    if (written.has(l.text)) continue; // the bar below says it already
    const from = px(l.t), to = from + l.text.length * 7 + 6;
    if (taken.some(([a, b]) => from < b && to > a) || to > px(state.to) + 20) continue;
    taken.push([from, to]);
    notes.push({ x: l.t, y: lane.life.gateway ? lane.top + 10 : lane.top + 8, text: l.loud ? `<b>${bare(l.text)}</b>` : bare(l.text), showarrow: false, xanchor: "left", xshift: -1, font: { size: 12, color: l.loud ? css("restart") : css("muted") } });
  }
}

const lifeY = (lane) => (lane.life.gateway ? lane.top + 30 : lane.height < 30 ? lane.y : lane.top + 22);

function drawConnections(lane, traces, clip) {
  const { spans, steps } = lane.open;
  if (steps) {
    const turns = spans.flatMap((s) => [[s.from, 1], [s.to, -1]]).sort((a, b) => a[0] - b[0]);
    let open = 0, most = 1;
    const x = [], n = [];
    for (const [t, d] of turns) { open += d; most = Math.max(most, open); if (x.length && px0(t) === px0(x.at(-1))) n[n.length - 1] = open; else { x.push(t); n.push(open); } }
    traces.push({ type: "scatter", mode: "lines", x, y: n.map((v) => lane.top + 48 - (v / most) * 42), line: { color: css("conn"), width: 1.5, shape: "hv" }, fill: "none", text: n.map((v) => `${v} open`), hovertemplate: `%{text}, most ${most}<extra></extra>` });
    lane.label = `open, max ${most}`;
    return;
  }
  const x = [], y = [], cutX = {}, cutY = {};
  for (const s of spans) {
    const row = lane.top + 6 + s.row * 4, [a, b] = clip(s.from, s.to);
    x.push(a, b, null); y.push(row, row, null);
    if (s.c.family !== "client" && s.to <= state.to) { (cutX[s.c.family] ||= []).push(s.to, s.to, null); (cutY[s.c.family] ||= []).push(row - 2.5, row + 2.5, null); }
  }
  traces.push({ type: "scatter", mode: "lines", x, y, line: { color: css("conn"), width: 2 }, hoverinfo: "skip" });
  for (const family of Object.keys(cutX)) traces.push({ type: "scatter", mode: "lines", x: cutX[family], y: cutY[family], line: { color: colour(family), width: 2.5 }, hoverinfo: "skip" });
}
const px0 = (t) => Math.round(((t - state.from) / (state.to - state.from)) * 2000);

function drawFamily(lane, traces, px, clip) {
  const calm = lane.family === "client", tint = colour(lane.family), groups = joined(lane.closes, px);
  const unit = (state.to - state.from) / px(state.to);
  const barX = [], barY = [], whiskX = [], whiskY = [], shown = groups.length < 1500;
  for (const g of groups) {
    if (g.lastX - g.firstX > 4) { barX.push(g.first, g.last, null); barY.push(lane.y, lane.y, null); }
    if (g.closes.length > 1 || !shown) continue;
    const c = g.closes[0], [a, b] = clip(c.lo, c.hi);
    const size = calm ? 8 : 13;
    if ((c.x - a) / unit > size / 2 || (b - c.x) / unit > size / 2) {
      whiskX.push(a, b, null, a, a, null, b, b, null); whiskY.push(lane.y, lane.y, null, lane.y - 4, lane.y + 4, null, lane.y - 4, lane.y + 4, null);
    }
  }
  if (whiskX.length) traces.push({ type: "scatter", mode: "lines", x: whiskX, y: whiskY, line: { color: tint, width: 1.2 }, opacity: 0.7, hoverinfo: "skip" });
  if (barX.length) traces.push({ type: "scatter", mode: "lines", x: barX, y: barY, line: { color: tint, width: calm ? 2 : 5 }, hoverinfo: "skip" });
  if (!groups.length) return;
  traces.push({
    type: "scatter", mode: "markers+text", x: groups.map((g) => g.first), y: groups.map(() => lane.y), cliponaxis: false,
    text: groups.map((g) => (g.n > 1 ? String(g.n) : "")), textposition: "top center", textfont: { size: calm ? 11 : 12, color: css(calm ? "muted" : "ink") },
    marker: { symbol: SHAPES[lane.family] || "circle-open", color: tint, opacity: 1, size: groups.map((g) => (calm ? 8 : 11) + Math.min(calm ? 4 : 8, Math.log2(g.n) * 1.2)), line: { width: lane.family === "unknown" ? 2.4 : 0, color: tint } },
    customdata: groups.map((g) => g.closes.map((c) => c.index)),
    hovertemplate: groups.map((g) => {
      const c = g.closes[0], origin = originOf();
      const since = origin ? ` (${signed(c.x - origin.start)})` : "";
      return `${clock(c.x)} ${errorOf(c)}${since}<br>${g.n > 1 ? `${g.n} closes in ${length(g.last - g.first)}: ${[...new Set(g.closes.map((i) => i.cause))].slice(0, 4).join(", ")}` : `${bare(c.cause)}, ${percent(c.p)}, ${page.sure[c.verdict] || ""}<br>${bare(codeOf(c))} ${bare(client(c))}`}<extra></extra>`;
    }),
  });
}

// Lines of a lane as strokes, by severity; strokes nearer than two can be told apart become one.
function strokesOf(lane, px) {
  const levels = [[], [], []], last = [-9, -9, -9];
  for (const e of lane.events) {
    if (e.t < state.from || e.t > state.to) continue;
    const x = px(e.t);
    if (x - last[e.severity] < NARROW) { levels[e.severity].at(-1).n += 1; continue; }
    last[e.severity] = x;
    levels[e.severity].push({ e, x, n: 1 });
  }
  lane.levels = levels;
  return levels;
}
function drawTicks(lane, traces, byGl) {
  const tints = [css("conn"), css("timeout"), css("restart")];
  if (byGl) {
    dense.lanes.push({ top: lane.top, height: lane.height, hits: lane.levels.flat() });
    lane.levels.forEach((ticks, level) => { const tint = rgb(tints[level]); for (const t of ticks) dense.strokes.push([t.x, lane.y, level ? 12 : 8, level ? 1.8 : 1.2, ...tint]); });
    return;
  }
  lane.levels.forEach((ticks, level) => {
    if (!ticks.length) return;
    traces.push({
      type: "scatter", mode: "markers", x: ticks.map((t) => t.e.t), y: ticks.map(() => lane.y), marker: { symbol: "line-ns", size: level ? 12 : 8, opacity: 1, line: { color: tints[level], width: level ? 1.8 : 1.2 } },
      hovertemplate: ticks.map(({ e, n }) => `${clock(e.t)} ${bare(e.file)}:${e.line}<br>${bare(cut(e.text, 110))}${n > 1 ? `<br>and ${n - 1} more here` : ""}<extra></extra>`),
    });
  });
}

function drawSelection(lanes, traces, shapes, height) {
  const c = state.selected;
  if (!c || c.x === null) return;
  const lane = lanes.find((l) => l.kind === "family" && l.closes.includes(c));
  if (!lane) return;
  const accent = css("select"), own = lanes.filter((l) => l.project === lane.project && l.kind !== "fold");
  shapes.push({ type: "line", x0: c.x, x1: c.x, y0: own[0].top, y1: own.at(-1).top + own.at(-1).height, line: { color: accent, width: 1.5 } });
  const from = c.opened ?? (c.lasted === null ? null : c.x - c.lasted);
  if (from !== null) traces.push({ type: "scatter", mode: "lines", x: [Math.max(from, state.from), c.x], y: [lane.y, lane.y], line: { color: accent, width: 2.5 }, hoverinfo: "skip" });
  traces.push({ type: "scatter", mode: "markers", x: [c.x], y: [lane.y], marker: { symbol: "circle-open", size: 22, color: accent, line: { width: 2 }, opacity: 1 }, hoverinfo: "skip" });
  const x = [], y = [];
  for (const e of c.evidence) {
    const lines = own.filter((l) => l.kind === "ticks" && l.source === kindOf(e));
    const home = lines.find((l) => l.service === undefined || l.service === (e.service || "")) || lines[0];
    const t = e.t ?? (e.delta === null ? null : c.x + e.delta);
    if (home && t !== null) { x.push(t); y.push(home.y); }
  }
  if (x.length) traces.push({ type: "scatter", mode: "markers", x, y, marker: { symbol: "line-ns", size: 16, line: { color: accent, width: 3 }, opacity: 1 }, hoverinfo: "skip" });
}

function labelLanes(lanes, height) {
  const box = $("#lanes");
  box.style.height = `${height}px`;
  box.replaceChildren(...lanes.filter((l) => l.label).map((l) => {
    const node = el("span", { class: l.kind, style: `top:${l.kind === "life" ? lifeY(l) : l.y}px`, title: l.label });
    if (l.kind === "family") node.append(mark(l.family));
    node.append(l.label);
    return node;
  }));
}

function badges(width, px) {
  let last = -99;
  const seen = page.incidents.filter((i) => i.start !== null && i.start >= state.from && i.start <= state.to && i.family !== "client").sort((a, b) => a.start - b.start);
  $("#badges").replaceChildren(...seen.map((i) => {
    const x = Math.max(px(i.start), last + 21);
    last = x;
    return el("button", { type: "button", style: `left:${Math.min(x, width - 10)}px`, "aria-label": `Incident ${i.number}: ${i.title}`, onclick: () => chooseIncident(i.id) }, String(i.number));
  }));
}

function strip() {
  const box = $("#strip"), canvas = $("canvas", box), width = box.clientWidth, scale = window.devicePixelRatio || 1;
  canvas.width = width * scale; canvas.height = 28 * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const [first, last] = widened(page.first, page.last, 0.01), bins = new Map();
  for (const c of page.closes) {
    if (c.x === null) continue;
    const at = Math.floor(((c.x - first) / (last - first)) * width / 3), bin = bins.get(at) || {};
    bin[c.family] = (bin[c.family] || 0) + c.n;
    bins.set(at, bin);
  }
  for (const [at, bin] of bins) {
    let y = 27;
    for (const family of [...page.families].reverse()) {
      if (!bin[family]) continue;
      const high = Math.min(y - 1, 2 + Math.log2(1 + bin[family]) * 4);
      pen.fillStyle = colour(family);
      pen.fillRect(at * 3, y - high, 2, high);
      y -= high;
    }
  }
  const left = ((state.from - first) / (last - first)) * width, right = ((state.to - first) / (last - first)) * width;
  $("#window").style.cssText = `left:${Math.max(0, left)}px;width:${Math.max(3, Math.min(width, right) - Math.max(0, left))}px`;
}

function listen(box) {
  box.addEventListener("mousemove", tip);
  box.addEventListener("mouseleave", () => { $("#tip").hidden = true; });
  box.on("plotly_relayout", (change) => {
    const a = change["xaxis.range[0]"], b = change["xaxis.range[1]"];
    if (a !== undefined && b - a > 1) look(Number(a), Number(b));
  });
  box.on("plotly_doubleclick", () => look(...homeWindow()));
  box.on("plotly_click", ({ points }) => {
    const closes = points[0] && points[0].customdata;
    if (!closes) return;
    const first = page.closes[closes[0]], last = page.closes[closes.at(-1)];
    if (closes.length > 1 && last.x - first.x > 1) look(...widened(first.x, last.x, 0.15));
    select(first);
  });
}
