"""What this machine knows of an engine that runs on it: since when it runs, and whom its kernel killed for memory."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from occorr.schema import SECOND

_OOM: Final = re.compile(
    r"(?i)out of memory|oom-kill|oom_reaper|killed process|killed as a result of limit|segfault at"
)
_TIMEOUT: Final = 10.0  # seconds for dmesg


def engine_start_ns(address: str) -> int | None:
    """When the engine behind a local socket was started, nanoseconds since 1970; None where that cannot be told.

    The kernel knows who listens on a socket. Where systemd listens and hands the socket on, nothing is known.
    """
    if sys.platform != "linux" or not address.startswith("unix://"):
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(address.removeprefix("unix://"))
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = re.search(r"(?m)^btime (\d+)$", Path("/proc/stat").read_text(encoding="utf-8"))
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    if name != "dockerd" or boot is None:
        return None
    ticks = int(rest.split()[19])  # field 22 of proc(5), in hundredths of a second since boot
    return int(boot[1]) * SECOND + ticks * (SECOND // 100)


def kills(since_ns: int, until_ns: int) -> tuple[list[str], str]:
    """The kernel's lines about killed processes in a time, as syslog writes them with ISO stamps, and why there are none.

    The stamps are the kernel's time since boot added to the wall clock's boot, as dmesg does it: they drift by some ms
    an hour.
    """
    if sys.platform != "linux":
        return [], "this machine has no Linux kernel; the engine's own runs in a virtual machine"
    try:
        done = subprocess.run(["dmesg", "--time-format", "iso"], capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"dmesg cannot be run: {getattr(error, 'strerror', None) or 'it does not answer'}"
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return [], f"{words[-1] if words else 'dmesg fails'}; run as root"
    name = re.sub(r"[^\w.:-]", "-", socket.gethostname()) or "host"
    out = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        stamp, _, body = line.partition(" ")
        if not body or not _OOM.search(body):
            continue
        try:
            at = datetime.fromisoformat(stamp.replace(",", "."))
        except ValueError:
            continue
        if since_ns <= at.timestamp() * SECOND <= until_ns:
            out.append(f"{stamp.replace(',', '.')} {name} kernel: {body}")
    return out, ""
