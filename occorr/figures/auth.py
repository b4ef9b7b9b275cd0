"""Figures of tokens and pairing, and of the sub-agents that fail when either is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import inventory
from occorr.figures.seen import Figure, Seen, cited, logged, measured, of_gate, places
from occorr.schema import SECOND

if TYPE_CHECKING:
    from occorr.gates import Gate

# A pairing request lives this long at the gateway, so mismatches within it belong to one attempt to pair.
PAIRING_WINDOW: Final = 300 * SECOND
ROTATION_REACH: Final = 3600 * SECOND  # a client that offers the old token later than this is another story
_SUBAGENT: Final = r"(?i)sub-?agent|sessions_spawn|childSessionKey"


def tokens(seen: Seen, gate: Gate) -> list[Figure]:
    """In how many places the token is set, and how many different ones are in use."""
    found = inventory.tokens(seen.facts, gate, only=seen.only)
    own = [t for t in found if t.side == "gateway" and (t.fingerprint or t.text == "masked")]
    sources, prints = sorted({t.source for t in own}), sorted({t.fingerprint for t in found if t.fingerprint})
    masked = sum(t.text == "masked" for t in found)
    missing = "no document that could hold it was read: docker inspect of the gateway, the Compose file, openclaw.json"
    looked = seen.facts.filter(pl.col("subject").is_in([*gate.subjects, "gateway"])).height > 0
    why = (
        "the documents that were read set none: openclaw.json or docker inspect of the gateway may"
        if looked
        else missing
    )
    made = [
        measured(
            "token_sources",
            len(sources) if own else None,
            len(own),
            gate,
            ", ".join(sources) or why,
            [t.place for t in own],
        )
    ]
    by_print = "; ".join(f"{p} in {', '.join(sorted({t.source for t in found if t.fingerprint == p}))}" for p in prints)
    hidden = f"{masked} masked by whoever collected them" if masked else ""
    made.append(
        measured(
            "token_fingerprints",
            len(prints) if prints else None,
            len([t for t in found if t.fingerprint]),
            gate,
            "; ".join(x for x in (by_print, hidden) if x) or why,
            [t.place for t in found if t.fingerprint],
        )
    )
    return made


def pairing(seen: Seen, gate: Gate) -> list[Figure]:
    """Mismatches, rotation, refused and successful pairings, and how long a device took to pair."""
    closes, events = of_gate(seen, gate, seen.closes), of_gate(seen, gate, seen.timeline)
    heard = logged(seen, gate, "gateway", "cli") or closes.height > 0
    silent = "no gateway log and no CLI output was read, and only they tell refusals"
    wrong = closes.filter(pl.col("cause") == "auth.token_mismatch")
    timed = wrong.drop_nulls("at").sort("at")
    most, lines = 0, cited(seen, wrong)
    if timed.height:
        windows = timed.rolling(index_column="at", period=f"{PAIRING_WINDOW}i", closed="both").agg(
            pl.col("weight").sum()
        )
        most = int(windows["weight"].max() or 0)  # type: ignore[arg-type]  # polars types a maximum as any value
    most = max(most, int(wrong.filter(pl.col("at").is_null())["weight"].max() or 0))  # type: ignore[arg-type]  # the same
    total = int(wrong["weight"].sum())
    made = [
        measured(
            "token_mismatches",
            most if heard else None,
            total,
            gate,
            f"the most within {PAIRING_WINDOW // SECOND} s, of {total} in all" if heard else silent,
            lines,
        )
    ]
    made.append(_rotation(seen, gate, closes, events))

    refused = closes.filter(pl.col("cause") == "auth.pairing_required")
    approved = events.filter(pl.col("event_name") == "pairing.approved").sort("timestamp", nulls_last=True)
    retries = int(refused["weight"].sum())
    made.append(
        measured(
            "pairing_retries",
            retries if heard else None,
            retries,
            gate,
            f"against {approved.height} successful" if heard else silent,
            cited(seen, refused),
        )
    )
    made.append(
        measured(
            "pairing_successes",
            approved.height if logged(seen, gate, "gateway") else None,
            approved.height,
            gate,
            (
                "approvals that the gateway logged"
                if logged(seen, gate, "gateway")
                else "no gateway log was read, and only it tells approvals"
            ),
            places(approved),
        )
    )
    knocks = events.filter(
        pl.col("pairing_request_id").is_not_null() | (pl.col("event_name") == "websocket.close")
    ).drop_nulls(["device_id", "timestamp"])
    knocks = knocks.group_by("device_id").agg(
        pl.col("timestamp").min().alias("first"),
        pl.len().alias("tries"),
        pl.col("log_file_path").first(),
        pl.col("log_line").first(),
    )
    pairs = (
        approved.drop_nulls(["device_id", "timestamp"])
        .select("device_id", done="timestamp")
        .join(knocks, on="device_id", maintain_order="left")
        .filter(pl.col("done") >= pl.col("first"))
    )
    pairs = pairs.with_columns(took=pl.col("done") - pl.col("first")).sort("took", descending=True)
    if pairs.height:
        middle = pairs["took"].median()
        made.append(
            measured(
                "time_to_pair",
                pairs.item(0, "took") / SECOND,
                pairs.height,
                gate,
                f"from a device's first refused attempt to its approval; median {float(str(middle)) / SECOND:.1f} s",
                places(pairs),
            )
        )
    else:
        made.append(
            measured(
                "time_to_pair",
                None,
                0,
                gate,
                "no device was both refused and later approved in what was logged" if heard else silent,
            )
        )
    return made


def _rotation(seen: Seen, gate: Gate, closes: pl.DataFrame, events: pl.DataFrame) -> Figure:
    """From a rotation until the last client that still offered the old token."""
    begun = (
        pl.concat(
            [
                events.filter(pl.col("event_name") == "auth.rotated")["timestamp"],
                closes.filter(pl.col("cause") == "auth.rotated")["at"],
            ]
        )
        .drop_nulls()
        .sort()
        .to_list()
    )
    starts: list[int] = []
    for moment in begun:
        if not starts or moment - starts[-1] > PAIRING_WINDOW:
            starts.append(moment)
    if not starts:
        return measured("token_rotation", None, 0, gate, "no rotation of the token was logged")
    wrong = closes.filter(pl.col("cause") == "auth.token_mismatch").drop_nulls("at")
    took, lines = 0.0, cited(seen, closes.filter(pl.col("cause") == "auth.rotated"))
    for start, until in zip(starts, [*starts[1:], starts[-1] + ROTATION_REACH], strict=True):
        late = wrong.filter((pl.col("at") >= start) & (pl.col("at") < min(until, start + ROTATION_REACH)))
        if late.height:
            took, lines = max(took, (late["at"].to_list()[-1] - start) / SECOND), cited(seen, late.tail(1))
    return measured(
        "token_rotation",
        took,
        len(starts),
        gate,
        "from the rotation to the last client that offered the old token; 0: none did",
        lines,
    )


def subagents(seen: Seen) -> list[Figure]:
    """Starts of sub-agents: how many failed, and the share that succeeded where successes are logged too."""
    told = seen.timeline.filter(
        pl.col("log_record_original").str.contains(_SUBAGENT) | pl.col("method").str.contains(_SUBAGENT)
    )
    done = told.filter(pl.col("rpc_status") == "ok")
    failed = told.filter((pl.col("event_name") == "cli.failure") | (pl.col("rpc_status") == "failed"))
    n = done.height + failed.height
    if not n:
        return [
            measured(name, None, 0, None, "no start of a sub-agent (sessions_spawn) was logged")
            for name in ("subagent_failures", "subagent_success")
        ]
    made = [
        measured(
            "subagent_failures", failed.height, n, None, "what the CLI and sessions_spawn reported", places(failed)
        )
    ]
    if not done.height:  # the logs tell failures and keep silent on success, so a rate of them would be made up
        return [
            *made,
            measured(
                "subagent_success", None, n, None, "only failures were logged; a rate needs the successful starts too"
            ),
        ]
    return [
        *made,
        measured("subagent_success", 100 * done.height / n, n, None, f"{done.height} of {n} starts", places(failed)),
    ]
