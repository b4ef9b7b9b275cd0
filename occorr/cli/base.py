"""The application that every command joins, and how it speaks on standard error."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from occorr.cli.defaults import Command
from occorr.errors import OccorrError
from occorr.visible import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_F = TypeVar("_F", bound="Callable[..., Any]")


class App(typer.Typer):
    """Makes every command one that tells where its values come from."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """As typer's, with a class of our own."""
        return super().command(name, **{"cls": Command, **options})


app = App(
    name="occorr",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Attributes every WebSocket close of an OpenClaw gateway to its cause, with the lines that prove it.",
)


quiet: Final = ContextVar("quiet", default=False)  # -q: only errors are told


# What trackers take of an attachment: some 10 MB, GitHub at most 25.
HEAVY: Final = 10 * 10**6
TOO_HEAVY: Final = 25 * 10**6


def left(end: BaseException) -> bool:
    """Whether an answer ended since its reader has seen enough, as `head` does; what is still said goes nowhere then.

    rich and typer each make a failure of that: an exit with 1, which means findings here.
    """
    if not isinstance(end, BrokenPipeError) and not isinstance(end.__context__, BrokenPipeError):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


@contextmanager
def ending(code: int) -> Iterator[None]:
    """Ends the command with a code when its answer is given, also where the reader left before."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as end:
        if not left(end):
            raise
    raise typer.Exit(code)


def weigh(name: str, size: int) -> None:
    """Says so where a page is too large to be attached everywhere."""
    if size > HEAVY:
        note(f"{name} has {size / 10**6:.0f} MB, more than some trackers take; --since and --until make it smaller")


def note(text: str) -> None:
    """Tells people something beside the answer, unless they asked for silence."""
    if not quiet.get():
        complain(text)


def complain(text: str) -> None:
    """Tells people what went wrong."""
    print(plain(text), file=sys.stderr)  # names of files and closes stand in messages too


def write(path: Path, data: bytes, *, folder: bool = False) -> None:
    """Writes a file whole or not at all.

    Args:
        path: the file; replaced if it exists.
        data: its bytes.
        folder: make the folders above it.

    Raises:
        OccorrError: it cannot be written there.
    """
    beside = None
    try:
        if folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe, as /dev/stdout
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)  # mkstemp gives it to its owner alone
        beside.replace(path)
    except BaseException as error:  # also Ctrl-C
        if beside is not None:
            beside.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OccorrError(
            f"{path}: cannot be written: {error.strerror}; give a file in a folder that exists"
        ) from error
