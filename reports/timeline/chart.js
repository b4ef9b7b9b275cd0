// Where things stand in the picture: the window in time, and the lanes from clients down to the engine.
const SHAPES = { restart: "square", timeout: "hourglass", auth: "diamond", protocol: "pentagon", network: "x", overload: "triangle-up", unreachable: "triangle-down", unknown: "circle-open", client: "circle" };
const JOIN = 12, JOIN_MOST = 36; // px: marks nearer than the first join, into a mark that spans at most the second
const WHOLE = 120000; // ms: what is shorter opens whole, gaps and all
const NARROW = 2; // px between two ticks of lines that can still be told apart

const colour = (family) => css(SHAPES[family] ? family : "unknown");

// The stretch of activity that holds the worst incident: a long silence elsewhere would squeeze it to nothing.
function homeWindow() {
  const times = page.closes.map((c) => c.x).filter((t) => t !== null).sort((a, b) => a - b);
  const worst = page.incidents.find((i) => i.start !== null);
  if (!times.length || !worst) return widened(times.length ? times[0] : page.first, times.length ? times.at(-1) : page.last);
  const span = times.at(-1) - times[0], at = worst.start;
  if (span < WHOLE) return widened(Math.min(times[0], worst.start), times.at(-1));
  let from = times[0], to = times.at(-1);
  for (let i = 1; i < times.length; i++) {
    if (times[i] - times[i - 1] <= span / 4) continue;
    if (times[i - 1] < at && times[i] <= at + 1) from = times[i];
    else if (times[i] > at) { to = times[i - 1]; break; }
  }
  from = Math.min(from, worst.start);
  to = Math.max(to, worst.start, Math.min(worst.end ?? worst.start, times.at(-1)));
  return widened(from, to);
}
function widened(from, to, share = 0.05) {
  const room = Math.max((to - from) * share, 500);
  return [from - room, to + room];
}

function laneTable() {
  const lanes = [];
  let y = 0;
  const add = (height, lane) => { lanes.push({ ...lane, top: y, y: y + height / 2, height }); y += height; };
  const inWindow = (t) => t !== null && t >= state.from && t <= state.to;
  for (const project of page.projects) {
    const closes = page.shown.filter((c) => c.project === project || (!project && !c.project));
    const lives = page.lanes.filter((l) => l.project === project);
    const seen = closes.some((c) => inWindow(c.x));
    const lived = lives.some((l) => l.spans.some((s) => (s.from ?? -Infinity) <= state.to && (s.to ?? Infinity) >= state.from));
    const events = page.events.filter((e) => (e.project || "") === project);
    const heard = events.some((e) => inWindow(e.t));
    if (!seen && page.projects.length > 1 && ((!lived && !heard) || (project && !closes.length))) {
      if (closes.length) add(22, { kind: "fold", project, label: `${project || "no project"}: ${closes.length} closes outside this window` });
      continue;
    }
    if (project || page.projects.length > 1) add(22, { kind: "project", project, label: project || "no project" });
    // In the way of a look: what the gateway did, what that did to connections, then the lines of each source.
    for (const life of lives.filter((l) => l.gateway)) add(44, { kind: "life", project, label: life.name, life, high: 20 });
    const open = pack(closes);
    if (open.height) add(open.height + 8, { kind: "connections", project, label: "connections", open });
    for (const family of [...page.families, ...new Set(closes.map((c) => c.family))].filter((f, i, all) => all.indexOf(f) === i)) {
      const own = closes.filter((c) => c.family === family && c.x !== null);
      if (own.length) add(30, { kind: "family", project, family, label: family, closes: own });
    }
    // A sidecar that was gone all the time is no news.
    const apart = lives.filter((l) => !l.gateway && l.spans.some((s) => s.kind !== "down" && (s.from ?? -Infinity) <= state.to && (s.to ?? Infinity) >= state.from)), proxies = apart.filter((l) => PROXY.test(l.name));
    for (const life of proxies) addLife(add, project, life);
    addLines(add, project, "cli", "CLI", events);
    addLines(add, project, "proxy", "proxy", events);
    addLines(add, project, "gateway", "gateway", events);
    for (const life of apart.filter((l) => !proxies.includes(l))) addLife(add, project, life);
    addLines(add, project, "docker", "engine", events);
    add(10, { kind: "space", project, label: "" });
  }
  return { lanes, height: Math.max(y, 60) };
}

const PROXY = /nginx|haproxy|caddy|traefik|envoy|apache|httpd|proxy/i;
function addLife(add, project, life) {
  const told = life.labels.some((l) => l.t >= state.from && l.t <= state.to);
  add(told ? 30 : 16, { kind: "life", project, label: life.name, life, high: 8 });
}
const kindOf = (row) => (["kernel", "other"].includes(row.kind) ? "docker" : row.kind);
// A lane a source and service; lines that name no service stand in their source's first lane.
function addLines(add, project, source, label, events) {
  const own = events.filter((e) => kindOf(e) === source);
  if (!own.length) return;
  const services = source === "docker" ? [""] : [...new Set(own.map((e) => e.service || ""))].sort();
  if (services.length === 1 || (services.length === 2 && services[0] === "")) return add(16, { kind: "ticks", source, project, label: `${label} lines`, events: own });
  for (const service of services) add(16, { kind: "ticks", source, project, service, label: `${service || label} lines`, events: own.filter((e) => (e.service || "") === service) });
}

// Connections as packed lines; where more than forty are open at once, a step line of how many.
function pack(closes) {
  const spans = closes.filter((c) => c.established !== false && c.x !== null && (c.opened !== null || c.lasted !== null))
    .map((c) => ({ c, from: c.opened ?? c.x - c.lasted, to: c.x })).filter((s) => s.to >= state.from && s.from <= state.to).sort((a, b) => a.from - b.from);
  if (!spans.length) return { height: 0, spans };
  const room = (state.to - state.from) / 300, ends = [];
  for (const s of spans) {
    let row = ends.findIndex((end) => end + room <= s.from);
    if (row < 0) row = ends.length < 41 ? ends.length : 40;
    ends[row] = s.to;
    s.row = row;
  }
  return ends.length > 40 ? { height: 52, spans, steps: true } : { height: ends.length * 4 + 8, spans };
}

// Marks of a row that would touch become one mark at the first of them: a middle would put closes after their cause.
function joined(closes, px) {
  const groups = [];
  let g = null;
  for (const c of closes) {
    if (c.x < state.from || c.x > state.to) continue;
    const x = px(c.x);
    if (g && x - g.lastX < JOIN && x - g.firstX < JOIN_MOST) { g.closes.push(c); g.lastX = x; g.last = c.x; g.n += c.n; }
    else { g = { closes: [c], firstX: x, lastX: x, first: c.x, last: c.x, n: c.n }; groups.push(g); }
  }
  return groups;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];
function axisTicks(width) {
  const least = ((state.to - state.from) / width) * (width < 700 ? 96 : 112);
  const step = STEPS.find((s) => s >= least) || STEPS.at(-1);
  const zero = page.base % step; // ticks at round times of day, though zero is not one
  const values = [], texts = [];
  const origin = originOf();
  for (let t = Math.ceil((state.from + zero) / step) * step - zero; t <= state.to; t += step) {
    values.push(t);
    const head = step >= 864e5 ? day(t) : clock(t, step < 1000 ? 3 : 0);
    texts.push(origin ? `${head}<br>${signed(t - origin.start)}` : head);
  }
  return { values, texts, origin };
}
function originOf() {
  const chosen = page.byNumber.get(state.incident);
  if (chosen && chosen.start !== null) return chosen;
  return page.incidents.find((i) => i.start !== null && i.start >= state.from && i.start <= state.to && i.family !== "client") || null;
}
