"""The incident as a still picture: SVG that needs no script, and the same as a Mermaid chart for a ticket."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import polars as pl
from markupsafe import Markup, escape

from occorr.report import words
from occorr.report.tables import shown
from occorr.schema import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from occorr.report.digest import Digest

_WIDTH, _LEFT, _RIGHT = 1000, 150, 10
_LANE, _TOP = 26, 30
_STEPS: Final = (
    0.001,
    0.01,
    0.1,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    21600,
    43200,
    86400,
)  # s between ticks
_STATES: Final = {"down": "down", "starting": "wait", "paused": "wait", "unhealthy": "wait", "up": "up"}
# A family's mark as a path around (0, 0); the same shapes as everywhere.
_SHAPES: Final = {
    "restart": "M-5-5h10v10h-10z",
    "timeout": "M-5-6h10L-5 6h10z",
    "auth": "M0-7 7 0 0 7-7 0z",
    "protocol": "M0-7 6.7-1.8 4 6H-4L-6.7-1.800z",
    "network": "M-6-6 6 6M6-6-6 6",
    "overload": "M0-6 6.500 6h-13z",
    "unreachable": "M0 6-6.500-6h13z",
    "unknown": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "client": "M-3.500 0a3.500 3.500 0 1 0 7 0a3.500 3.500 0 1 0-7 0z",
}


def window(d: Digest) -> tuple[int, int] | None:
    """From when to when the picture reaches: all incidents that are not ordinary, with a margin; ns since 1970."""
    own = [i for i in d.incidents if i.start is not None]
    if own:
        low, high = min(i.start or 0 for i in own), max(i.end or i.start or 0 for i in own)
    elif d.first is not None and d.last is not None:
        low, high = d.first, d.last
    else:
        return None
    margin = max((high - low) // 16, SECOND)
    return low - margin, high + margin


def svg(d: Digest) -> Markup:
    """The picture, empty where nothing has a time. Colours come from the page's theme."""
    span = window(d)
    if span is None:
        return Markup("")
    low, high = span

    def x(t: int) -> float:
        return round(_LEFT + (min(max(t, low), high) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    families = [f for f in words.FAMILIES if (d.closes["family"].fill_null("unknown") == f).any()]
    lanes = [lane for lane in d.lanes if lane.gateway] + [
        lane for lane in d.lanes if not lane.gateway and any(s.state == "down" for s in lane.spans)
    ][:4]
    height = _TOP + _LANE * (len(lanes) + len(families)) + 24
    bottom = height - 20
    title = f'<title id="picture-title">{escape(_caption(d, span))}</title>'
    hatch = (
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><path class="hatch" d="M0 0V6"/></pattern></defs>'
    )
    out = [
        (
            f'<svg class="picture" viewBox="0 0 {_WIDTH} {height}" role="img"'
            f' aria-labelledby="picture-title">{title}{hatch}'
        )
    ]
    for i in d.incidents:
        if i.family != "client" and i.start is not None:
            a, b = x(i.start), x(i.end or i.start)
            out.append(
                f'<rect class="tint b-{escape(i.family)}" x="{a}" y="{_TOP - 6}" width="{max(2.0, round(b - a, 1))}"'
                f' height="{bottom - _TOP + 6}"/>'
            )
    for t, text in _ticks(low, high):
        out.append(
            f'<path class="grid" d="M{x(t)} {_TOP - 6}V{bottom}"/><text class="tick" x="{x(t)}"'
            f' y="{height - 6}">{text}</text>'
        )
    y = _TOP
    for lane in lanes:
        out.append(f'<text class="lane" x="{_LEFT - 8}" y="{y + 15}">{escape(_clip(lane.label, 22))}</text>')
        for s in lane.spans:
            start, end = s.start if s.start is not None else low, s.end if s.end is not None else high
            if end > low and start < high:
                lasted = f" for {words.length(s.end - s.start)}" if s.end is not None and s.start is not None else ""
                out.append(
                    f'<rect class="{_STATES.get(s.state, "up")}" x="{x(start)}" y="{y + 3}"'
                    f' width="{max(1.0, round(x(end) - x(start), 1))}" height="14"><title>{escape(s.state)} from'
                    f" {words.moment(s.start)}{lasted}</title></rect>"
                )
        y += _LANE
    for family in families:
        n = int(
            d.closes.filter(pl.col("family").fill_null("unknown") == family)["count"]
            .fill_null(1)
            .clip(lower_bound=1)
            .sum()
        )
        out.append(
            f'<text class="lane" x="{_LEFT - 8}" y="{y + 15}">{escape(family)} <tspan'
            f' class="n">{n:,}</tspan></text><path class="grid" d="M{_LEFT} {y + 10}H{_WIDTH - _RIGHT}"/>'
        )
        out += [_mark(family, at, y + 10, count) for at, count in _joined(d, family, x, low, high)]
        y += _LANE
    taken = -100.0
    for i in sorted((i for i in d.incidents if i.start is not None), key=lambda i: (i.start or 0, i.number)):
        place = max(x(i.start or 0), taken + 20)
        if place <= _WIDTH - 8:
            out.append(
                f'<g class="badge"><circle cx="{place}" cy="12" r="9"/><text x="{place}" y="16">{i.number}</text></g>'
            )
            taken = place
    out.append("</svg>")
    return Markup("".join(out))  # noqa: S704 - every text in it went through escape or is a number


def _caption(d: Digest, span: tuple[int, int]) -> str:
    own = list(d.incidents)
    told = "; ".join(
        f"{i.number} {words.title(i.cause)} at {words.moment(i.start)}, {words.count(i.closes, 'close')}"
        for i in own[:8]
    )
    return f"From {words.moment(span[0])} to {words.moment(span[1])} UTC: {told or 'ordinary closes'}"


def _clip(text: str, most: int) -> str:
    safe = shown(text)
    return safe if len(safe) <= most else "…" + safe[-(most - 1) :]


def _mark(family: str, at: float, y: int, count: int) -> str:
    number = f'<text class="count" x="{at}" y="{y - 8}">{count}</text>' if count > 1 else ""
    return f'<path class="s-{escape(family)}" transform="translate({at} {y})" d="{_SHAPES[family]}"/>{number}'


def _joined(d: Digest, family: str, x: Callable[[int], float], low: int, high: int) -> list[tuple[float, int]]:
    """Marks nearer than 14 px become one at the first close, with their count."""
    own = d.closes.filter(pl.col("family").fill_null("unknown") == family).with_columns(
        at=pl.coalesce("timestamp", "time_latest", "time_earliest"), n=pl.col("count").fill_null(1).clip(lower_bound=1)
    )
    marks: list[tuple[float, int]] = []
    for t, n in own.filter(pl.col("at").is_between(low, high)).sort("at").select("at", "n").rows():
        if marks and x(t) - marks[-1][0] < 14:
            marks[-1] = (marks[-1][0], marks[-1][1] + n)
        else:
            marks.append((x(t), n))
    return marks


def _ticks(low: int, high: int) -> list[tuple[int, str]]:
    step = int(next((s for s in _STEPS if (high - low) / SECOND / s <= 8), (high - low) / SECOND / 8) * SECOND)
    first = -(-low // step) * step
    made = []
    for t in range(first, high + 1, step):
        day = datetime.fromtimestamp(t // SECOND, UTC)
        made.append(
            (
                t,
                (
                    f"{day:%m-%d %H:%M}"
                    if step >= 3600 * SECOND
                    else words.moment(t)
                    if step < SECOND
                    else f"{day:%H:%M:%S}"
                ),
            )
        )
    return made


def mermaid(d: Digest, most: int) -> str:
    """The chart's source: gateways' downtimes and the incidents, at most `most` of each. No text of a log is in it but names, letters and digits only."""
    span = window(d)
    if span is None:
        return ""
    low, high = span
    axis = "%H:%M:%S" if high - low < 86400 * SECOND else "%m-%d %H:%M"
    lines = [
        "gantt",
        f"  title Timeline, UTC, from {_day(low)[:10]}",
        "  dateFormat YYYY-MM-DD HH:mm:ss.SSS",
        f"  axisFormat {axis}",
    ]
    for lane in d.lanes:
        shownable = [s for s in lane.spans if s.state != "up" and (s.end or high) > low and (s.start or low) < high]
        if lane.gateway and shownable:
            lines.append(f"  section {_name(lane.label)}")
            lines += [
                _task(
                    s.state,
                    "crit" if s.state == "down" else "active",
                    max(s.start or low, low),
                    min(s.end or high, high),
                    low,
                    high,
                )
                for s in shownable[:most]
            ]
    own = [i for i in d.incidents if i.start is not None][:most]
    if own:
        lines.append("  section Incidents")
        lines += [
            _task(
                f"{i.number} {words.title(i.cause)}, {words.count(i.closes, 'close')}",
                "active",
                i.start or low,
                i.end or i.start or low,
                low,
                high,
            )
            for i in sorted(own, key=lambda i: (i.start or 0, i.number))
        ]
    return "\n".join(lines)


def _task(text: str, kind: str, start: int, end: int, low: int, high: int) -> str:
    if end - start < (high - low) // 200:
        return f"  {_name(text)} :milestone, {_day(start)}, 0d"
    return f"  {_name(text)} :{kind}, {_day(start)}, {_day(end)}"


def _day(t: int) -> str:
    return f"{datetime.fromtimestamp(t // SECOND, UTC):%Y-%m-%d} {words.moment(t)}"


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ,./_-]+", " ", text).strip()[:60] or "unnamed"
