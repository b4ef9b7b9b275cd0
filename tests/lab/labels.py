"""What caused each close: from what was done and from what the client received, never from a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .faults import BEHAVIOURS, ROUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .clients import Record
    from .incident import Fault
    from .stage import Setting

# what the gateway says in a close frame or to the CLI → cause
SAID = (
    ("origin not allowed", "auth.origin"), ("token mismatch", "auth.token_mismatch"), ("token missing", "auth.token_missing"), ("too many failed", "auth.rate_limited"), ("pairing required", "auth.pairing_required"),
    ("device identity", "auth.device_identity"), ("device signature", "auth.device_identity"), ("device nonce", "auth.device_identity"), ("protocol mismatch", "protocol.version_mismatch"), ("gateway starting", "restart.startup"),
    ("invalid request frame", "protocol.invalid_frame"), ("invalid handshake", "protocol.invalid_frame"), ("invalid connect params", "protocol.invalid_frame"), ("slow consumer", "overload.slow_consumer"),
    ("gateway auth changed", "auth.rotated"),
)  # fmt: skip
LOST = (
    "close_frame",
    "eof",
    "reset",
    "refused",
    "unreachable",
    "connect_timeout",
    "eof_before_101",
    "reset_before_101",
    "no_challenge",
    "no_hello",
    "no_answer",
    "watchdog",
    "etimedout",
    "http",
    "cli_close",
    "cli_other",
    "cli_timeout",
    "dns",
)
WAITED = ("no_answer", "no_challenge", "no_hello", "connect_timeout", "cli_timeout")


@dataclass(frozen=True, slots=True)
class Label:
    """The cause, what else counts as right, and the fault that did it; no cause: why none can be given."""

    cause: str | None
    accept: tuple[str, ...] = ()
    fault_id: str | None = None
    why: str = ""


def label(record: Record, faults: Sequence[Fault], setting: Setting) -> Label:
    """The cause of one record."""
    planned = next((f for f in faults if f.fault_id == record.fault_id), None)
    waited = record.how in WAITED  # what kept it waiting may have ended before its patience did
    active = [
        f
        for f in faults
        if f.reach not in ("client", "none")
        and (
            f.covers(record.t_close_ms)
            or waited
            and f.t_start_ms <= record.t_close_ms
            and record.t_open_ms <= f.t_end_ms
        )
    ]
    first = said(record, faults, active) or own_end(record, active) or expected(record, planned, active, setting)
    if first:
        return first
    if record.http_status == 504 and record.via == "proxy" and not active:
        return Label("timeout.upstream")  # on a busy machine a gateway is slow without anybody's doing
    if record.how in LOST and not (record.how == "http" and record.http_status not in (502, 503, 504)):
        return by_fault(record, active)
    return Label(None, why=f"nothing explains how={record.how} code={record.code} http={record.http_status}")


def said(record: Record, faults: Sequence[Fault], active: Sequence[Fault]) -> Label | None:
    """The gateway said it."""
    if record.how == "cli_ok":
        return Label("client.normal")
    if record.ended_by == "self":
        return None
    text = (
        (record.reason or "")
        if record.how == "close_frame"
        else f"{record.reason or ''} {record.error}"
        if record.how.startswith("cli_") and record.how != "cli_timeout"
        else ""
    )
    cause = next((cause for words, cause in SAID if words in text), None) or {
        1013: "restart.startup",
        4001: "auth.rotated",
    }.get(record.code if record.how == "close_frame" else None)
    if (
        cause is None
        and record.how == "close_frame"
        and record.code == 1000
        and not record.reason
        and not record.established
        and record.kind != "invalid"
    ):
        # nothing else makes the gateway close so before it said hello; what kept it from listening to the client counts as right, too
        return Label(
            "timeout.handshake",
            tuple(
                dict.fromkeys(
                    c for f in active for c in (f.cause, *f.also) if f.reach != "proxy" and c != "timeout.handshake"
                )
            ),
            record.fault_id,
        )
    if cause is None:
        return None
    if record.code == 1013 and "restart" in (record.reason or ""):  # it takes no new clients while it goes down
        return by_fault(record, active)
    if cause == "restart.startup":
        down = [f for f in active if f.reach == "gateway"]
        return Label(cause, fault_id=down[0].fault_id if len(down) == 1 else None)
    late = next((f for f in faults if f.cause == cause and f.covers(record.t_close_ms)), None)
    return Label(cause, late.also if late else (), record.fault_id or (late and late.fault_id))


def own_end(record: Record, active: Sequence[Fault]) -> Label | None:
    """The client ended it."""
    if record.ended_by != "self":
        return None
    # a client that leaves while the other side is being killed: whoever of them was first, nobody else can tell
    cut = [f for f in active if f.reach == "gateway" or f.reach == "proxy" and record.via == "proxy"]
    raced = tuple(dict.fromkeys(c for f in cut for c in (f.cause, *f.also)))
    if record.how in ("rst", "fin"):
        return Label("client.abort", raced, record.fault_id)
    if record.how == "close_frame":
        if record.code == 4000:
            return Label("timeout.heartbeat", fault_id=record.fault_id)
        return Label("client.normal", raced)
    return Label(None, why=f"the client's plan did not work: {record.how}")


def expected(record: Record, planned: Fault | None, active: Sequence[Fault], setting: Setting) -> Label | None:
    """The attempt was made to fail in one way, and failed so."""
    cut = [f for f in active if f.reach in ("gateway", "proxy")]
    calm = not cut
    kind, how, status = record.kind, record.how, record.http_status
    lasted = record.t_close_ms - record.t_open_ms
    mine = Label(
        BEHAVIOURS.get(kind) or (planned.cause if planned else None), planned.also if planned else (), record.fault_id
    )
    if (
        kind in ("silent", "late_hello")
        and how in ("close_frame", "eof")
        and record.code in (1000, 1006, 1008)
        and lasted > 2500
        and not record.reason
        and calm
    ):
        return mine
    if kind == "deaf" and how in ("eof", "reset") and 25000 < lasted < 60000 and calm:
        return mine
    if (
        planned
        and planned.cause == "timeout.proxy_idle"
        and how in ("eof", "reset", "close_frame")
        and record.code in (1001, 1006)
        and abs(record.t_close_ms - (record.t_hello_ms or record.t_open_ms) - 1000 * setting.idle) < 3500
        and calm
    ):
        return Label("timeout.proxy_idle", fault_id=record.fault_id)
    if kind in ("big_early", "big_late") and (record.code == 1009 or how in ("reset", "eof")) and calm:
        return mine
    if (
        kind == "invalid"
        and (how == "close_frame" and record.code in (1000, 1002, 1003, 1006, 1007, 1008) or how in ("reset", "eof"))
        and calm
    ):
        return mine
    if kind == "slow" and how in ("close_frame", "eof", "reset") and record.code in (1006, 1008) and calm:
        return mine
    if (
        kind in ("closed_port", "cli_closed_port", "cli_loopback")
        and how == "refused"
        or kind == "cli_dns"
        and how == "dns"
    ):
        return Label(
            planned.cause if planned else "unreachable.refused", planned.also if planned else (), record.fault_id
        )
    if kind in ("second", "cli_second") and how in LOST and planned:
        return Label(planned.cause, planned.also, record.fault_id)
    route = (
        setting.routes.get(f"/{record.path.split('/')[1]}/")
        if record.path != "/"
        else setting.main_route
        if record.via == "proxy" and setting.main_route != "gateway"
        else None
    )
    if kind == "cli_denied":
        route = "deny"
    if (
        route
        and (how == "http" or record.http_status)
        and (route not in ("auth", "deny") or status in (401, 403))
        and (route in ("auth", "deny", "plain") or status in (500, 502, 503, 504))
    ):
        fault = record.fault_id or None
        return Label(ROUTES[route], ("timeout.upstream",) if route == "dns" and status == 504 else (), fault)
    if status == 403 and record.via == "proxy" and not setting.trusted:
        return Label("auth.untrusted_proxy", fault_id=record.fault_id)
    return None


def by_fault(record: Record, active: Sequence[Fault]) -> Label:
    """A healthy client lost its connection, or got none: what was being done to its path?"""
    via_proxy = record.via == "proxy"
    near = [
        f
        for f in active
        if f.reach in ("gateway", "network", "freeze", "rotation")
        or via_proxy
        and f.reach in ("proxy", "proxy-network")
    ]
    if record.how == "close_frame" and record.code == 1012:
        near = [f for f in near if f.reach == "gateway"]
    if record.how in ("close_frame", "eof", "reset", "refused") and any(
        f.reach not in ("freeze", "rotation") for f in near
    ):
        near = [f for f in near if f.reach not in ("freeze", "rotation")]
    if not record.established or record.how not in ("close_frame", "eof", "reset"):
        near = [f for f in near if f.reach != "rotation"]
    proxies, gateways = ([f for f in near if f.reach == reach] for reach in ("proxy", "gateway"))
    if proxies and gateways:
        if record.code == 1012 or record.http_status in (502, 503, 504):
            near = gateways
        elif record.how in ("refused", "eof_before_101", "reset_before_101"):
            near = proxies
    if not near:
        return Label(None, why=f"no fault explains how={record.how} code={record.code} http={record.http_status}")
    *others, last = near
    if record.how == "cli_timeout" and last.reach == "freeze":
        return Label("timeout.client", ("timeout.upstream",), last.fault_id)
    if last.reach == "freeze":
        if record.http_status:
            return Label("timeout.upstream", (last.cause, *last.also), last.fault_id)
        if record.how in WAITED:
            return Label("timeout.client", (last.cause, *last.also), last.fault_id)
        return Label(None, why=f"a freeze does not end a connection with how={record.how}")
    if last.reach == "rotation":
        return Label("auth.rotated", (), last.fault_id)
    also = [c for f in others for c in (f.cause, *f.also)]
    if record.kind in BEHAVIOURS and record.how in (
        "reset",
        "eof",
        "close_frame",
    ):  # it was made to be closed, and was cut in the same moment
        also.append(BEHAVIOURS[record.kind])
    if record.http_status == 504 or last.cause == "network.partition" and record.http_status in (502, 503):
        also.append("timeout.upstream")  # what the proxy said is true as well
    return Label(
        last.cause, tuple(dict.fromkeys([*also, *(last.also if last.reach != "network" else ())])), last.fault_id
    )
