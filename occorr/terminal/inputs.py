"""How inputs would be read, and which formats are known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rich.text import Text

from occorr import definitions, detect, plans, read, redact, resources, unwrap
from occorr.errors import OccorrError, nearest
from occorr.terminal.base import clean, console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

TOLD: Final = 20  # lines of an input that `formats test` speaks of


def dry_run(inputs: Sequence[str], parsers: Path | None) -> None:
    """File → envelopes → format → zone → margin over the runner-up, without reading on."""
    library = definitions.builtin() if parsers is None else definitions.load(resources.folder("parsers"), parsers)
    from occorr import customs, documents  # noqa: PLC0415

    blobs = list(read.blobs(inputs))
    library = customs.extended(library, documents.texts(blobs))
    out = console()
    for blob in blobs:
        out.print(Text(clean(blob.path), "bold"))
        if not len(blob.data) and blob.lines is None:
            out.print(Text(f"  {blob.status}" + (f": {clean(blob.message)}" if blob.message else "")))
        elif document := documents.document(blob, redact.Redactor(b"")):
            out.print(Text(f"  {document.kind}" + (f": {clean(document.trouble)}" if document.trouble else "")))
        else:
            for plan in plans.plans(blob, library):
                out.print(Text("  " + (f"[{clean(plan.part)}] " if plan.part else "") + _read_as(plan)))


def _read_as(plan: plans.Plan) -> str:
    """How one part of an input is read."""
    found = plan.recognition
    steps = [*(e.name for e in plan.envelopes), found.name or "no known format", _zone_shown(plan)]
    if found.shares:
        steps.append(f"{found.shares[0]:.0%} fit, {found.margin:+.0%} over the next")
    return " → ".join(steps)


def _zone_shown(plan: plans.Plan) -> str:
    """How the stamps of a part get their zone."""
    time = plan.recognition.dialects[0].time if plan.recognition.dialects else None
    time = time or next((e.time for e in reversed(plan.envelopes) if e.time is not None), None)
    if time is None:
        return "no stamps"
    if time.zone != "naive":
        return "in UTC" if time.zone == "UTC" else "zone as written"
    return "zone not written (from a second stamp, the container's TZ or --tz, else UTC)"


def formats() -> None:
    """The list of formats and envelopes."""
    library = definitions.builtin()
    out = console()
    for f in library.formats.values():
        out.print(Text.assemble((f.name, "bold"), f"  {f.title}  ({f.path})"))
        out.print(f"  dialects: {', '.join(d.name for d in f.dialects)}")
    for e in library.envelopes.values():
        out.print(Text.assemble((e.name, "bold"), f"  envelope: {e.title}  ({e.path})"))


def format_details(name: str) -> None:
    """One format or envelope.

    Raises:
        OccorrError: no such name.
    """
    library = definitions.builtin()
    out = console()
    if name in library.envelopes:
        e = library.envelopes[name]
        out.print(f"{e.name}: {e.title} ({e.path})\nline: {e.line}\nclock: {e.clock or 'none'}")
        return
    if name not in library.formats:
        raise OccorrError(f"format {name!r} is unknown; {nearest(name, [*library.formats, *library.envelopes])}")
    f = library.formats[name]
    out.print(f"{f.name}: {f.title} ({f.path}), {f.source_kind}")
    if f.ambiguous_with:
        out.print(f"looks like: {', '.join(f.ambiguous_with)}")
    for d in f.dialects:
        t = d.time
        out.print(f"\n{d.parser}: " + (f"stamp {t.format}, zone {t.zone}, marks the {t.marks}" if t else "no stamp"))
        out.print(f"  line {d.line}")
    out.print("\nevents: " + ", ".join(dict.fromkeys(e.name for e in f.events)))
    for s in [s for s in f.samples if s.dialect][:12]:
        out.print(Text(f"  {s.path}:{s.line_number} {clean(s.line)[:200]}"))


def format_test(inputs: Sequence[str], parsers: Path | None) -> None:
    """For the first lines of each input: what claims each, or how far the nearest dialect matches.

    Log formats that a proxy's configuration among the inputs declares are known too.
    """
    library = definitions.builtin() if parsers is None else definitions.load(resources.folder("parsers"), parsers)
    from occorr import customs, documents  # noqa: PLC0415

    out = console()
    redactor = redact.Redactor(" ".join(inputs).encode())
    blobs = list(read.blobs(inputs))
    library = customs.extended(library, documents.texts(blobs))
    for blob in blobs:
        if len(blobs) > 1:
            out.print(Text(clean(blob.path), "bold"))
        if not len(blob.data) and blob.lines is None:
            out.print(f"{clean(blob.path)}: {blob.status}: {blob.message}")
        elif document := documents.document(blob, redactor):
            out.print(f"a document: {document.kind}" + (f", {clean(document.trouble)}" if document.trouble else ""))
        else:
            _lines_told(out, blob, library, redactor)


def _lines_told(out: Console, blob: read.Blob, library: definitions.Library, redactor: redact.Redactor) -> None:
    first = plans.bare(next(iter(read.chunks(blob))).head(TOLD), blob, library)
    parts = plans.plans(blob, library)
    envelopes = (
        list(parts[0].envelopes) if len(parts) == 1 else unwrap.chain(first.get_column("text"), library.envelopes)[0]
    )
    if envelopes:
        out.print(f"envelopes: {' > '.join(e.name for e in envelopes)}")
    lines = unwrap.peel(first, envelopes)
    found = detect.recognise(lines.get_column("text"), library, blob.path)
    order = detect.order(found.dialects, library)
    for row in detect.assign(lines, found.dialects, library).to_dicts():
        if not row["text"].strip():
            continue
        if row["_dialect"] >= 0:
            out.print(Text(f"{row['line']}: {order[row['_dialect']].parser}"))
            continue
        near, stop = _nearest_stop(row["text"], library)
        out.print(Text(f"{row['line']}: no format. Nearest: {near}, which matches {stop} characters:"))
        # a secret before the stop moves it; where it stops is a hint, not a count
        told = clean(redactor.text(row["text"]))
        out.print(Text("    " + told[:stop] + " ⟂ " + told[stop : stop + 60]))


def _nearest_stop(text: str, library: definitions.Library) -> tuple[str, int]:
    """The dialect whose line test matches the longest beginning of a text, and how long that is."""
    best = ("none", 0)
    for dialect in library.dialects:
        pattern = dialect.line
        for end in range(len(pattern), 1, -1):
            try:
                found = re.match(pattern[:end].replace("(?P<", "(?P<"), text)
            except re.error:
                continue
            if found:
                if found.end() > best[1]:
                    best = (dialect.parser, found.end())
                break
    return best
