"""Runs a command and stamps each line of its output: the time that a CLI's output lacks.

The file holds a JSON object a line: the moment at which a line was complete (`time`, UTC; `mono`, ns of the monotonic
clock, which no correction moves), its `stream` and its text. The first and the last stand for the recorder itself: the
command, and when it began and ended and with which code. `parsers/occorr_record.toml` reads it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from occorr import moments
from occorr.errors import OccorrError
from occorr.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

FAILED: Final = 125  # the recorder's own failure, as env(1), timeout(1) and docker run have it
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
KILLED: Final = 128  # … plus the signal's number
LONGEST: Final = 1 << 20  # bytes of a line; a longer one is written in pieces
CHUNK: Final = 1 << 16
LINGER_S: Final = 1.0  # after the command's end, so long without output from what it left running is the end
PASSED: Final = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGALRM")  # sent to the recorder alone
SHARED: Final = ("SIGINT", "SIGQUIT")  # a terminal sends them to the command too


class Recorder:
    """The file of one run.

    Args:
        path: where to write; an existing file is replaced.
        clock: ns since 1970 and of the monotonic clock.

    Raises:
        OccorrError: it cannot be written there.
    """

    __slots__ = ("_clock", "_file", "_redactor", "failure", "path")

    def __init__(self, path: Path, clock: Callable[[], tuple[int, int]]) -> None:
        self.path = path
        self.failure = ""
        self._clock = clock
        # The key is the run's own, so that nobody can try guesses against a fingerprint; equal secrets stay equal in
        # the file.
        self._redactor = Redactor(hashlib.sha256(os.urandom(32)).digest())
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise OccorrError(
                f"{path}: cannot be written: {error.strerror}; give another file with -o", FAILED
            ) from error

    def write(self, stream: str, text: bytes, *, cut: bool = False) -> None:
        """One line, stamped now; `cut` if more of it follows. A full disk ends the record, not the command."""
        if self.failure:
            return
        wall, mono = self._clock()
        moment = moments.iso(wall)
        line = self._redactor.text(text.decode("utf-8", "backslashreplace"))
        row: dict[str, Any] = {"record": line + ("" if cut else "\n"), "stream": stream, "time": moment, "mono": mono}
        try:
            self._file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            self.failure = f"{self.path}: the record ends at {moment}: {error.strerror}"

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class _Stream:
    """One output of the command: passed through as it comes, cut into lines for the file."""

    __slots__ = ("_rest", "name", "source", "target")

    def __init__(self, name: str, source: int, target: int) -> None:
        self.name, self.source, self.target = name, source, target
        self._rest = b""

    def pass_on(self, recorder: Recorder) -> bool:
        """Reads what is there; False when the command has closed this output, or nobody reads ours any more."""
        try:
            data = os.read(self.source, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:  # how a pseudo-terminal says that its other side was closed
                raise
            data = b""
        if not data:
            self.end(recorder)
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            recorder.write(self.name, line.removesuffix(b"\r"))
        while len(self._rest) >= LONGEST:
            recorder.write(self.name, self._rest[:LONGEST], cut=True)
            self._rest = self._rest[LONGEST:]
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.target, view) :]
        except BrokenPipeError:  # the command shall learn of it as it would have without us
            return False
        return True

    def end(self, recorder: Recorder) -> None:
        """Writes what has no line break yet."""
        if self._rest:
            recorder.write(self.name, self._rest)
            self._rest = b""


def run(
    command: Sequence[str],
    path: Path,
    clock: Callable[[], tuple[int, int]] = lambda: (time.time_ns(), time.monotonic_ns()),
) -> tuple[int, str]:
    """Runs a command, passes its output through untouched and records it.

    An output of ours that is a terminal is one for the command too. Signals that reach only the recorder are passed on.

    Args:
        command: the program and its arguments.
        path: the file to write.
        clock: ns since 1970 and of the monotonic clock.

    Returns: the command's exit code, 128 plus the signal's number if a signal ended it; and what ended the record
    early, or "".

    Raises:
        OccorrError: the file cannot be written (125), the command cannot be run (126) or does not exist (127).
    """
    recorder = Recorder(path, clock)
    recorder.write("recorder", f"$ {shlex.join(command)}".encode())
    begun = clock()[0]
    outputs = [_Output(name, fd) for name, fd in (("stdout", 1), ("stderr", 2))]
    try:
        child = subprocess.Popen(command, stdout=outputs[0].theirs, stderr=outputs[1].theirs)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and not os.path.lexists(command[0])
        reason = (
            "no such command; give the program as you would without occorr"
            if missing
            else f"cannot be run: {error.strerror}"
        )
        recorder.write("recorder", f"# {command[0]}: {reason}".encode())
        recorder.close()
        raise OccorrError(f"{command[0]}: {reason}", NOT_FOUND if missing else NOT_EXECUTABLE) from error
    with _signals(child, outputs), selectors.DefaultSelector() as waiting:
        for output in outputs:
            output.begun()
            waiting.register(output.ours, selectors.EVENT_READ, _Stream(output.name, output.ours, output.fd))
        while waiting.get_map():
            ready = waiting.select(LINGER_S)
            if not ready and child.poll() is not None:
                break  # a process that it left in the background holds its output open, perhaps for good
            for key, _ in ready:
                if not key.data.pass_on(recorder):
                    waiting.unregister(key.fd)
                    os.close(key.fd)
        for key in list(waiting.get_map().values()):
            key.data.end(recorder)
            os.close(key.fd)
        code = child.wait()
    code = KILLED - code if code < 0 else code
    recorder.write("recorder", f"# start_ms={begun // 10**6} end_ms={clock()[0] // 10**6} rc={code}".encode())
    recorder.close()
    return code, recorder.failure


class _Output:
    """The way from the command's output to ours: a pipe, or a pseudo-terminal where ours is a terminal."""

    __slots__ = ("fd", "name", "ours", "theirs", "tty")

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd = name, fd
        self.tty = os.isatty(fd)
        self.ours, self.theirs = _pseudo_terminal(fd) if self.tty else os.pipe()

    def begun(self) -> None:
        """The command holds its side; ours is closed, so that its end is seen."""
        os.close(self.theirs)

    def resize(self) -> None:
        """Gives the command's terminal the size of ours."""
        if self.tty:
            import termios  # noqa: PLC0415 - POSIX only, as pseudo-terminals are

            with contextlib.suppress(OSError, termios.error):
                termios.tcsetwinsize(self.ours, termios.tcgetwinsize(self.fd))


def _pseudo_terminal(like: int) -> tuple[int, int]:
    """(our side, the command's side), of the size of `like`; what the command writes passes unchanged."""
    import pty  # noqa: PLC0415
    import termios  # noqa: PLC0415

    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.OPOST  # our own terminal makes \r\n of \n
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    with contextlib.suppress(OSError, termios.error):
        termios.tcsetwinsize(theirs, termios.tcgetwinsize(like))
    return ours, theirs


@contextlib.contextmanager
def _signals(child: subprocess.Popen[bytes], outputs: Sequence[_Output]) -> Iterator[None]:
    """While the command runs: its signals are its own, and ours are passed on."""

    def hand_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    def resized(_number: int, _frame: FrameType | None) -> None:
        for output in outputs:
            output.resize()

    shared = any(map(os.isatty, range(3)))
    handlers: dict[str, Any] = {
        **dict.fromkeys(PASSED, hand_on),
        **dict.fromkeys(SHARED, (lambda _number, _frame: None) if shared else hand_on),
        "SIGWINCH": resized,
    }
    before = {
        name: signal.signal(getattr(signal, name), handler)
        for name, handler in handlers.items()
        if hasattr(signal, name)
    }
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
