// Draws the plots of the scores. Every number in them also stands in a table of the page.
function axis(title, more) { return { title: { text: title }, gridcolor: css("grid"), zerolinecolor: css("grid"), fixedrange: true, ...more }; }
function layout(id, more) {
  const box = document.getElementById(id);
  return { width: box.clientWidth, height: box.clientHeight, paper_bgcolor: css("ground"), plot_bgcolor: css("ground"), font: { color: css("ink"), size: 12 }, margin: { l: 56, r: 12, t: 8, b: 44 }, legend: { orientation: "h", y: 1.12, x: 0 }, hovermode: "closest", ...more };
}
const quiet = { displayModeBar: false };
function reliability(data) {
  const line = (way, name, tone) => ({
    x: data[way].calibration.bins.map((b) => b.probability), y: data[way].calibration.bins.map((b) => b.right), text: data[way].calibration.bins.map((b) => `${b.closes} closes`), name, mode: "lines+markers",
    marker: { color: css(tone), size: data[way].calibration.bins.map((b) => 6 + 2 * Math.log2(1 + b.closes)) }, line: { color: css(tone), width: 1 },
    hovertemplate: "said %{x:.1%}, right %{y:.1%}<br>%{text}<extra></extra>",
  });
  const exact = { x: [0, 1], y: [0, 1], mode: "lines", line: { color: css("muted"), dash: "dot", width: 1 }, hoverinfo: "skip", showlegend: false };
  Plotly.newPlot("reliability", [exact, line("occorr", "occorr", "select"), line("baseline", "baseline", "protocol")], layout("reliability", { xaxis: axis("probability that was said", { range: [0, 1.04], tickformat: ".0%" }), yaxis: axis("share that was right", { range: [0, 1.06], tickformat: ".0%" }) }), quiet);
}
function risk(data) {
  const line = (way, name, tone) => ({ x: data[way].risk_coverage.curve.map((p) => p.coverage), y: data[way].risk_coverage.curve.map((p) => p.risk), name, mode: "lines+markers", marker: { size: 5 }, line: { color: css(tone), width: 2 }, hovertemplate: "%{y:.2%} wrong of the surest %{x:.0%}<extra></extra>" });
  Plotly.newPlot("risk", [line("occorr", "occorr", "select"), line("baseline", "baseline", "protocol")], layout("risk", { xaxis: axis("share of the closes, the surest first", { range: [0, 1.04], tickformat: ".0%" }), yaxis: axis("wrong among them", { rangemode: "tozero", tickformat: ".0%" }) }), quiet);
}
function confusion(data) {
  const cells = data.occorr.confusion, truths = [...new Set(cells.map((c) => c.truth))].sort(), said = [...new Set([...truths, ...cells.map((c) => c.said)])].sort();
  const at = new Map(cells.map((c) => [`${c.truth}\n${c.said}`, c]));
  const value = (t, s) => at.get(`${t}\n${s}`);
  const total = new Map(truths.map((t) => [t, cells.filter((c) => c.truth === t).reduce((sum, c) => sum + c.closes, 0)]));
  const z = truths.map((t) => said.map((s) => (value(t, s) ? value(t, s).closes / total.get(t) : null)));
  const text = truths.map((t) => said.map((s) => (value(t, s) ? String(value(t, s).closes) : "")));
  const hover = truths.map((t) => said.map((s) => (value(t, s) ? `${t} called ${s}<br>${value(t, s).closes} closes in ${value(t, s).incidents} incidents` : "")));
  const box = document.getElementById("confusion");
  box.style.height = `${190 + 19 * truths.length}px`;
  Plotly.newPlot(box, [{ type: "heatmap", x: said, y: truths, z, text, hovertext: hover, hovertemplate: "%{hovertext}<extra></extra>", texttemplate: "%{text}", textfont: { size: 10 }, showscale: false, xgap: 1, ygap: 1, zmin: 0, zmax: 1, colorscale: [[0, css("grid")], [1, css("select")]] }], layout("confusion", { margin: { l: 190, r: 12, t: 8, b: 170 }, xaxis: axis("called", { tickangle: -60, showgrid: false }), yaxis: axis("was", { autorange: "reversed", showgrid: false }) }), quiet);
}
(async () => {
  const fail = (text) => { $("#failure").textContent = `${text} The tables hold the same numbers.`; $("#failure").hidden = false; };
  if (!canUnpack()) { fail("This browser cannot unpack the page's data."); return; }
  try {
    const data = JSON.parse(await unpack("page-data"));
    await startPlotly();
    const draw = () => { reliability(data); risk(data); confusion(data); };
    let seen = 0;
    new ResizeObserver(([entry]) => { if (Math.abs(entry.contentRect.width - seen) > 1) { seen = entry.contentRect.width; requestAnimationFrame(draw); } }).observe(document.body);
    followTheme(draw);
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    fail(`The plots could not be drawn: ${error.message}.`);
    console.error(error);
  }
})();
