"""What people paste: marks of mails, chats and pages around lines are taken off; lines that a terminal or a chat broke are put together.

Both only where a line says nothing as it stands and something that is known without its marks, or with its rest.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import polars as pl

from occorr import decode, detect, unwrap

if TYPE_CHECKING:
    from occorr.definitions import Dialect, Library
    from occorr.read import Blob

PASTE: Final = 400  # an input of fewer lines may be a paste
TEXTS: Final = (".txt", ".text", ".md", ".markdown")
PASTED: Final = ("openclaw",)  # formats whose lines people paste
BROKEN: Final = (
    "gateway connect failed: ",
    "Gateway call failed: ",
    "Health check failed: ",
    "Subagent announce failed: ",
    "[openclaw] Failed to start CLI: ",
)  # named alone, but the code follows
INNER: Final = ("gateway closed (", "gateway timeout after ")
WRAPS: Final = 3  # a line is broken into at most so many more
_MARKS: Final = (
    (r"^(?:\s*(?:>|&gt;) ?)+", ""),  # a quotation
    (r"^\s*(?:[*•‣]|-(?: \[[ x]\])?|\d{1,2}[.)])\s+([`\w\[])", "${1}"),  # a list
    (r"[\s`]+$|^\s*`+|(?:<br ?/?>|</?(?:p|pre|code|li|div|span|blockquote)>)", ""),  # code in a text, a page's source
    (r"^[\w.-]+-\d+ +\| ", ""),  # Compose's word before a line or two
    (r"^[\s◇◒◐◓◑○●│└┌├╭╰─]+|[\s│]+$", ""),  # frames and spinners of a terminal
    ("[“”„«»]", '"'),
    ("[‘’]", "'"),
    ("&nbsp;", " "),
    ("&#39;|&apos;", "'"),
    ("&amp;", "&"),
)
_UNESCAPED: Final = (r'"\{"(\w+)":"([^"\\]*)"\}"', r'"{\"${1}\":\"${2}\"}"')  # a page took the backslashes
_STAMP: Final = r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(?:Z|[+-]\d\d:\d\d) )"
# The gateway's own words: who shows one of them tells of this gateway, and of no other socket.
_WORDS: Final = (
    r"(?:unauthorized: (?:gateway|device) (?:token|password) (?:missing|mismatch)|pairing required|device identity required"
    r"|origin not allowed \(|protocol mismatch|[a-z]+ upgrade pending approval)"
)
# How others show an end, and the gateway's or the CLI's line that says the same.
_RETOLD: Final = (
    (
        r'^\[?OpenClaw\] Disconnected from Gateway \(code: (\d{4}), reason: "([^"]*)".*$',
        "disconnected (${1}): ${2}",
    ),  # a dashboard
    (rf"^.*websocket: close (10\d\d) \([^)]*\): ({_WORDS}.*)$", "gateway closed (${1}): ${2}"),  # gorilla's library
    (rf"^.*received (10\d\d) \([a-z ]+\) ({_WORDS}[^;]*); then sent .*$", "gateway closed (${1}): ${2}"),  # Python's
    (rf"^(?:Error: )?({_WORDS}.*)$", "gateway connect failed: ${1}"),
    (r"^((?:closed before connect|unauthorized) conn=\S+ .*|webchat disconnected code=\d{4} reason=.*)$", "[ws] ${1}"),
)
# What a client says of a close, in a sentence of somebody else. Without the colon it is talk about codes.
_WITHIN: Final = (
    r"(?:gateway closed \(\d{4}[^()]*(?:\([^()]*\))?\)+: ?|disconnected \(\d{4}\): ?|gateway timeout after \d+ms|"
    r"Gateway not reachable at ws|Gateway WebSocket closed \(code=\d{4})"
)


def pasted(blob: Blob, chunk: pl.DataFrame) -> bool:
    """Whether a person may have pasted this: short, from standard input or a text that is called neither a log nor a document."""
    return chunk.height < PASTE and (blob.path == "-" or PurePath(blob.path).suffix.lower() in TEXTS)


def cleaned(lines: pl.DataFrame, library: Library) -> pl.DataFrame:
    """Lines without the marks of what they were pasted from, where only so they are of a known format; else as they are.

    What stands around all lines, as a journal's words do, and a stamp at a line's head are no marks.
    """
    envelopes, _ = unwrap.chain(lines.get_column("text"), library.envelopes)
    inner = unwrap.peel(lines.select("text"), envelopes).get_column("text").alias("inner")
    inner = inner.str.replace_all(*_UNESCAPED)
    bare = pl.col("inner")
    for pattern, instead in _MARKS:
        bare = bare.str.replace_all(pattern, instead)
    within = pl.col("bare").str.extract(rf"(?:^|[^\w])[\"'`(]?({_WITHIN}[^\"`│]*)", 1).str.strip_chars_end(" `'")
    forms = lines.select(inner).with_columns(bare.alias("bare")).with_columns(within.alias("within"))
    forms = forms.with_columns((pl.col("inner").str.extract(_STAMP, 1) + pl.col("within")).alias("stamped"))
    retold = pl.col("bare")
    for pattern, instead in _RETOLD:
        retold = retold.str.replace(pattern, instead)
    # between the gateway's stamped lines stands what chats and agents said; behind a broken line stands its rest
    alone = not inner.str.contains(_STAMP).any()
    above = pl.col("bare").shift(1).fill_null("")
    rest = above.str.ends_with(":") & above.str.contains_any([*BROKEN, *INNER])
    forms = forms.with_columns(pl.when((retold != pl.col("bare")) & alone & ~rest).then(retold).alias("retold"))
    forms = forms.select("retold", "inner", "bare", "stamped", "within")
    # what is not known may be the rest of what is: only its quotation marks go
    as_is = pl.when(pl.col("bare") == "").then(pl.lit("")).otherwise(pl.col("inner").str.replace(*_MARKS[0]))
    known = forms.select(pl.all().str.contains(library.line).fill_null(value=False))
    first = [pl.when(known.get_column(name)).then(name) for name in forms.columns]
    kept = forms.select(pl.coalesce(*first, as_is).alias("kept")).to_series()
    text, end = pl.col("text"), pl.lit(inner)
    around = pl.when(text.str.ends_with(end)).then(text.str.head(text.str.len_chars() - end.str.len_chars()))
    return lines.with_columns((around.fill_null("") + kept).alias("text"))


def unwrapped(lines: pl.DataFrame, dialects: tuple[Dialect, ...], library: Library) -> pl.DataFrame:
    """Lines that a terminal or a chat broke, put together where only the whole says something that is known."""
    order = detect.order(dialects, library)
    dialect, texts = lines.get_column("_dialect").to_list(), lines.get_column("text").to_list()
    width = max((len(t) for t in texts), default=0)
    gone: dict[int, int] = {}
    new: dict[int, str] = {}
    for head, which in enumerate(dialect):
        if which < 0 or order[which].definition not in PASTED:
            continue
        if head in gone:
            continue
        cut = texts[head].endswith(":") and texts[head].startswith(
            BROKEN
        )  # broken just before what failed, which is known by itself too
        first = int(cut and head + 1 < len(texts) and texts[head + 1].lstrip().startswith(INNER))
        tail = [
            *range(head + 1, head + 1 + first),
            *itertools.takewhile(
                functools.partial(_lost, dialect, texts), range(head + 1 + first, min(head + 1 + WRAPS, len(texts)))
            ),
        ]
        if not tail:
            continue
        alone = _said(texts[head], order[which], library)
        if (alone % 2 and not texts[head].endswith("):")) or (alone and not texts[head].startswith((*BROKEN, *INNER))):
            continue
        # a terminal breaks at its width and in the middle of words, a chat at spaces
        glue = ("", " ") if len(texts[head]) >= width - 1 else (" ", "")
        tried = [
            (
                n,
                "".join(
                    [texts[head], *(g + texts[i].strip() if g else texts[i] for g, i in zip(g_, tail[:n], strict=True))]
                ),
            )
            for n in range(1, len(tail) + 1)
            for g_ in itertools.product(glue, repeat=n)
        ]
        scores = [(_said(text, order[which], library), n, text) for n, text in tried]
        score, n, text = max(scores, key=lambda s: (s[0] % 2, s[0], -s[1]))  # what comes first wins among equals
        if (score and not alone) or (score % 2 and score > alone):
            new[head] = text
            gone |= dict.fromkeys(tail[:n], head)
    if not new:
        return lines
    index = pl.int_range(pl.len())
    pieces = [sum(h == i for h in gone.values()) for i in range(len(texts))]
    joined = lines.with_columns(
        pl.Series("text", [new.get(i, t) for i, t in enumerate(texts)]), pl.Series("pieces", pieces, dtype=pl.Int64)
    )
    return joined.filter(~index.is_in(list(gone)))


def _lost(dialect: list[int], texts: list[str], index: int) -> bool:
    return dialect[index] < 0 and bool(texts[index].strip())


def _said(text: str, dialect: Dialect, library: Library) -> int:
    """How much a line says: 0 if no event claims it, else twice its fields, and one more if it holds a close code."""
    frame = pl.DataFrame({"text": [text], "line": [1], "offset": [0]})
    if not frame.get_column("text").str.contains(dialect.line).item():
        return 0
    row = decode.decode(frame, dialect, library.formats[dialect.definition]).row(0, named=True)
    return (
        0
        if row["event_name"] in (None, "log")
        else 2 * sum(v is not None for v in row.values()) + (row.get("websocket_close_code") is not None)
    )
