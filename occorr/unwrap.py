"""Peels envelopes (`docker logs -t`, the Compose prefix, json-file, colours) before any format is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import decode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from occorr.definitions import Envelope

DEPTH: Final = 4
# CSI and OSC sequences and single-character escapes (ECMA-48).
_ANSI: Final = r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
CARRIED: Final = ("log_iostream", "compose_service", "container_name", "host_name", "process_pid")


def bare(lines: pl.DataFrame) -> pl.DataFrame:
    """`raw` as `text`: without its line break and terminal colours."""
    text = pl.col("raw").str.strip_chars_end("\r\n")
    if lines.get_column("raw").str.contains("\x1b", literal=True).any():
        text = text.str.replace_all(_ANSI, "")
    return lines.with_columns(text.alias("text"))


def chain(texts: pl.Series, envelopes: Mapping[str, Envelope]) -> tuple[list[Envelope], pl.Series]:
    """The envelopes around a sample of lines, outermost first, and the lines inside them."""
    found: list[Envelope] = []
    for _ in range(DEPTH):
        filled = texts.filter(texts.str.len_bytes() > 0)
        if filled.is_empty():
            break
        shares = {name: (filled.str.contains(e.line).mean() or 0.0, e) for name, e in envelopes.items()}
        best = max(shares.values(), key=lambda pair: float(str(pair[0])), default=(0.0, None))
        share, envelope = float(str(best[0])), best[1]
        if envelope is None or share < envelope.min_share:
            break
        found.append(envelope)
        texts = peel(pl.DataFrame({"text": texts}), [envelope]).get_column("text")
    return found, texts


def peel(lines: pl.DataFrame, envelopes: Sequence[Envelope]) -> pl.DataFrame:
    """Takes the envelopes off `text`; what they carried becomes columns. A line that lacks one keeps its text.

    Adds `observed_timestamp`, `observed_clock_id` and those of CARRIED that the envelopes hold.
    """
    frame = lines
    for envelope in envelopes:
        plan = decode.extract(frame.lazy().rename({"text": "_whole"}), envelope.extract, "_whole")
        if envelope.time is not None:
            instant, *_ = decode.stamps(envelope.time)
            plan = plan.with_columns(instant.alias("_observed"))
        out = plan.collect()
        updates = [pl.coalesce(pl.col("rest").str.strip_chars_end("\r\n"), pl.col("_whole")).alias("text")]
        if envelope.time is not None:
            earlier = [pl.col("observed_timestamp")] if "observed_timestamp" in frame.columns else []
            clock = pl.when(pl.col("_observed").is_not_null()).then(pl.lit(envelope.clock))
            before = pl.col("observed_clock_id") if earlier else pl.lit(None, pl.String)
            # the innermost envelope stands nearest to the event: its stamp wins over an outer one
            updates += [pl.coalesce(pl.col("_observed"), *earlier).alias("observed_timestamp"), clock.otherwise(before).alias("observed_clock_id")]
        keep = [c for c in out.columns if c in {*frame.columns, *CARRIED} and c != "text"]
        frame = out.select(*(c for c in keep if c not in ("observed_timestamp", "observed_clock_id") or envelope.time is None), *updates)
    if frame.get_column("text").str.contains("\x1b", literal=True).any():
        frame = frame.with_columns(pl.col("text").str.replace_all(_ANSI, ""))
    return frame
