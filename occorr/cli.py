"""The command line. Only typer is imported up front: `occorr --help` must not pay for polars."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from occorr.errors import (
    EXIT_BUG,
    EXIT_FINDINGS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PARTIAL,
    DefinitionError,
    OccorrError,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from occorr.analysis import Analysis

app = typer.Typer(
    name="occorr", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Attributes every WebSocket close of an OpenClaw gateway to its cause, with the lines that prove it.",
)  # fmt: skip
formats_app = typer.Typer(no_args_is_help=True, help="What is recognised: formats and envelopes, with their samples.", rich_markup_mode=None)
rules_app = typer.Typer(no_args_is_help=True, help="How causes are recognised: the rules, with their cases.", rich_markup_mode=None)
app.add_typer(formats_app, name="formats")
app.add_typer(rules_app, name="rules")

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


class Format(StrEnum):
    """Forms of the answer on standard output."""

    table = "table"
    json = "json"
    ndjson = "ndjson"
    md = "md"


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT…", help="log files, directories, patterns, or - for standard input")]
Since = Annotated[str | None, typer.Option(help="leave out closes before: ISO 8601, or '2 hours ago'")]
Until = Annotated[str | None, typer.Option(help="leave out closes after")]
Tz = Annotated[str | None, typer.Option(help="IANA zone of stamps that carry none, as Europe/Berlin")]
Offset = Annotated[list[str] | None, typer.Option(metavar="CLOCK=±DUR", help="override a clock: gateway=+2s says that the gateway's runs 2 s ahead")]
Clock = Annotated[list[str] | None, typer.Option(metavar="SOURCE=NAME", help="say which clock wrote the stamps of an input: 'proxy.*=nginx' (a file name or a pattern)")]
Project = Annotated[str | None, typer.Option(help="only closes of this Compose project")]
AllLines = Annotated[bool, typer.Option("--all-lines", help="keep every line in the timeline, not only those that can matter")]
RedactKey = Annotated[Path | None, typer.Option(metavar="FILE", help="key of the fingerprints, to compare them across runs")]
NoRedact = Annotated[bool, typer.Option("--no-redact", help="leave secrets in the output (a banner says so)")]
Parsers = Annotated[Path | None, typer.Option(metavar="DIR", help="a folder with definitions of your own formats")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    if version:
        from occorr import __version__  # noqa: PLC0415

        print(f"occorr {__version__}")
        raise typer.Exit(EXIT_OK)


@app.command()
def analyze(
    inputs: Inputs,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="write all tables, report.md, report.json and timeline.html here")] = None,
    form: Annotated[Format, typer.Option("--format", help="form of the answer")] = Format.table,
    since: Since = None,
    until: Until = None,
    tz: Tz = None,
    offset: Offset = None,
    clock: Clock = None,
    project: Project = None,
    all_lines: AllLines = False,
    redact_key: RedactKey = None,
    no_redact: NoRedact = False,
    parsers: Parsers = None,
    fail_on: Annotated[str | None, typer.Option(metavar="LIST", help="exit with 1 if a close has one of these families or causes, as restart,auth.origin,unknown")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how each input would be read")] = False,
) -> None:
    """Reads logs as they were found and says for each WebSocket close what caused it, how sure that is, and which lines prove it."""
    watched = _watched(fail_on)
    if dry_run:
        _dry_run(inputs, parsers)
        return
    result = _analyze(inputs, since, until, tz, offset, project, clock=clock, all_lines=all_lines, redact_key=redact_key, no_redact=no_redact, parsers=parsers)
    if out is not None:
        _save(result, out)
    _answer(result, form, brief=inputs == ["-"])
    raise typer.Exit(_code(result, watched))


def _save(result: Analysis, out: Path) -> None:
    from occorr import export, report  # noqa: PLC0415

    export.save(result, out, {"report.md": report.markdown(result), "report.json": report.json_text(result), "timeline.html": report.timeline_html(result)})
    _note(f"Written to {out}: timeline.html (open it in a browser), report.md, report.json and the tables as Parquet.")


def _analyze(
    inputs: Sequence[str], since: str | None, until: str | None, tz: str | None, offset: Sequence[str] | None, project: str | None, *,
    clock: Sequence[str] | None = None, all_lines: bool = False, redact_key: Path | None = None, no_redact: bool = False, parsers: Path | None = None,
) -> Analysis:  # fmt: skip
    from occorr import analysis  # noqa: PLC0415

    _zone(tz)
    key = None
    if redact_key is not None:
        try:
            key = redact_key.read_bytes()
        except OSError as error:
            raise OccorrError(f"--redact-key {redact_key}: {error.strerror}; give a file that holds the key") from error
    if parsers is not None and not parsers.is_dir():
        raise OccorrError(f"--parsers {parsers}: no such directory; give the folder that holds your *.toml definitions")
    return analysis.analyze(
        list(inputs), tz=tz, offsets=dict(_offset(o) for o in offset or ()), clocks=dict(_clock(c) for c in clock or ()), since_ns=_moment("--since", since, tz), until_ns=_moment("--until", until, tz), project=project,
        all_lines=all_lines, redact_key=key, redact_secrets=not no_redact, parsers=parsers,
    )  # fmt: skip


def _zone(tz: str | None) -> None:
    if tz is None:
        return
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415

    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:
        raise OccorrError(f"--tz {tz}: no such time zone; {nearest(tz, available_timezones(), few='give an IANA name, as Europe/Berlin')}") from error


def _moment(option: str, text: str | None, tz: str | None) -> int | None:
    """Nanoseconds of a moment that a person typed; says on standard error how it was understood."""
    if text is None:
        return None
    zone = tz or "UTC"
    found: datetime | None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        import dateparser  # noqa: PLC0415 - costs a quarter of a second

        found = dateparser.parse(text, settings={"TIMEZONE": zone, "RETURN_AS_TIMEZONE_AWARE": True, "PREFER_DATES_FROM": "past", "RELATIVE_BASE": datetime.now(UTC).replace(tzinfo=None)})
    if found is None:
        raise OccorrError(f"{option} {text!r} was not understood; give ISO 8601 (2026-11-21T05:47:00Z) or words such as '2 hours ago'")
    if found.tzinfo is None:
        from zoneinfo import ZoneInfo  # noqa: PLC0415

        found = found.replace(tzinfo=ZoneInfo(zone))
    _note(f"{option} {text!r} understood as {found.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    return int(found.timestamp() * 10**6) * 1000


def _offset(text: str) -> tuple[str, tuple[int, int]]:
    """`gateway=+2.5s` or `nginx=-350ms±5ms` as (clock, (offset ns, half-width ns))."""
    found = re.fullmatch(r"([\w:.-]+)=([+-]?)(\d+(?:\.\d+)?)(ns|us|µs|ms|s|min|m|h|d)(?:(?:±|\+-)(\d+(?:\.\d+)?)(ns|us|µs|ms|s))?", text)
    if not found:
        raise OccorrError(f"--offset {text!r} was not understood; give CLOCK=±DURATION, as gateway=+2s or nginx=-350ms±5ms")
    clock, sign, number, unit, error, error_unit = found.groups()
    value = round(float(number) * _UNITS[unit]) * (-1 if sign == "-" else 1)
    return clock, (value, round(float(error) * _UNITS[error_unit]) if error else 10**6)


def _clock(text: str) -> tuple[str, str]:
    """`proxy.access.log=nginx` as (input or pattern, clock)."""
    source, _, name = text.rpartition("=")
    if not source or not re.fullmatch(r"[\w:.-]+", name):
        raise OccorrError(f"--clock {text!r} was not understood; give SOURCE=NAME, as proxy.access.log=nginx or 'gateway*=gateway'")
    return source, name


def _watched(text: str | None) -> set[str]:
    if not text:
        return set()
    from occorr import schema  # noqa: PLC0415

    names = {w.strip() for w in text.split(",") if w.strip()}
    for name in sorted(names):
        if name not in schema.CAUSES and name not in schema.CAUSE_NAMES:
            raise OccorrError(f"--fail-on {name!r} is no family or cause; {nearest(name, {*schema.CAUSES, *schema.CAUSE_NAMES})}")
    return names


def _code(result: Analysis, watched: set[str]) -> int:
    if watched:
        seen = {*result.closes.get_column("family").to_list(), *result.closes.get_column("cause").to_list()}
        if seen & watched:
            return EXIT_FINDINGS
    return EXIT_PARTIAL if result.partial else EXIT_OK


def _answer(result: Analysis, form: Format, *, brief: bool) -> None:
    """The answer on standard output."""
    if form is Format.table:
        from occorr import terminal  # noqa: PLC0415

        terminal.show(result, brief=brief)
        return
    from occorr import report  # noqa: PLC0415

    if form is Format.md:
        sys.stdout.write(report.markdown(result))
    elif form is Format.json:
        sys.stdout.write(report.json_text(result))
    else:
        data = json.loads(report.json_text(result))
        for row in data["closes"]:
            print(json.dumps({"schema_version": data["schema_version"], **row}, ensure_ascii=False, sort_keys=True))


def _dry_run(inputs: Sequence[str], parsers: Path | None) -> None:
    from occorr import terminal  # noqa: PLC0415

    terminal.dry_run(inputs, parsers)


@app.command()
def explain(
    close_id: Annotated[str, typer.Argument(metavar="CLOSE_ID", help="the close, or the first characters of its id")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="a result directory that analyze -o wrote")],
) -> None:
    """The whole chain of evidence of one close: file:line, the quoted text, and how far apart in time."""
    from occorr import export, terminal  # noqa: PLC0415

    terminal.explain(export.load(directory), close_id)


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="timeline")],
    inputs: Inputs,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="the file to write; .html, .md or .json")],
    tz: Tz = None,
    no_redact: NoRedact = False,
) -> None:
    """Writes a report of logs, or of a result directory without reading the logs again."""
    from occorr import export, report as reports  # noqa: PLC0415

    makers: dict[tuple[str, str], Callable[[Any], str]] = {("timeline", ".html"): reports.timeline_html, ("timeline", ".md"): reports.markdown, ("timeline", ".json"): reports.json_text}
    if name not in {n for n, _ in makers}:
        raise OccorrError(f"report {name!r} is unknown; {nearest(name, {n for n, _ in makers})}")
    if (name, out.suffix.lower()) not in makers:
        raise OccorrError(f"-o {out}: the file's ending says the form; give one of {', '.join(sorted(s for n, s in makers if n == name))}")
    single = Path(inputs[0])
    result = export.load(single) if len(inputs) == 1 and export.is_result(single) else _analyze(inputs, None, None, tz, None, None, no_redact=no_redact)
    out.write_text(makers[name, out.suffix.lower()](result), encoding="utf-8")
    _note(f"Written to {out}")


@app.command(name="eval")
def evaluate(
    bundles: Annotated[Path, typer.Argument(metavar="BUNDLES", help="a folder with one folder an incident")],
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="a folder with the labels ID.jsonl of each incident")],
    form: Annotated[Format, typer.Option("--format", help="table or json")] = Format.table,
) -> None:
    """Scores the verdicts against labelled incidents."""
    from occorr import evaluate as scoring, terminal  # noqa: PLC0415

    scores = scoring.score_all(bundles, truth)
    if not scores:
        raise OccorrError(f"{bundles} and {truth} share no incident; expected folders BUNDLES/ID and files TRUTH/ID.jsonl")
    if form is Format.json:
        print(json.dumps({"schema_version": 1, **scoring.summary(scores)}, indent=1, sort_keys=True, default=str))
    else:
        terminal.scores(scores, scoring.summary(scores))


@formats_app.command("list")
def formats_list() -> None:
    """Every format and envelope, with its dialects and the file that defines it."""
    from occorr import terminal  # noqa: PLC0415

    terminal.formats()


@formats_app.command("show")
def formats_show(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """One definition: its dialects, events, time semantics and samples."""
    from occorr import terminal  # noqa: PLC0415

    terminal.format_details(name)


@formats_app.command("test")
def formats_test(path: Annotated[str, typer.Argument(metavar="FILE", help="a log, or - for standard input")], parsers: Parsers = None) -> None:
    """Says for the lines of a file which format claims them, or where the nearest format stops matching."""
    from occorr import terminal  # noqa: PLC0415

    terminal.format_test(path, parsers)


@formats_app.command("from-nginx")
def formats_from_nginx(text: Annotated[str, typer.Argument(metavar="LOG_FORMAT", help="the string of a log_format, or the whole statement")]) -> None:
    """Prints the definition of an nginx log_format; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_nginx(text), end="")


@formats_app.command("from-haproxy")
def formats_from_haproxy(text: Annotated[str, typer.Argument(metavar="LOG_FORMAT", help="the string of a log-format, or the whole statement")]) -> None:
    """Prints the definition of a HAProxy log-format; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_haproxy(text), end="")


@formats_app.command("from-apache")
def formats_from_apache(text: Annotated[str, typer.Argument(metavar="LOG_FORMAT", help="the string of a LogFormat, or the whole statement")]) -> None:
    """Prints the definition of an Apache LogFormat; save it as DIR/NAME.toml and give --parsers DIR."""
    from occorr import customs  # noqa: PLC0415

    print(customs.from_apache(text), end="")


@rules_app.command("list")
def rules_list() -> None:
    """Every cause with its rules and their strength."""
    from occorr import terminal  # noqa: PLC0415

    terminal.rules()


@rules_app.command("show")
def rules_show(cause: Annotated[str, typer.Argument(metavar="CAUSE")]) -> None:
    """One cause: what its rules need, what they say, what to check first."""
    from occorr import terminal  # noqa: PLC0415

    terminal.rule_details(cause)


@rules_app.command("test")
def rules_test() -> None:
    """Runs the cases of every rule file."""
    from occorr import terminal  # noqa: PLC0415

    raise typer.Exit(EXIT_OK if terminal.rule_cases() else EXIT_FINDINGS)


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Runs the command line; every failure is one message and an exit code that scripts can read."""
    try:
        app()
    except DefinitionError as error:
        _note(f"occorr: {len(error.problems)} mistake{'s' * (len(error.problems) != 1)} in definitions:\n{error}")
        raise SystemExit(error.exit_code) from None
    except OccorrError as error:
        _note(f"occorr: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_OK) from None
    except Exception as error:  # the last resort names the bug and where to look
        if os.environ.get("OCCORR_DEBUG"):
            raise
        _note(f"occorr: a bug in occorr: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\nRun again with OCCORR_DEBUG=1 to see where, and report it with the command line.")
        raise SystemExit(EXIT_BUG) from None
