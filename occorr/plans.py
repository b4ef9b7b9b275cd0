"""How each part of an input is to be read: decided on a sample, applied to every line.

A part is the whole input, or the lines of one service where a Compose log mixes several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import detect, pastes, read, unwrap

if TYPE_CHECKING:
    from occorr.definitions import Envelope, Library
    from occorr.read import Blob

SAMPLE: Final = 4 << 20  # so many bytes decide how a part is read
JSON: Final = "wrapped_json"
TRIED: Final = 60  # lines on which further envelopes are tried …
CLEAR: Final = 0.75  # … where fewer than so many are understood as they are
BETTER: Final = 0.15  # what one more envelope must gain
UNSTAMPED: Final = 0.4  # how much a line without a stamp is known, for that


@dataclass(frozen=True, slots=True)
class Plan:
    """How one part of an input is to be read: decided on a sample, applied to every line."""

    part: str
    envelopes: tuple[Envelope, ...]
    recognition: detect.Recognition


def plans(blob: Blob, library: Library) -> list[Plan]:
    """What the parts of an input are: one part, or one for each service where a Compose log mixes them."""
    first = next(iter(read.chunks(blob, SAMPLE)), None)
    if first is None:
        return []
    sample = bare(detect.sample(first), blob, library)
    envelopes, _ = unwrap.chain(sample.get_column("text"), library.envelopes)
    peeled = unwrap.peel(sample, envelopes)
    if "compose_service" not in peeled.columns:
        plan = _best(
            Plan("", tuple(envelopes), detect.recognise(peeled.get_column("text"), library, blob.path)),
            peeled.get_column("text"),
            library,
            blob.path,
        )
        again = unwrap.peel(sample, plan.envelopes)
        if "compose_service" not in again.columns:
            return [plan]
        envelopes, peeled = list(plan.envelopes), again
    parts = peeled.get_column("compose_service").fill_null("").unique(maintain_order=True).sort()
    return [_service(part, peeled, envelopes, library, blob.path) for part in parts]


def bare(chunk: pl.DataFrame, blob: Blob, library: Library) -> pl.DataFrame:
    """The lines of a chunk as `text`: without line breaks and colours, and of a paste without its marks."""
    lines = unwrap.bare(chunk)
    return pastes.cleaned(lines, library) if pastes.pasted(blob, chunk) else lines


def _service(part: str, peeled: pl.DataFrame, envelopes: list[Envelope], library: Library, path: str) -> Plan:
    """A service's lines may be in one more envelope of their own, such as the stamps of `logs -t`."""
    own = peeled.filter(pl.col("compose_service").fill_null("") == part).get_column("text")
    more, inner = unwrap.chain(own, {n: e for n, e in library.envelopes.items() if e not in envelopes})
    return _best(Plan(part, (*envelopes, *more), detect.recognise(inner, library, path)), inner, library, path)


def _best(plan: Plan, texts: pl.Series, library: Library, path: str) -> Plan:
    """The plan, with one more envelope where that makes lines known that are not: a doubtful one, or some words that nobody has defined."""
    few = texts.filter(texts.str.len_bytes() > 0).head(TRIED)
    known = _understood(few, plan.recognition, library)
    if few.is_empty() or known >= CLEAR:
        return plan
    best, most = plan, known
    for envelope in [
        *sorted((e for e in library.envelopes.values() if e.doubtful), key=lambda e: (e.rank, e.name)),
        *unwrap.prefixes(few),
    ]:
        if float(str(few.str.contains(envelope.line).mean() or 0.0)) < envelope.min_share:
            continue
        inner = unwrap.peel(pl.DataFrame({"text": few}), [envelope]).get_column("text")
        more, inmost = unwrap.chain(inner, library.envelopes)
        score = _understood(inmost, detect.recognise(inmost, library, path), library)
        if (
            score < CLEAR and bool(inmost.str.starts_with('{"').mean()) and envelope.name != JSON
        ):  # a collector's JSON behind its stamp
            deeper, bottom = (
                unwrap.chain(
                    unwrap.peel(pl.DataFrame({"text": inmost}), [library.envelopes[JSON]]).get_column("text"),
                    library.envelopes,
                )
                if JSON in library.envelopes
                else ([], inmost)
            )
            told = _understood(bottom, detect.recognise(bottom, library, path), library)
            more, score = ([*more, library.envelopes[JSON], *deeper], told) if told > score else (more, score)
        if score > most + BETTER:
            whole = unwrap.peel(pl.DataFrame({"text": texts}), [envelope, *more]).get_column("text")
            best, most = (
                Plan(plan.part, (*plan.envelopes, envelope, *more), detect.recognise(whole, library, path)),
                score,
            )
    return best


def _understood(texts: pl.Series, recognition: detect.Recognition, library: Library) -> float:
    """The share of lines that are of a known format; one without a stamp of its own says less."""
    if texts.is_empty() or not recognition.dialects:
        return 0.0
    order = detect.order(recognition.dialects, library)
    found = detect.assign(pl.DataFrame({"text": texts}), recognition.dialects, library).get_column("_dialect")
    return sum((1.0 if order[i].time is not None else UNSTAMPED) for i in found if i >= 0) / len(found)


def parts(lines: pl.DataFrame, chosen: dict[str, Plan]) -> list[tuple[str, pl.DataFrame]]:
    """Bare lines by part; the envelopes around all parts are off where there are several."""
    if set(chosen) == {""}:
        return [("", lines)]
    peeled = unwrap.peel(lines, shared(chosen))
    groups = peeled.with_columns(pl.col("compose_service").fill_null("").alias("_part")).partition_by(
        "_part", as_dict=True, maintain_order=True
    )
    return [(str(key[0]), group.drop("_part")) for key, group in groups.items()]


def shared(chosen: dict[str, Plan]) -> list[Envelope]:
    """The envelopes that stand around all parts of an input that mixes several: up to the one that names the service."""
    if set(chosen) == {""}:
        return []
    outer = next(iter(chosen.values())).envelopes
    return list(
        outer[
            : max(
                i
                for i, e in enumerate(outer)
                if "compose_service" in {*e.extract.json, *re.findall(r"\?P<(\w+)>", e.extract.regex)}
            )
            + 1
        ]
    )
