// Preloaded into the gateway: the word in a file named `trigger` says how the process goes wrong by itself.
// PID 1 of the container is the launcher; the gateway is its child, or PID 1 itself in older releases.
const fs = require('fs');
const net = require('net');
let listening = Infinity;
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...given) {
  this.once('listening', () => { if (this.address()?.port === 18789) listening = Math.min(listening, Date.now()); });
  return listen.apply(this, given);
};
function go(word) {
  const [what, number] = word.split(' ');
  if (what === 'throw') setImmediate(() => { throw new TypeError("Cannot read properties of undefined (reading 'sessionKey')"); });
  if (what === 'reject') Promise.reject(new Error('session store: unexpected end of data'));
  if (what === 'abort') process.abort();
  if (what === 'exit') { process.stderr.write('fatal: state store is corrupt, giving up\n'); process.exit(1); }
  if (what === 'heap') { const a = []; const f = () => { for (let i = 0; i < 2e6; i++) a.push({ i, s: 'x' + i }); setImmediate(f); }; f(); }
  if (what === 'memory') { const a = []; const f = () => { a.push(Buffer.alloc(48 << 20, 1)); setTimeout(f, 15); }; f(); }
  if (what === 'stall') { const end = Date.now() + 1000 * number; while (Date.now() < end); }
}
setInterval(() => {
  if (process.title !== 'openclaw-gateway' || !require('worker_threads').isMainThread) return;
  let word;
  try { word = fs.readFileSync('/run/lab/hooks/trigger', 'utf8').trim(); fs.unlinkSync('/run/lab/hooks/trigger'); } catch { }
  if (word) return go(word);
  // a fault that comes back after each start: `loop` holds seconds of life, from when it listens, and the word
  try { word = fs.readFileSync('/run/lab/hooks/loop', 'utf8').trim(); } catch { return; }
  const [seconds, ...rest] = word.split(' ');
  if (Date.now() - listening > 1000 * seconds) go(rest.join(' '));
}, 50).unref();
