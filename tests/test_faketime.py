"""Real skew: a server whose clock libfaketime moves answers requests, and its offset and drift are found from its log."""

import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from occorr import alignment
from occorr.anchors import within

MS = 1_000_000
SECOND = 1_000_000_000
SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
peer, _ = server.accept()
with peer:
    while peer.recv(1):
        print(f"{int(time.time() * 1000)}", flush=True)
        peer.sendall(b"!")
"""


@pytest.mark.skipif(shutil.which("faketime") is None, reason="libfaketime is absent: apt-get install faketime")
def test_offset_and_drift_of_a_moved_clock():
    environment = {**os.environ, "DONT_FAKE_MONOTONIC": "1"}
    started = time.time_ns()
    with subprocess.Popen(
        ["faketime", "-f", "+37.25s x1.0002", sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        asked, answered = [], []
        try:
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
                client.settimeout(10)
                for wait in np.random.default_rng(1).uniform(0.005, 0.03, 300):
                    time.sleep(wait)
                    asked.append(time.time_ns())
                    client.sendall(b"?")
                    assert client.recv(1) == b"!"
                    answered.append(time.time_ns())
            log = process.stdout.read().split()
        finally:
            process.kill()
    stamps = np.array([int(line) * MS for line in log], np.int64)
    assert len(stamps) == len(asked) == 300
    base = asked[0]
    asked, answered = np.array(asked, np.int64), np.array(answered, np.int64)
    # the server stamped, cut to the millisecond, between the request and the answer
    (found,) = alignment.align(within(asked - base, stamps - answered, stamps + MS - asked, hard=True))
    assert found.status == "aligned"
    when = np.array([0.0, found.last])
    true = 37.25 * SECOND + 200e-6 * (when + base - started)
    # the server began to count a little after `started`
    late = 200e-6 * SECOND * 5
    assert (np.abs(found.at(when) - true) <= found.error(when) + late).all()
    assert found.error(when).max() <= 5 * MS
    spread = 2 * found.errors.max() / (found.last - found.first)
    assert abs(found.drift - 200e-6) <= spread
