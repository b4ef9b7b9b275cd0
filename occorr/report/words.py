"""The words of the reports: what a cause did, how sure a verdict is, how long a time is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

# A cause's title on a card, and what it did, as said after the gateway's name. The part between asterisks is the news.
CAUSES: Final[dict[str, tuple[str, str]]] = {
    "restart.manual": ("Stopped or restarted by hand", "was *stopped or restarted by someone*"),
    "restart.conflict": ("A second gateway", "was blocked by *a second gateway on its port or state*"),
    "restart.crash": ("Crashed", "*crashed*"),
    "restart.oom": ("Out of memory", "ran *out of memory*"),
    "restart.killed": ("Killed by a signal", "was *killed by a signal*"),
    "restart.in_process": ("Restarted itself", "*restarted itself* in process"),
    "restart.deploy": ("Deploy replaced the container", "was *replaced by a deploy*"),
    "restart.unhealthy": ("Killed by its health check", "was *killed by its health check*"),
    "restart.startup": ("Refused while starting", "refused clients *while it was starting*"),
    "restart.proxy": ("Proxy restarted", "lost its clients as *the proxy was restarted*"),
    "timeout.proxy_idle": ("Proxy cut idle connections", "lost clients to *the proxy’s idle timeout*"),
    "timeout.handshake": ("Handshake too slow", "gave up on *handshakes that took too long*"),
    "timeout.heartbeat": ("Client stopped answering pings", "dropped clients that *stopped answering pings*"),
    "timeout.upstream": ("Proxy waited in vain", "was *not reached by the proxy in time*"),
    "timeout.client": ("Client gave up", "lost clients that *gave up waiting*"),
    "auth.token_mismatch": ("Wrong token", "refused clients for *a wrong token*"),
    "auth.token_missing": ("No token", "refused clients that *sent no token*"),
    "auth.pairing_required": ("Device not paired", "refused clients whose *device is not paired*"),
    "auth.device_identity": ("Device identity refused", "refused *a device’s identity*"),
    "auth.origin": ("Origin not allowed", "refused *an origin that is not allowed*"),
    "auth.rate_limited": ("Locked out after failures", "*locked out* clients after too many failures"),
    "auth.untrusted_proxy": ("Proxy not trusted", "refused clients of *a proxy that it does not trust*"),
    "auth.proxy_denied": ("Proxy denied access", "was out of reach: *the proxy denied access*"),
    "auth.rotated": ("Token was rotated", "cut clients as *the token was rotated*"),
    "protocol.version_mismatch": ("Protocol versions differ", "refused clients of *another protocol version*"),
    "protocol.invalid_frame": ("Invalid frame", "cut clients that sent *an invalid frame*"),
    "protocol.payload_too_large": ("Message too large", "cut clients that sent *too large a message*"),
    "protocol.upgrade_missing": ("Upgrade header lost", "got requests *without the Upgrade header*"),
    "client.normal": ("Ordinary closes", "saw *clients close normally*"),
    "client.abort": ("Clients went away", "saw *clients go away without a close*"),
    "network.reset": ("Connection reset", "lost clients to *connection resets*"),
    "network.partition": ("Network partition", "lost clients to *a network partition*"),
    "overload.slow_consumer": ("Client read too slowly", "cut clients that *read too slowly*"),
    "unreachable.refused": ("Nothing listened", "was *not listening* where clients dialled"),
    "unreachable.loopback": ("Wrong loopback", "was dialled on *the wrong container’s loopback*"),
    "unreachable.dns": ("Name not resolved", "could *not be resolved by name*"),
    "unreachable.socket": ("Socket missing or forbidden", "could not be reached: *socket missing or forbidden*"),
    "unknown.unknown": ("Not known", "lost clients for *a reason the logs do not show*"),
}
SURE: Final = {
    "decisive": "the log says so",
    "supported": "several signs agree",
    "circumstantial": "fits, not proven",
    "unknown": "not known",
}
# A family's closes, as said after their number.
BY: Final = {
    "restart": "by restarts",
    "timeout": "by timeouts",
    "auth": "by refused logins",
    "protocol": "by protocol errors",
    "network": "by the network",
    "overload": "by overload",
    "unreachable": "since nothing was reachable",
    "unknown": "for reasons unknown",
}
FAMILIES: Final = ("restart", "timeout", "auth", "protocol", "network", "overload", "unreachable", "unknown", "client")


def title(cause: str) -> str:
    """A cause's title; one that has no words yet is its own name."""
    return CAUSES[cause][0] if cause in CAUSES else cause.rpartition(".")[2].replace("_", " ").capitalize()


def deed(cause: str) -> str:
    """What a cause did to the gateway, with the news between asterisks."""
    return CAUSES[cause][1] if cause in CAUSES else f"lost clients to *{title(cause).lower()}*"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 close`, `2,000 closes`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(items: Iterable[object]) -> str:
    """Items as people say them: `1, 2 and 3`."""
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def percent(probability: float | None) -> str:
    """A probability as `97 %`; 100 and 0 are never claimed."""
    return "no figure" if probability is None else f"{min(99, max(1, round(probability * 100)))} %"


def moment(ns: int | None, *, date: bool = False, error: int | None = None) -> str:
    """A time of day in UTC, `05:47:18.616`, or `05:47:18 ± 2.5 s` where it is known no better.

    Args:
        ns: ns since 1970.
        date: put the date before it.
        error: by how many ns it may be off, where that is to be told.
    """
    if ns is None:
        return "at an unknown time"
    ms = ns // 1_000_000
    day = datetime.fromtimestamp(ms // 1000, UTC)
    vague = error is not None and error >= SECOND // 2
    text = f"{day:%Y-%m-%d %H:%M:%S}" if date else f"{day:%H:%M:%S}"
    return f"{text} ± {length(error)}" if vague else f"{text}.{ms % 1000:03d}"


def length(ns: int | None) -> str:
    """A duration to three digits or so: `377 ms`, `18.2 s`, `4 min 5 s`, `2 h 3 min`."""
    if ns is None:
        return ""
    size, sign = abs(ns), "−" if ns < 0 else ""
    if size < SECOND // 1000:
        return f"{sign}{round(size / 1e6, 3):g} ms"
    if size < SECOND:
        return f"{sign}{size / 1e6:.0f} ms"
    if size < 120 * SECOND:
        return f"{sign}{size / 1e9:.3g} s"
    minutes, seconds = divmod(size // SECOND, 60)
    if minutes < 120:
        return f"{sign}{minutes} min {seconds} s"
    return f"{sign}{minutes // 60} h {minutes % 60} min"


def since(delta_ns: int | None, error_ns: int | None) -> str:
    """An evidence's distance from its close, `−377 ms ± 1 ms`."""
    if delta_ns is None:
        return "time not known"
    sign = "+" if delta_ns >= 0 else ""
    return f"{sign}{length(delta_ns)}" + (f" ± {length(error_ns)}" if error_ns is not None else "")


def amount(value: float | None, unit: str) -> str:
    """A figure's value with its unit, to three digits or so: `46.4 s`, `3`, `no data`."""
    if value is None:
        return "no data"
    if unit == "d" and abs(value) < 2:
        return length(round(value * 86400 * SECOND))
    text = f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def span(seconds: float | None) -> str:
    """A duration given in seconds, as `length` says it; nothing for none."""
    return "" if seconds is None else length(round(seconds * SECOND))


def digest(text: str) -> str:
    """An image's digest as people compare it: `sha256:046d44e8672c`."""
    kind, colon, value = text.rpartition(":")
    return f"{kind}{colon}{value[:12]}"
