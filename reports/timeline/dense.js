// Ticks by WebGL, where there are too many for SVG. plotly's own WebGL compiles code while it runs, which the page's policy forbids;
// this draws one kind of mark, an upright stroke, and finds the stroke under the pointer.
const WEBGL_FROM = 4000; // marks; below it SVG is fast enough, and every stroke is a node that plotly can hover
const dense = { gl: null, tried: false, strokes: [], lanes: [] };

function webgl() {
  if (!dense.tried) {
    dense.tried = true;
    const gl = $("#dense").getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
    const program = gl && linked(gl, "attribute vec4 at; attribute vec4 tint; uniform vec3 box; varying vec4 colour; varying float share; void main() { gl_Position = vec4(at.x / box.x * 2.0 - 1.0, 1.0 - at.y / box.y * 2.0, 0.0, 1.0); gl_PointSize = at.z * box.z; share = at.w / at.z; colour = tint; }",
      "precision mediump float; varying vec4 colour; varying float share; void main() { if (abs(gl_PointCoord.x - 0.5) > share / 2.0) discard; gl_FragColor = colour; }");
    if (program) dense.gl = { gl, program, buffer: gl.createBuffer() };
  }
  return dense.gl;
}
function linked(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

// Strokes are [x, y, height, width, red, green, blue]: px from the picture's corner, colours from 0 to 1.
function drawDense(width, height) {
  const canvas = $("#dense"), scale = window.devicePixelRatio || 1;
  canvas.hidden = !dense.strokes.length;
  if (canvas.hidden) return;
  const { gl, program, buffer } = dense.gl;
  canvas.width = width * scale; canvas.height = height * scale;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const data = new Float32Array(dense.strokes.length * 8);
  dense.strokes.forEach((s, n) => data.set([s[0], s[1], s[2], s[3], s[4], s[5], s[6], 1], n * 8));
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
  for (const [name, offset] of [["at", 0], ["tint", 16]]) {
    const place = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 4, gl.FLOAT, false, 32, offset);
  }
  gl.uniform3f(gl.getUniformLocation(program, "box"), width, height, scale);
  gl.drawArrays(gl.POINTS, 0, dense.strokes.length);
}
const rgb = (hex) => [1, 3, 5].map((n) => parseInt(hex.slice(n, n + 2), 16) / 255);

// What the hover of plotly says elsewhere; text goes in as text.
function tip(event) {
  const box = $("#tip"), frame = $("#plot").getBoundingClientRect();
  const x = event.clientX - frame.left, y = event.clientY - frame.top;
  const lane = dense.strokes.length ? dense.lanes.find((l) => y >= l.top && y < l.top + l.height) : null;
  let best = null;
  for (const hit of lane ? lane.hits : []) if (Math.abs(hit.x - x) < 5 && (!best || Math.abs(hit.x - x) < Math.abs(best.x - x))) best = hit;
  box.hidden = !best;
  if (!best) return;
  box.replaceChildren(`${clock(best.e.t)} ${best.e.file}:${best.e.line}`, el("br"), cut(best.e.text, 110), ...(best.n > 1 ? [el("br"), `and ${best.n - 1} more here`] : []));
  box.style.left = `${Math.min(best.x + 8, frame.width - 260)}px`;
  box.style.top = `${lane.top + lane.height + 4}px`;
}
