"""What a review asks after an incident, answered from the evidence; where there is none, which evidence is missing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import inventory
from occorr.facts import proxies
from occorr.gates import Place, owner
from occorr.report import words
from occorr.report.said import Said, say, together

if TYPE_CHECKING:
    from occorr.figures import Seen
    from occorr.report.digest import Digest

_CLI: Final = pl.col("client_mode").eq("cli").fill_null(value=False) | pl.col("client_id").eq("cli").fill_null(
    value=False
)
_MOST: Final = 4  # values that one answer lists


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of the review: what the evidence says, its lines, and what is missing where it says nothing or too little."""

    question: str
    answer: Said
    missing: str
    lines: tuple[Place, ...] = ()


def questions(d: Digest, seen: Seen) -> list[Answer]:
    """The five questions."""
    return [_namespace(seen), _token(seen), _pairing(seen), _proxy(d, seen), _image(d, seen)]


def _lines(rows: pl.DataFrame, most: int = 3) -> tuple[Place, ...]:
    return tuple(
        Place(path or "", line)
        for path, line in rows.select("log_file_path", "log_line").unique(maintain_order=True).head(most).rows()
    )


def _addresses(facts: pl.DataFrame) -> dict[str, str]:
    """What an address is: a container's, or a bridge's and so the host's."""
    said: dict[str, dict[str, str]] = {}
    for row in facts.iter_rows(named=True):
        said.setdefault(row["subject"], {}).setdefault(row["key"], row["value"] or "")
    known = {}
    for subject, keys in said.items():
        for key, value in keys.items():
            if key.startswith("network.") and key.endswith(".address"):
                known[value] = f"the container of {owner(subject, keys)}"
            elif (key.startswith("network.") and key.endswith(".gateway")) or (
                subject.startswith("network:") and key == "gateway"
            ):
                known.setdefault(value, "the host, through the bridge of its network")
    return known


def _where(address: str, known: dict[str, str]) -> str:
    if address in known:
        return known[address]
    if address == "192.168.65.1":
        return "the host, through Docker Desktop's address translation"
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return "an address that no document names"
    if number.is_loopback:
        return "the gateway's own network namespace: its container, or one that shares its network"
    return "another machine or container: no document names the address"


def _namespace(seen: Seen) -> Answer:
    ask = "Which namespace started the CLI?"
    lacks = "a gateway log with the CLI's address (docker inspect names its container), or the CLI's own output"
    known = _addresses(seen.facts)
    tried = seen.timeline.filter(_CLI & pl.col("source_kind").eq("gateway")).with_columns(
        address=pl.coalesce(
            pl.col("forwarded_for").str.split(",").list.first().str.strip_chars(), "client_address", "remote_address"
        )
    )
    groups = (
        tried.drop_nulls("address")
        .group_by("address")
        .agg(
            pl.coalesce("conn_id", "conn_short", "event_id").n_unique().alias("n"),
            pl.col("log_file_path").first(),
            pl.col("log_line").first(),
        )
        .sort(["n", "address"], descending=[True, False])
    )
    by_place: dict[str, list[tuple[str, int]]] = {}
    for address, n in groups.select("address", "n").rows():
        by_place.setdefault(_where(address, known), []).append((address, n))
    heard = []
    for where, found in by_place.items():
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        heard.append(
            say(
                f"{words.count(sum(n for _, n in found), 'attempt')} from {{}}{more}: {{}}.",
                [a for a, _ in found[:_MOST]],
                where if where in known.values() else say(where),
            )
        )
    own = seen.timeline.drop_nulls("cli_target").unique("cli_target", keep="first", maintain_order=True)
    targets = [
        say(
            "The CLI's own output says that it dialled {}{}.",
            row["cli_target"],
            say(" (from {})", row["cli_source"]) if row["cli_source"] else Said(()),
        )
        for row in own.head(_MOST).iter_rows(named=True)
    ]
    lines = _lines(pl.concat([groups.select("log_file_path", "log_line"), own.select("log_file_path", "log_line")]), 5)
    if heard:
        return Answer(ask, together([*heard, *targets]), "", lines)
    if targets:
        return Answer(ask, together(targets), "from where it dialled: " + lacks.partition(",")[0], lines)
    return Answer(ask, Said(()), lacks)


def _token(seen: Seen) -> Answer:
    ask = "Which file or variable held the token in the end?"
    found = [t for gate in seen.gates for t in inventory.tokens(seen.facts, gate, only=seen.only)]
    own = [t for t in found if t.side == "gateway"]
    if not own:
        return Answer(
            ask,
            Said(()),
            "openclaw.json (gateway.auth.token) and docker inspect of the gateway (OPENCLAW_GATEWAY_TOKEN); secrets"
            " become fingerprints",
        )
    lines = tuple(dict.fromkeys(t.place for t in found))[:5]
    places = [say("{}: {}", t.source, t.text) for t in {(t.source, t.text): t for t in found}.values()]
    literal = {t.source for t in own if t.fingerprint or t.text == "masked"}
    prints = {t.fingerprint for t in own if t.fingerprint}
    listed = together([say("Gateway and clients:"), together(places, "; ")])
    if len(literal) == 1:
        return Answer(
            ask,
            together([say("{}, the only place that sets it.", next(iter(literal))), listed, say(".")], " "),
            "",
            lines,
        )
    if len(prints) == 1 and not any(t.text == "masked" for t in own):
        return Answer(ask, together([say("{}, and all hold the same one.", sorted(literal)), listed]), "", lines)
    return Answer(ask, listed, "which of them the running gateway took: start it with one of them alone", lines)


def _pairing(seen: Seen) -> Answer:
    ask = "Was pairing tried before the token was edited?"
    knocks = seen.closes.filter(pl.col("cause") == "auth.pairing_required").drop_nulls("at")
    pairs = seen.timeline.filter((pl.col("event_name") == "pairing.approved") & pl.col("timestamp").is_not_null()).sort(
        "timestamp"
    )
    edits = seen.timeline.filter((pl.col("event_name") == "auth.rotated") & pl.col("timestamp").is_not_null()).sort(
        "timestamp"
    )
    cited = seen.evidence.filter(
        pl.col("close_id").is_in(knocks["close_id"].to_list()[:1]) & (pl.col("role") == "supports")
    )
    lines = _lines(
        pl.concat([f.select("log_file_path", "log_line") for f in (cited.head(1), pairs.head(1), edits.head(1))]), 3
    )
    moments = [int(t) for t in (knocks["at"].min(), pairs["timestamp"].min()) if isinstance(t, int)]
    first, edit = min(moments, default=None), edits["timestamp"].min()
    history = (
        "the history of openclaw.json and of the environment (version control, backups): an edit that needs no reload"
        " leaves no line"
    )
    if first is not None and isinstance(edit, int):
        order = "Yes" if first < edit else "No"
        return Answer(
            ask,
            say(
                f"{order}: the first pairing attempt was at {words.moment(first)}, the token changed at"
                f" {words.moment(edit)} UTC."
            ),
            "",
            lines,
        )
    if first is not None:
        return Answer(
            ask,
            say(f"Pairing was tried at {words.moment(first)} UTC; no line tells a change of the token."),
            history,
            lines,
        )
    heard = bool((seen.timeline["source_kind"] == "gateway").any())
    if isinstance(edit, int):
        return Answer(
            ask,
            say(
                f"The token changed at {words.moment(edit)} UTC; no pairing attempt was logged before it."
                if heard
                else f"The token changed at {words.moment(edit)} UTC."
            ),
            "" if heard else "the gateway's log",
            lines,
        )
    if heard:
        return Answer(ask, say("Neither a pairing attempt nor a change of the token was logged."), history)
    return Answer(ask, Said(()), "the gateway's log (pairing), and " + history)


def _proxy(d: Digest, seen: Seen) -> Answer:
    ask = "Was a proxy on the path?"
    counts = dict(d.closes.group_by("via").agg(pl.col("count").fill_null(1).clip(lower_bound=1).sum()).iter_rows())
    through, direct = int(counts.get("proxy", 0)), int(counts.get("direct", 0))
    programs = sorted(set(proxies(seen.facts)))
    asked = seen.timeline.filter(pl.col("source_kind") == "proxy")
    formats = sorted({p.partition("/")[0].partition("_")[0] for p in asked["parser"].drop_nulls().unique()})
    lines = _lines(
        pl.concat([asked.filter(pl.col("event_name") == "http.access").head(1), asked.head(1)]).select(
            "log_file_path", "log_line"
        ),
        1,
    )
    named = programs or formats
    if through and not named:  # whoever connects can claim a forwarded address
        claims = seen.timeline.filter(pl.col("forwarded_for").is_not_null() & (pl.col("source_kind") == "gateway"))
        return Answer(
            ask,
            say(
                f"Perhaps: {words.count(through, 'close')} of {d.total:,} came from an address that sends"
                " X-Forwarded-For, which a client can write too. No proxy's log and no proxy's container was read."
            ),
            "the proxy's access log, or docker inspect of the host's containers",
            _lines(claims, 1),
        )
    if through:
        return Answer(
            ask,
            say(
                f"Yes{': {}' if named else ''}. {words.count(through, 'close')} of {d.total:,} came through it,"
                f" {direct:,} came"
                f" directly{f', of {d.total - through - direct:,} it is not known' if d.total - through - direct else ''}.",
                *([named] if named else []),
            ),
            "",
            lines,
        )
    if named:
        return Answer(
            ask,
            say("A proxy was there ({}), but no close was seen on it.", named),
            "the proxy's access log of the same time",
            lines,
        )
    if direct:
        return Answer(
            ask,
            say(
                f"No sign of one: {words.count(direct, 'close')} came directly, and no proxy's log or container was"
                " read."
            ),
            "" if direct == d.total else "the proxy's access log, if there is one",
            lines,
        )
    return Answer(ask, Said(()), "the proxy's access log, docker inspect, or a gateway log with fwd= and remote=")


def _image(d: Digest, seen: Seen) -> Answer:
    ask = "Which image digest was live?"
    found = inventory.deploys(seen.timeline, seen.facts)
    labels = {g.label for g in seen.gates}
    own = [x for x in found if x.owner in labels] or [x for x in found if "gateway" in x.owner]
    if not own:
        return Answer(ask, Said(()), "docker inspect of the gateway, or docker events with its create")
    worst = d.worst
    at = worst.start if worst else d.last
    live = [
        x for x in own if at is None or ((x.start is None or x.start <= at) and (x.end is None or x.end > at))
    ] or own
    when = f" at {words.moment(at)} UTC" if at is not None else ""
    ran = [
        say(
            f"{{}} ran {{}}{when}{'' if x.digest else ', its digest is not known'}{', digest {}' if x.digest else ''}.",
            x.owner,
            x.image or "an unnamed image",
            *([x.digest] if x.digest else []),
        )
        for x in live[:_MOST]
    ]
    later = [x for x in own if x not in live and x.digest]
    if later and not any(x.digest for x in live):
        ran.append(
            say(
                "The container that replaced it has {}{}.",
                later[-1].digest,
                say(" and the same tag") if later[-1].image == live[0].image else say(""),
            )
        )
    return Answer(
        ask,
        together(ran),
        (
            ""
            if all(x.digest for x in live)
            else (
                "docker inspect of that container, taken before it was removed; or docker events, whose create names"
                " the image's digest on newer engines"
            )
        ),
        tuple(x.place for x in live[:3]),
    )


def layers(d: Digest, seen: Seen) -> list[dict[str, Any]]:
    """L1 transport, L2 auth, L3 channels: how each stands, and on what that rests."""
    n = pl.col("count").fill_null(1).clip(lower_bound=1)
    bad = dict(d.closes.filter(pl.col("family") != "client").group_by("layer").agg(n.sum()).iter_rows())
    open_ = int(
        d.closes.filter(
            pl.col("websocket_close_code").is_in([1006, 1008]) & (pl.col("family").fill_null("unknown") == "unknown")
        )
        .select(n.sum())
        .item()
        or 0
    )
    connected = seen.timeline.filter(pl.col("event_name").is_in(["websocket.connected", "websocket.hello"])).height
    held = int(d.closes.filter(pl.col("established").fill_null(value=False)).select(n.sum()).item() or 0)
    first, second = int(bad.get("L1", 0)), int(bad.get("L2", 0))
    good = (
        f"{held:,} of {words.count(d.total, 'close')} {'was' if held == 1 else 'were'} of a connection that had opened"
        if d.total
        else ""
    )
    channels = seen.timeline.filter(pl.col("method").str.starts_with("channels."))
    ok = int(channels.filter(pl.col("rpc_status") == "ok").height)
    none = not d.total and not connected
    return [
        {
            "layer": "L1 transport",
            "state": "no data" if none else "broken" if first or open_ else "sound",
            "said": (
                "no handshake and no close was seen"
                if none
                else (
                    f"{words.count(first, 'close')} by transport causes, {open_:,} with 1006 or 1008 unexplained;"
                    f" {good}"
                )
            ),
        },
        {
            "layer": "L2 auth",
            "state": "no data" if none else "broken" if second else "sound",
            "said": (
                "nobody was seen to log in"
                if none
                else (
                    f"{words.count(second, 'attempt')} refused for token, pairing or identity; {connected:,} logged"
                    " connections passed"
                )
            ),
        },
        {
            "layer": "L3 channels",
            "state": "no data" if channels.is_empty() else "sound" if ok == channels.height else "broken",
            "said": (
                "no channel probe was read: openclaw channels status --probe"
                if channels.is_empty()
                else f"{ok} of {words.count(channels.height, 'probe')} gave a readable state"
            ),
        },
    ]
