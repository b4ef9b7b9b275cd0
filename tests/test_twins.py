"""Skewed twins of sample incidents: the same verdicts, and the skew found inside its bound."""

from pathlib import Path

import polars as pl
import pytest
from twins import Skew, rewrite, twin

import occorr

SAMPLES = Path(__file__).resolve().parent.parent / "sample_logs"


@pytest.mark.parametrize(("line", "skew", "wanted"), [
    ("2026-11-21T11:13:45.413+05:30 [gateway] ready", Skew(offset=2.35), "2026-11-21T11:13:47.763+05:30 [gateway] ready"),
    ("2026-11-21T23:59:59.900Z x", Skew(offset=0.2), "2026-11-22T00:00:00.100Z x"),
    ("2026-11-21T05:43:45.413Z x", Skew(zone=330), "2026-11-21T11:13:45.413+05:30 x"),
    ("2026-11-21T05:43:45.413Z x", Skew(digits=0), "2026-11-21T05:43:45Z x"),
    ('1.2.3.4 - - [21/Nov/2026:05:44:07 +0000] "GET / HTTP/1.1" 101', Skew(offset=-3600), '1.2.3.4 - - [21/Nov/2026:04:44:07 +0000] "GET / HTTP/1.1" 101'),
    ("2026/11/21 05:44:17 [error] 7#7: *9 connect()", Skew(offset=60), "2026/11/21 05:45:17 [error] 7#7: *9 connect()"),
    ('{"ts":1795239817.776983,"status":101}', Skew(offset=1.5), '{"ts":1795239819.276983,"status":101}'),
    ("2026-11-21T05:43:45.000Z x", Skew(at=1795239825.0, step=10), "2026-11-21T05:43:55.000Z x"),
])  # fmt: skip
def test_stamps_are_rewritten(line, skew, wanted):
    assert rewrite(line, skew) == wanted


# In untrusted-proxy the proxy has no connection in common with the gateway, so nothing ties its clock to another.
@pytest.mark.parametrize(("name", "source", "skew"), [
    ("partition-behind-caddy", "gateway", Skew(offset=2.345)), ("partition-behind-caddy", "gateway", Skew(offset=-7200.25)), ("partition-behind-caddy", "gateway", Skew(offset=0.5, zone=-300)),
    ("partition-behind-caddy", "proxy", Skew(offset=2.35)), ("untrusted-proxy", "gateway", Skew(offset=2.345)), ("untrusted-proxy", "gateway", Skew(offset=0.5, zone=-300)),
])  # fmt: skip
def test_a_skewed_twin_has_the_same_verdicts(name, source, skew, tmp_path):
    before, after = occorr.analyze(SAMPLES / name), occorr.analyze(twin(SAMPLES / name, tmp_path / name, source, skew))
    columns = ["cause", "verdict", "via", "websocket_close_code", "http_status_proxy"]
    one, two = (a.closes.select(columns).sort(columns, nulls_last=True) for a in (before, after))
    assert two.equals(one)
    changed = [a.clocks.filter((pl.col("clock_id") == "gateway") if source == "gateway" else ~pl.col("clock_id").is_in(["gateway", "engine", "host", "other"])).to_dicts()[0] for a in (before, after)]
    assert [row["status"] for row in changed] == ["aligned", "aligned"]
    moved = changed[1]["offset_ns"] - changed[0]["offset_ns"]
    assert abs(moved - skew.offset * 1e9) <= changed[0]["error_ns"] + changed[1]["error_ns"]
