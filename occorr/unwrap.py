"""Peels envelopes (`docker logs -t`, the Compose prefix, json-file, colours) before any format is tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import decode, schema
from occorr.definitions import Envelope, Extract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEPTH: Final = 4
WORDS: Final = 7
LIKELY: Final = 0.4  # so many lines must begin anew behind the words: the others belong to the ones before them
_BEGINS: Final = (
    r"(?:\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d|\d\d:\d\d:\d\d |\S+ \S+ \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:|\S+:\d+"
    r" \[\d\d/[A-Z][a-z]{2}/|\{\")"
)
# CSI and OSC sequences and single-character escapes (ECMA-48).
_ANSI: Final = r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
_LOST_HEAD: Final = r"^\[\d{1,3}(?:;\d{1,3})*m"
_LOST: Final = r"(?: ?\[\d{1,3}(?:;\d{1,3})*m)+ ?"
_STAMP: Final = ("observed_timestamp", "observed_clock_id", "observed_zone_inline", "observed_resolution_ns")
_BYTES: Final = r"^\[\d{1,3}(?:,\s?\d{1,3})*\]$"


def bare(lines: pl.DataFrame) -> pl.DataFrame:
    """`raw` as `text`: without its line break and terminal colours."""
    text = pl.col("raw").str.strip_chars_end("\r\n")
    if lines.get_column("raw").str.contains("\x1b", literal=True).any():
        text = text.str.replace_all(_ANSI, "")
    # where a paste lost the escape character or made it a blank, the rest of each sequence stands there
    lost = pl.col("raw").str.contains(_LOST_HEAD)
    if lines.select(lost.any()).item():
        text = pl.when(lost).then(text.str.replace_all(_LOST, " ").str.strip_chars(" ")).otherwise(text)
    return lines.with_columns(text.alias("text"))


def chain(texts: pl.Series, envelopes: Mapping[str, Envelope]) -> tuple[list[Envelope], pl.Series]:
    """The envelopes around a sample of lines, outermost first, and the lines inside them."""
    found: list[Envelope] = []
    any_line = "|".join(f"(?:{e.line})" for e in envelopes.values())
    for _ in range(DEPTH):
        filled = texts.filter(texts.str.len_bytes() > 0)
        if not filled.str.contains(any_line).any():
            break
        fits = [
            (float(str(filled.str.contains(e.line).mean() or 0.0)), e)
            for e in envelopes.values()
            if len(filled) >= e.min_lines and not e.doubtful
        ]
        share, envelope = max(fits, key=lambda pair: (pair[0], -pair[1].rank), default=(0.0, None))
        if envelope is None or share < envelope.min_share:
            break
        found.append(envelope)
        texts = peel(pl.DataFrame({"text": texts}), [envelope]).get_column("text")
    return found, texts


def prefixes(texts: pl.Series) -> list[Envelope]:
    """Envelopes that nobody has defined: so many words before what looks like the beginning of a line of a log."""
    found = []
    for words in range(1, WORDS + 1):
        line = rf"^(?:(?:[^\s{{\"]|\{{[^\s\"])\S*[ \t]+){{{words}}}"
        if float(str(texts.str.contains(line + _BEGINS).mean() or 0.0)) >= LIKELY:
            found.append(
                Envelope(
                    f"prefix_{words}",
                    f"{words} words before each line",
                    "",
                    line,
                    Extract(regex=line + r"(?P<rest>[\s\S]*)$"),
                    None,
                    "",
                    LIKELY,
                    1,
                    90,
                    "",
                    0,
                    True,
                    (),
                )
            )
    return found


def peel(lines: pl.DataFrame, envelopes: Sequence[Envelope]) -> pl.DataFrame:
    """Takes the envelopes off `text`; what they carried becomes columns. A line that lacks one keeps its text.

    Adds the columns of _STAMP and those of schema.CARRIED that the envelopes hold.
    """
    frame = lines
    for envelope in envelopes:
        plan = decode.extract(frame.lazy().rename({"text": "_whole"}), envelope.extract, "_whole")
        stamped = envelope.time is not None
        if envelope.time is not None:
            instant, _, digits, inline, *_ = decode.stamps(envelope.time)
            finest = pl.lit(10, pl.Int64).pow((9 - pl.col("_width").max()).cast(pl.Int64))
            plan = plan.with_columns(
                instant.alias("_observed"), digits.alias("_width"), inline.alias("_inline")
            ).with_columns(
                (pl.lit(envelope.time.resolution_ns, pl.Int64) if envelope.time.resolution_ns else finest).alias(
                    "_resolution"
                )
            )
        out = plan.collect()
        if envelope.extract.json and "rest" in out.columns:
            out = _from_bytes(out)
        inner = pl.coalesce(pl.col("rest").str.strip_chars_end("\r\n"), pl.col("_whole"))
        # what looks like the envelope but holds no readable stamp is none
        updates = [
            (
                pl.when(pl.col("_observed").is_not_null()).then(inner).otherwise("_whole")
                if stamped and envelope.extract.regex
                else inner
            ).alias("text")
        ]
        if stamped:
            # the innermost envelope stands nearest to the event: its stamp wins over an outer one
            hit = pl.col("_observed").is_not_null()
            news = (pl.col("_observed"), pl.lit(envelope.clock), pl.col("_inline"), pl.col("_resolution"))
            updates += [
                pl.when(hit).then(new).otherwise(pl.col(name) if name in frame.columns else None).alias(name)
                for name, new in zip(_STAMP, news, strict=True)
            ]
        if envelope.whole:
            out = _rejoined(out, envelope)
        keep = [
            c
            for c in out.columns
            if c in {*frame.columns, *schema.CARRIED, "pieces"} and c != "text" and not (stamped and c in _STAMP)
        ]
        frame = out.select(*keep, *updates)
    if frame.get_column("text").str.contains("\x1b", literal=True).any():
        frame = frame.with_columns(pl.col("text").str.replace_all(_ANSI, ""))
    return frame


def _rejoined(out: pl.DataFrame, envelope: Envelope) -> pl.DataFrame:
    """Lines that the envelope split put together again; they keep the number, place and stamp of their first piece."""
    piece = (
        ~pl.col("_whole").str.contains(envelope.whole)
        & pl.col("rest").is_not_null()
        & (pl.col("rest").str.len_bytes() >= envelope.split_at)
    ).fill_null(value=False)
    pieces = out.select(piece.alias("p")).get_column("p")
    if not pieces.any():
        return out
    stream = "log_iostream" if "log_iostream" in out.columns else pl.lit("")
    first = ~pl.col("_piece").shift(1, fill_value=False).over(pl.col("_stream"))
    numbered = out.with_columns(
        pieces.alias("_piece"), (pl.col(stream) if isinstance(stream, str) else stream).fill_null("").alias("_stream")
    ).with_row_index("_at")
    numbered = numbered.with_columns(first.cum_sum().over("_stream").alias("_group"))
    held = [c for c in out.columns if c != "rest"]
    joined = numbered.group_by("_stream", "_group", maintain_order=True).agg(
        pl.col("_at").first(),
        pl.col(held).first(),
        pl.coalesce("rest", "_whole").str.join("").alias("rest"),
        pl.len().cast(pl.Int64).alias("_pieces"),
    )
    more = pl.col("pieces") + pl.col("_pieces") - 1 if "pieces" in out.columns else pl.col("_pieces") - 1
    return joined.sort("_at").with_columns(more.alias("pieces")).drop("_at", "_stream", "_group", "_pieces")


def _from_bytes(out: pl.DataFrame) -> pl.DataFrame:
    """Messages that are lists of bytes, as journald writes those with control characters in them, as text."""
    rest = out.get_column("rest")
    if not rest.str.contains(_BYTES).any():
        return out
    texts = [
        (
            bytes(int(n) for n in re.findall(r"\d+", t) if int(n) < 256).decode("utf-8", "replace")
            if t is not None and re.match(_BYTES, t)
            else t
        )
        for t in rest
    ]
    return out.with_columns(pl.Series("rest", texts, dtype=pl.String))
