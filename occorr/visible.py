"""Characters that move, hide or reorder what a reader sees, written out: log text is hostile, wherever it is shown."""

from __future__ import annotations

import re
from typing import Any, Final

# C0 and C1 controls, zero-width characters, line separators and bidirectional controls. Lone surrogates cannot be drawn
# at all.
_SIGNS: Final = "\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
_INVISIBLE: Final = re.compile(f"[{_SIGNS}]")
_BUT_LINES: Final = re.compile(f"(?!\n)[{_SIGNS}]")
# Stands in every output that was made with --no-redact.
NOT_REDACTED: Final = "Not redacted: this holds secrets as the logs had them. Do not attach it to a ticket."


def unredacted(*, redacted: bool) -> tuple[str, ...]:
    """The banner that an output with secrets begins with; none where they were replaced."""
    return () if redacted else (NOT_REDACTED,)


def visible(text: str) -> str:
    """The text with every such character written out, as a backslash, `u` and its number in braces."""
    return _INVISIBLE.sub(lambda m: f"\\u{{{ord(m[0]):x}}}", text)


def plain(text: Any) -> str:
    """Text for a terminal: line breaks stay, a tab becomes a space, any other such character �."""
    return _BUT_LINES.sub("�", str(text).replace("\t", " "))


def json_escaped(document: str) -> str:
    """A JSON document that holds none of them as it is; it means the same."""
    return _BUT_LINES.sub(_escape, document)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
