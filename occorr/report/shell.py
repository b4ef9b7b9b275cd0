"""The shell of every HTML page: one file, no request, and a policy that runs only the scripts it was written with.

A page is a folder in `reports/` with a template that extends `shell/page.html.j2`, its styles and its scripts; `page`
puts them together with the shared theme and script, plotly if it draws, and its data.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import plotly.offline

from occorr import __version__, resources
from occorr.report import words
from occorr.report.document import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

# Characters of JSON text that a parser of HTML or of JavaScript could take for something else.
_LOOSE: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def page(
    template: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Any = None,
    picture: bool = False,
    banners: Sequence[str] = (),
    **context: Any,
) -> str:
    """Renders one self-contained page.

    Args:
        template: a template below `reports/` that extends `shell/page.html.j2`, as `timeline/template.html.j2`.
        styles: its style sheets below `reports/`; they follow the shared theme.
        scripts: its scripts below `reports/`; they follow the shared script and share one scope with it.
        data: what the scripts draw, as JSON; they read it by `JSON.parse(await unpack("page-data"))`.
        picture: carry plotly; the scripts start it by `await startPlotly()`.
        banners: what the page says first, as that secrets are in it.
        context: what else the template shows.
    """
    style = "".join(_asset(name) for name in ("shell/theme.css", *styles))
    app = "".join(_asset(name) for name in ("shell/shell.js", *scripts)) if scripts else ""
    app = f'"use strict";\n(() => {{\n{app}}})();\n' if app else ""
    bundle, bundle_hash = _plotly() if picture else ("", "")
    hashes = [h for h in (_sha256(app) if app else "", bundle_hash) if h]
    packed = "" if data is None else _pack(json_text(data))
    return (
        environment()
        .get_template(template)
        .render(
            policy=_policy(hashes),
            style=style,
            app=app,
            plotly=bundle,
            data=packed,
            banners=banners,
            version=__version__,
            FAMILIES=words.FAMILIES,
            **context,
        )
    )


def json_text(data: Any) -> str:
    """JSON that may stand anywhere in a page, also inside a script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_LOOSE)


def _asset(name: str) -> str:
    return (resources.folder("reports") / name).read_text(encoding="utf-8")


def _policy(hashes: Sequence[str]) -> str:
    """The content security policy: scripts by their hashes, no address, no evaluation; plotly needs inline styles."""
    scripts = " ".join(f"'sha256-{h}'" for h in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none';"
        " form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pack(text: str) -> str:
    """Gzip in base64: a fifth of the size, and no character of it can end the element that holds it."""
    packed = bytearray(gzip.compress(text.encode(), 9, mtime=0))
    packed[9] = 255  # the header's operating system differs between builds of zlib; "unknown" is the same everywhere
    return base64.b64encode(packed).decode()


@cache
def _plotly() -> tuple[str, str]:
    """The bundle of plotly, packed, and the hash by which the policy admits it."""
    source = plotly.offline.get_plotlyjs()
    return _pack(source), _sha256(source)
