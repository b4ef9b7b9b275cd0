"""Values that a person sets once: `occorr.toml` < environment < flags, and a line on standard error for each that counts."""

from __future__ import annotations

import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand

from occorr.errors import OccorrError, nearest

if TYPE_CHECKING:
    import typer

FILE: Final = "occorr.toml"
# A directory that somebody sent may hold an occorr.toml. What runs programs, shows secrets, reads or writes a file or opens
# a port, a person has to ask for; these only say what is looked at and how it is shown.
_HARMLESS: Final = frozenset(
    {
        *("tz", "offset", "clock", "since", "until", "week", "project", "container", "all-lines", "without"),
        *("format", "time-unit", "list", "anonymize", "fail-on", "require-data"),
        *("count", "interval", "timeout", "vantage", "for"),
    }
)

untyped: ContextVar[frozenset[str]] = ContextVar("untyped", default=frozenset())  # options set elsewhere, as --project


class Command(TyperCommand):
    """A command that says which of its options were not given but set elsewhere, and where."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own context, under its public name
        """Runs the command; the lines come first, since a value that nobody typed may be why an answer surprises."""
        from occorr.cli.base import note  # noqa: PLC0415 - base has the application, which makes such commands

        elsewhere = set()
        for option in self.params:
            source = ctx.get_parameter_source(option.name or "")
            if source is not None and source.name in ("DEFAULT_MAP", "ENVIRONMENT"):
                place = ctx.find_root().obj if source.name == "DEFAULT_MAP" else f"the environment ({option.envvar})"
                elsewhere.add(option.opts[-1])
                note(f"{option.opts[-1]} {_shown(ctx.params.get(option.name or ''))}: from {place}")
        untyped.set(frozenset(elsewhere))
        return super().invoke(ctx)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def load(ctx: typer.Context, given: Path | None) -> None:
    """Reads the file and hands its values to the commands.

    A key is an option's name without its dashes; at the top it is for every command that has such an option, in a table
    `[command]` for that one.

    Args:
        ctx: the context of `occorr` itself.
        given: the file that a person named; else `occorr.toml` of the current directory counts, if there is one.

    Raises:
        OccorrError: it cannot be read, or holds what no command knows.
    """
    path = given or Path(FILE)
    if given is None and not path.is_file():
        return
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise OccorrError(f"--config {path}: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OccorrError(f"{path}: no TOML: {error}") from error
    ctx.obj = str(path)
    everywhere = {key: value for key, value in data.items() if not isinstance(value, dict)}
    used: set[str] = set()
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    ctx.default_map = _values(ctx.command, everywhere, tables, used, str(path))
    if lost := sorted(everywhere.keys() - used):
        raise OccorrError(f"{path}: no command has an option --{lost[0]}")
    if given is None and (risky := _keys(data) - _HARMLESS):
        raise OccorrError(f"{path}: {min(risky)} counts only in a file that you name: occorr --config {path} …")


def _keys(data: dict[str, Any]) -> set[str]:
    """The names that are given a value, at the top and in tables."""
    tables = [value for value in data.values() if isinstance(value, dict)]
    return {key for key in data if not isinstance(data[key], dict)}.union(*map(_keys, tables))


def _values(
    command: Any, everywhere: dict[str, Any], table: dict[str, Any], used: set[str], place: str
) -> dict[str, Any]:
    """The values of a command by parameter, those of its own subcommands below their names; notes which keys were used."""
    options = {o.removeprefix("--"): p.name for p in command.params for o in p.opts if o.startswith("--")}
    commands = getattr(command, "commands", {})
    for key in table:
        if key not in options and key not in commands:
            raise OccorrError(f"{place}: {key!r} is no command or option; {nearest(key, {*options, *commands})}")
    mine = {key: value for key, value in everywhere.items() if key in options and not commands}
    used.update(mine)
    own = {key: value for key, value in table.items() if key not in commands}
    below = {name: _values(c, everywhere, table.get(name, {}), used, place) for name, c in commands.items()}
    return below | {options[key]: value for key, value in (mine | own).items()}
