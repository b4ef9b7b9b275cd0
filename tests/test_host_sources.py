"""What the machine itself says: kernel, systemd, the engine's own log, probes by hand, `docker ps`."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

import occorr
from occorr import documents, read, redact

ID = "7c9f78e3687bec45158a65b69c15661c5e594754279051ae6ef44ab93ff8db7b"
JOURNAL = f"""Nov 21 05:43:40 claw dockerd[700]: time="2026-11-21T05:43:40.123456789Z" level=info msg="Daemon has completed initialization"
Nov 21 05:43:45 claw kernel: node invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
Nov 21 05:43:45 claw kernel: oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/docker/{ID},task_memcg=/docker/{ID},task=node,pid=812,uid=0
Nov 21 05:43:45 claw kernel: Memory cgroup out of memory: Killed process 812 (node) total-vm:1kB, anon-rss:1kB
Nov 21 05:43:46 claw systemd[1]: openclaw-gateway.service: Main process exited, code=killed, status=9/KILL
Nov 21 05:43:46 claw systemd[1]: openclaw-gateway.service: Failed with result 'oom-kill'.
Nov 21 05:43:47 claw node[900]: 2026-11-21T05:43:47.413+00:00 [gateway] loading configuration…
Nov 21 05:43:48 claw kernel: [ 4061.613541] node[812]: segfault at 0 ip 0 sp 0 error 4 in node[400000+2d3a000]
"""


def test_a_mixed_journal(tmp_path):
    (tmp_path / "journal.txt").write_text(JOURNAL)
    result = occorr.analyze(tmp_path)
    rows = {(r["log_line"], r["event_name"]): r for r in result.timeline.to_dicts()}
    assert sorted(name for _, name in rows) == sorted(
        [
            "engine.ready",
            "kernel.oom",
            "kernel.oom",
            "kernel.oom_invoked",
            "kernel.segfault",
            "unit.exited",
            "unit.failed",
            "gateway.start",
        ]
    )
    oom = rows[3, "kernel.oom"]
    assert (oom["process_pid"], oom["container_id"], oom["clock_id"], oom["timestamp_raw"]) == (
        812,
        ID,
        "host",
        datetime(2026, 11, 21, 5, 43, 45, tzinfo=UTC),
    )
    assert rows[1, "engine.ready"]["clock_id"] == "engine"
    assert result.sources.item(0, "lines_unparsed") == 0


def test_rare_kernel_lines_in_a_long_journal_are_kept(tmp_path):
    chatter = "".join(
        f"Nov 21 05:{m:02d}:{s:02d} claw node[900]: 2026-11-21T05:{m:02d}:{s:02d}.413+00:00 [gateway] tick\n"
        for m in range(40)
        for s in range(60)
    )
    lines = chatter.splitlines(keepends=True)
    lines.insert(
        1501,
        'Nov 21 05:25:00 claw dockerd[700]: time="2026-11-21T05:25:00.123456789Z" level=info msg="Processing signal \'terminated\'"\n',
    )
    (tmp_path / "journal.txt").write_text("".join(lines))
    assert "engine.signal" in occorr.analyze(tmp_path).timeline.get_column("event_name").to_list()


def test_probes_stand_in_the_timeline(tmp_path):
    (tmp_path / "probe.txt").write_text(
        "Nov 21 05:43:45 nc: connect to 192.0.2.2 port 18789 (tcp) failed: Connection refused\nNov 21 05:43:46 curl: (28) Operation timed out after 5001 milliseconds with 0 bytes received\n"
    )
    (tmp_path / "gateway.log").write_text("2026-11-21T05:43:47.413+00:00 [gateway] loading configuration…\n")
    rows = occorr.analyze(tmp_path).timeline.filter(pl.col("event_name") == "probe.result")
    assert rows.height == 2 and rows.get_column("timestamp").dt.year().to_list() == [2026, 2026]


PS = f"""CONTAINER ID   IMAGE                COMMAND                  CREATED       STATUS                     PORTS                      NAMES
{ID[:12]}   openclaw:2026.9.6    "docker-entrypoint.s…"   2 hours ago   Up 2 minutes (unhealthy)   127.0.0.1:18789->18789/tcp demo-gateway-1
db9c5287f738   nginx:1.22           "/docker-entrypoint.…"   2 hours ago   Exited (137) 1 minute ago                             demo-proxy-1
"""


def test_docker_ps_is_a_document():
    document = documents.document(read.Blob("ps.txt", PS.encode()), redact.Redactor(b"k"))
    kind, found = document.kind, document.facts
    told = {(f.subject, f.key): f.value for f in found}
    assert kind == "docker ps"
    assert told[f"container:{ID[:12]}", "name"] == "demo-gateway-1"
    assert told[f"container:{ID[:12]}", "state.health"] == "unhealthy"
    assert told["container:db9c5287f738", "state.exit_code"] == "137"
    assert told["container:db9c5287f738", "image"] == "nginx:1.22"
    assert ("container:db9c5287f738", "ports") not in told
