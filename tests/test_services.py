"""A journal in which systemd tells of the gateway's unit: what counts as its end, and what is another's, asked for, or a child's."""

from __future__ import annotations

import pytest
from made_logs import ready, started, twice, write
from test_false_leads import CLIENT, told, web

import occorr

CONN = "5b1f6a52-1c1e-4b70-9a0e-0d6f7f5f5a11"


def gateway(at, text, pid=812):
    """A line of the gateway as the journal holds it."""
    return f"May 16 {at[:8]} host-a node[{pid}]: 2026-05-16T{at}+02:00 {text}"


def systemd(at, text, unit="openclaw-gateway.service"):
    return f"May 16 {at} host-a systemd[938]: {unit}: {text}"


OPEN = gateway(
    "10:02:11.104", f"[ws] webchat connected conn={CONN} remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4"
)
AGAIN = [
    gateway("10:02:20.001", "[gateway] loading configuration…", 901),
    gateway("10:02:21.001", "[gateway] http server listening (14 plugins: anthropic; 4.1s)", 901),
]
ON = [gateway(f"10:02:{s}.000", "[health-monitor] checked channels in 3 ms") for s in (20, 40)]
KILLED = systemd("10:02:14", "Main process exited, code=killed, status=9/KILL")
OOM = systemd("10:02:14", "A process of this unit has been killed by the OOM killer.")
FAILED = systemd("10:02:14", "Main process exited, code=exited, status=1/FAILURE")
ABORTED = systemd("10:02:14", "Main process exited, code=dumped, status=6/ABRT")
WATCHDOG = systemd("10:02:14", "Watchdog timeout (limit 30s)!")
SENT = systemd("10:02:14", "Killing process 812 (node) with signal SIGABRT.")
OVERDUE = systemd("10:02:14", "State 'stop-sigterm' timed out. Killing.")
SENT_KILL = systemd("10:02:14", "Killing process 812 (node) with signal SIGKILL.")
STOPPING = "May 16 10:02:13 host-a systemd[938]: Stopping openclaw-gateway.service - OpenClaw Gateway..."
STOPPED = "May 16 10:02:14 host-a systemd[938]: Stopped openclaw-gateway.service - OpenClaw Gateway."
TERM = gateway("10:02:13.404", "[gateway] received SIGTERM; shutting down")


def analyzed(folder, *lines, **files):
    (folder / "journal.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return [(c["cause"], c["verdict"]) for c in occorr.analyze(folder).closes.to_dicts()]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((OOM, KILLED, *AGAIN), ("restart.oom", "supported")),  # it wrote nothing for three seconds
        ((FAILED, *AGAIN), ("restart.crash", "supported")),
        ((TERM, STOPPED, *AGAIN), ("restart.manual", "supported")),
        ((STOPPING, TERM, STOPPED, *AGAIN), ("restart.manual", "supported")),
        ((KILLED, *AGAIN), ("restart.killed", "supported")),
        ((WATCHDOG, SENT, ABORTED, *AGAIN), ("restart.unhealthy", "supported")),
        ((STOPPING, TERM, OVERDUE, SENT_KILL, KILLED, *AGAIN), ("restart.manual", "supported")),
        # OOMPolicy=stop: a child was killed, and the unit stopped for it
        ((OOM, TERM, systemd("10:02:14", "Failed with result 'oom-kill'."), *AGAIN), ("restart.oom", "circumstantial")),
    ],
)
def test_the_end_of_the_gateways_own_process(tmp_path, lines, told):
    assert analyzed(tmp_path, OPEN, *lines) == [told]


@pytest.mark.parametrize(
    "lines",
    [
        # somebody asked for it, and the line of the gateway that says so is not there
        (STOPPING, FAILED, *AGAIN),
        # a watchdog's or anybody's signal
        (systemd("10:02:13", "Watchdog timeout (limit 30s)!"), systemd("10:02:13", "Killing process 812 (node) with signal SIGABRT."), ABORTED, *AGAIN),
        (systemd("10:02:14", "Main process exited, code=killed, status=14/ALRM"), *AGAIN),
        # a child was killed for memory, and the process was stopped
        (OOM, STOPPING, STOPPED, *AGAIN),
    ],
)  # fmt: skip
def test_what_may_have_been_asked_for_is_no_crash_and_no_oom_kill_for_certain(tmp_path, lines):
    for cause, verdict in analyzed(tmp_path, OPEN, *lines):
        assert verdict != "decisive" or cause not in ("restart.crash", "restart.oom")


@pytest.mark.parametrize(
    "unit",
    [
        "openclaw-gateway-backup.service",
        "openclaw-node.service",
        "backup-openclaw.service",
        "my.openclaw-gateway.service",
        # of that name, and yet not this process: it wrote on
        "openclaw-gateway.service",
    ],
)
def test_an_end_that_the_gateway_wrote_through_ends_no_connection(tmp_path, unit):
    assert (
        analyzed(tmp_path, OPEN, systemd("10:02:14", "Main process exited, code=exited, status=1/FAILURE", unit), *ON)
        == []
    )


def test_a_unit_beside_a_gateway_in_a_container_is_not_it(tmp_path):
    stamped = "\n".join(
        f"2026-05-16T{at[:8]}.500000000Z 2026-05-16T{at}+00:00 {text}"
        for at, text in (
            ("08:02:11.104", f"[ws] webchat connected conn={CONN} remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4"),
            ("08:02:12.104", "[health-monitor] checked channels in 3 ms"),
        )
    )  # fmt: skip
    assert analyzed(tmp_path, FAILED, FAILED, gateway__docker__log=stamped + "\n") == []


def test_another_machines_journal_tells_nothing_of_a_log_beside_it(tmp_path):
    plain = OPEN.split(": ", 1)[1] + "\n2026-05-16T10:02:12.104+02:00 [health-monitor] checked channels in 3 ms\n"
    assert analyzed(tmp_path, FAILED, gateway__log=plain) == []


def test_each_of_two_restarts_in_half_a_minute_is_told(tmp_path):
    def stop(at):
        return (f"May 16 10:02:{at} host-a systemd[938]: Stopping openclaw-gateway.service - OpenClaw Gateway...", systemd(f"10:02:{at}", "Deactivated successfully."), f"May 16 10:02:{at} host-a systemd[938]: Stopped openclaw-gateway.service - OpenClaw Gateway.")  # fmt: skip

    again = gateway("10:02:25.104", "[ws] webchat connected conn=6c1f6a52-1c1e-4b70-9a0e-0d6f7f5f5a11 remote=127.0.0.1 client=openclaw-control-ui webchat v2026.5.4", 901)  # fmt: skip
    later = [gateway("10:02:40.001", "[gateway] loading configuration…", 990), gateway("10:02:41.001", "[gateway] http server listening (14 plugins: anthropic; 4.1s)", 990)]  # fmt: skip
    told = analyzed(tmp_path, OPEN, *stop("14"), *AGAIN, again, *stop("34"), *later)
    assert told == [("restart.manual", "supported")] * 2


def test_a_hangup_to_an_unhealthy_container_is_not_what_ended_it(tmp_path):
    """Docker called it unhealthy, somebody sent HUP, and ten seconds later it died of something else."""
    log = twice([*started("09:59:50.003"), *ready("10:00:00.007"), web(1, "10:00:11.113", CLIENT), *started("10:02:10.337"), *ready("10:02:20.551")])  # fmt: skip
    ends = [told("10:01:40.000", "health_status: unhealthy"), told("10:01:50.000", "kill", signal="1"), told("10:02:00.137", "die", exitCode="1"), told("10:02:05.000", "start")]  # fmt: skip
    write(tmp_path, gateway__log=log, events__jsonl=[told("09:59:45.000", "start"), *ends])
    assert "restart.unhealthy" not in {c["cause"] for c in occorr.analyze(tmp_path).closes.to_dicts()}
