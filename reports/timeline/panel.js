// The story of one close: what, how sure, the lines for and against it, what would settle it.
function panel() {
  const box = $("#panel"), c = state.selected;
  if (!c) { box.replaceChildren(el("p", { class: "empty" }, "Choose a close in the picture or the table, or press j.")); return; }
  const supports = c.evidence.filter((e) => e.role !== "contradicts"), against = c.evidence.filter((e) => e.role === "contradicts");
  box.replaceChildren(
    el("h2", {}, mark(c.family), c.cause, el("span", { class: "walk" }, el("button", { type: "button", onclick: () => step(-1), "aria-label": "‹ k: previous close" }, "‹ k"), el("button", { type: "button", onclick: () => step(1), "aria-label": "j ›: next close" }, "j ›"))),
    el("p", {}, el("b", {}, `${percent(c.p)} ${c.verdict}`), `: ${page.sure[c.verdict] || ""}. `, el("span", { class: "soft" }, c.runner_up ? `Next best: ${c.runner_up}, ${percent(c.runner_p)}.` : "No other cause came near.")),
    el("p", { class: "soft" }, [page.titles[c.cause], c.incident_id, c.project, c.service, c.t === null ? openTime(c) : `${clock(c.t)} UTC ${half(c) === null ? "" : `± ${length(half(c))}`}`].filter(Boolean).join(" · ")),
    el("p", {}, `${codeOf(c) === "none" ? "No code seen" : `Code ${codeOf(c)}`}${c.code_observer ? ` (seen by the ${c.code_observer})` : ""}, ${c.established === false ? "refused before it opened" : c.lasted === null ? "" : `open for ${length(c.lasted)}`}, ${client(c)} ${{ direct: "directly", proxy: "via the proxy" }[c.via] || "by an unknown path"}${c.reason ? ", reason " : ""}`.replace(/, ,/g, ","), c.reason ? el("span", { class: "mono" }, c.reason) : ""),
    c.code_client !== null && c.code_gateway !== null && c.code_client !== c.code_gateway ? el("p", { class: "soft" }, `The client saw ${c.code_client}, the gateway logged ${c.code_gateway}.`) : "",
    c.n > 1 ? el("p", { class: "soft" }, `This row stands for ${c.n} closes.`) : "",
    c.group_id ? el("p", { class: "soft" }, "It is one of several closes that the logs cannot tell apart; together they are these closes, in some order.") : "",
    el("p", { class: "soft mono" }, el("a", { href: linkOf(c) }, c.close_id), " ", el("button", { type: "button", class: "copy", "data-only-screen": "", onclick: () => copy(location.href.replace(/#.*/, "") + linkOf(c), "the link to this close") }, "copy link")),
    c.evidence.length ? ruler(c) : "",
    el("ul", { class: "evidence", "aria-label": "Evidence" }, ...reasons(supports)),
    against.length ? el("p", {}, el("b", {}, "Against it, or set aside")) : "",
    against.length ? el("ul", { class: "evidence", "aria-label": "Contradictions" }, ...reasons(against)) : "",
    c.evidence.length ? "" : el("p", { class: "soft" }, "No line was found for it."),
    c.missing ? el("div", { class: "settle" }, el("b", {}, "What would settle it"), el("ul", {}, ...c.missing.split("\n").map((m) => el("li", {}, m)))) : "",
  );
}
const linkOf = (c) => `#close=${encodeURIComponent(c.close_id)}`;
async function copy(text, name) {
  try { await navigator.clipboard.writeText(text); } catch {
    // Without leave for the clipboard, an old way still works in most browsers.
    const box = el("textarea", { class: "off", "aria-hidden": "true" });
    box.value = text;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    if (!done) { announce(`The browser does not let this page copy: ${text}`); return; }
  }
  announce(`Copied ${name}`);
}
function openTime(c) {
  if (c.lo === null && c.hi === null) return "time not known";
  return c.lo === null ? `before ${clock(c.hi)} UTC` : c.hi === null ? `after ${clock(c.lo)} UTC` : `${clock(c.lo)} to ${clock(c.hi)} UTC`;
}
// Lines that one rule cites stand together under its sentence, in the order of the strongest.
function byRule(evidence) {
  const groups = new Map();
  for (const e of evidence) {
    const key = `${e.rule} ${e.strength} ${e.cause}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(e);
  }
  return [...groups.values()];
}
// A line is shown under the strongest rule that cites it; a weaker rule shows what it adds.
function reasons(evidence) {
  const seen = new Set();
  return byRule(evidence).map((lines) => {
    const fresh = lines.filter((e) => !seen.has(`${e.file}:${e.line}`));
    for (const e of lines) seen.add(`${e.file}:${e.line}`);
    return reason(lines[0], fresh, fresh.length ? (fresh.length < lines.length ? "Beside lines above:" : "") : "The same lines as above.");
  });
}
function reason(e, lines, note) {
  return el("li", { class: `${e.strength} ${e.role}` }, el("div", { class: "why", title: e.rule || "" }, el("b", {}, e.strength), `${e.role === "contradicts" ? `, for ${e.cause}` : ""}: ${e.because || e.rule || ""}${note ? ` ${note}` : ""}`), ...lines.map(line));
}
function line(e) {
  const place = e.file ? `${e.file}${e.line === null ? "" : `:${e.line}`}` : "no file";
  const distance = e.delta === null ? "time not known" : signed(e.delta) + (e.error === null ? "" : ` ± ${length(e.error)}`);
  return el("div", { class: "line" },
    el("div", { class: "head" }, el("button", { type: "button", title: "Copy", onclick: () => copy(place, place) }, place), el("b", {}, distance)),
    e.said ? el("pre", { tabindex: "0" }, e.said) : "",
    e.quote && e.quote !== e.said ? el("details", {}, el("summary", {}, "the line itself"), el("pre", { tabindex: "0" }, e.quote)) : "");
}

// Evidence around the close on one scale; near and far both stay readable because distance is drawn by its square root.
function ruler(c) {
  const timed = c.evidence.filter((e) => e.delta !== null);
  if (!timed.length) return "";
  const most = Math.max(20, ...timed.map((e) => Math.abs(e.delta))), bend = (d) => Math.sign(d) * Math.sqrt(Math.abs(d) / most);
  const before = timed.some((e) => e.delta < 0), after = timed.some((e) => e.delta > 0);
  const zero = before && after ? 175 : before ? 300 : after ? 50 : 175, reach = before && after ? 130 : 235;
  const x = (d) => zero + bend(Math.max(-most, Math.min(most, d))) * reach;
  const svg = el("svg", { class: "ruler", viewBox: "0 0 350 58", preserveAspectRatio: "xMinYMid", "aria-hidden": "true" }, el("line", { class: "axis", x1: 8, x2: 342, y1: 30, y2: 30 }));
  for (const e of timed) {
    if (e.error) svg.append(el("line", { class: "error", x1: x(e.delta - e.error), x2: x(e.delta + e.error), y1: 30, y2: 30 }));
    svg.append(el("line", { class: `tick ${e.strength} ${e.role}`, x1: x(e.delta), x2: x(e.delta), y1: 20, y2: 40 }));
  }
  const best = timed.find((e) => e.role !== "contradicts") || timed[0];
  const words = el("text", { x: Math.min(260, Math.max(2, x(best.delta) - 30)), y: 13 });
  words.textContent = `${best.strength} ${signed(best.delta)}`;
  const name = el("text", { x: zero - 14, y: 54 });
  name.textContent = "close";
  const sign = mark(c.family);
  for (const [k, v] of Object.entries({ x: zero - 6, y: 24, width: 12, height: 12 })) sign.setAttribute(k, v);
  svg.append(words, name, sign);
  return svg;
}
