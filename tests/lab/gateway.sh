#!/bin/sh
# Prints what a gateway of 2026.9 was recorded to print, with the stamps of now: busybox has no milliseconds, so they come from
# the time since boot (BOOT: when that was, in hundredths of a second). A file in /ctl makes it crash, eat its memory or leave the network.
stamp() {
  read -r up _ </proc/uptime
  cs=$((BOOT + ${up%.*} * 100 + 1${up#*.} - 100))
  now=$(date -u -d "@$((cs / 100))" +%Y-%m-%dT%H:%M:%S).$(printf %02d $((cs % 100)))0+00:00
}
say() { stamp; echo "$now $*"; }
warn() { stamp; echo "$now $*" >&2; }
uuid() { cat /proc/sys/kernel/random/uuid; }
leave() {
  say "[admission] closed: stop (SIGTERM)"
  say "[gateway] received SIGTERM; shutting down"
  say "[gateway] shutdown budget at shutdown: drain=315000ms shutdown=325000ms reserve=10000ms exitMargin=5000ms; source=Gateway stop policy=330000ms"
  for c in $conns; do say "[ws] webchat disconnected code=1012 reason=service restart conn=$c"; done
  say "[shutdown] completed cleanly in 445ms"
  exit 0
}
trap leave TERM
say "[gateway] loading configuration…"
say "[gateway] resolving authentication…"
say "[gateway] starting..."
say "[gateway] starting HTTP server..."
warn "[gateway] ⚠️  Gateway is binding to a non-loopback address. Ensure authentication is configured before exposing to public networks."
sleep 0.3
say "[gateway] http server listening (14 plugins: anthropic, browser, canvas; 0.3s)"
say "[gateway] log file: /tmp/openclaw/openclaw-$(date -u +%Y-%m-%d).log"
say "[heartbeat] started"
say "[gateway] ready"
# a line that shows a token without any name in front, as a plugin might
[ -n "$OPENCLAW_GATEWAY_TOKEN" ] && say "[plugins] fetched with $OPENCLAW_GATEWAY_TOKEN in 12ms"
for i in 1 2; do
  c=$(uuid)
  conns="$conns $c"
  say "[ws] webchat connected conn=$c remote=192.0.2.10$i client=openclaw-control-ui webchat v2026.9.6 build=2026.9.6-release-eb377ac59e6c-2026-09-23T16-33-12.144Z"
done
n=0
while :; do
  n=$((n + 1))
  if [ $((n % 10)) = 0 ]; then say "[ws] ⇄ res ✓ health 41ms cached=true conn=${c%%-*}…${c#"${c%????}"} id=h$n"; fi
  if [ -e /ctl/crash ]; then
    rm /ctl/crash
    printf '%s\n' "/app/plugin.cjs:7" "TypeError: Cannot read properties of undefined (reading 'sessionKey')" "    at Immediate.<anonymous> (/app/plugin.cjs:7:49)" "    at process.processImmediate (node:internal/timers:574:21)" "" "Node.js v24.21.0" >&2
    exit 1
  fi
  if [ -e /ctl/eat ]; then
    rm /ctl/eat
    tail /dev/zero # the kernel kills it; the launcher then leaves without a word
    exit 0
  fi
  sleep 0.1
done
