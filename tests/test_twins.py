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
    ("2026-11-21T05:43:45.413Z x", Skew(digits=0), "2026-11-21T05:43:45.000Z x"),
    ('1.2.3.4 - - [21/Nov/2026:05:44:07 +0000] "GET / HTTP/1.1" 101', Skew(offset=-3600), '1.2.3.4 - - [21/Nov/2026:04:44:07 +0000] "GET / HTTP/1.1" 101'),
    ("2026/11/21 05:44:17 [error] 7#7: *9 connect()", Skew(offset=60), "2026/11/21 05:45:17 [error] 7#7: *9 connect()"),
    ('{"ts":1795239817.776983,"status":101}', Skew(offset=1.5), '{"ts":1795239819.276983,"status":101}'),
    ("2026-11-21T05:43:45.000Z x", Skew(at=1795239825.0, step=10), "2026-11-21T05:43:55.000Z x"),
])  # fmt: skip
def test_stamps_are_rewritten(line, skew, wanted):
    assert rewrite(line, skew) == wanted


# In untrusted-proxy the proxy has no connection in common with the gateway, so nothing ties its clock to another.
@pytest.mark.long
@pytest.mark.parametrize(("name", "source", "skew"), [
    ("partition-behind-caddy", "gateway", Skew(offset=2.345)), ("partition-behind-caddy", "gateway", Skew(offset=-7200.25)), ("partition-behind-caddy", "gateway", Skew(offset=0.5, zone=-300)),
    ("partition-behind-caddy", "proxy", Skew(offset=2.35)), ("untrusted-proxy", "gateway", Skew(offset=2.345)), ("untrusted-proxy", "gateway", Skew(offset=0.5, zone=-300)),
    ("lockout-beside-worker", "gateway", Skew(digits=0)), ("in-process-restart", "gateway", Skew(digits=0)),
])  # fmt: skip
def test_a_skewed_twin_has_the_same_verdicts(name, source, skew, tmp_path):
    before, after = occorr.analyze(SAMPLES / name), occorr.analyze(twin(SAMPLES / name, tmp_path / name, source, skew))
    columns = ["cause", "verdict", "via", "websocket_close_code", "http_status_proxy"]
    one, two = (a.closes.select(columns).sort(columns, nulls_last=True) for a in (before, after))
    assert two.equals(one)
    changed = [
        a.clocks.filter(
            (pl.col("clock_id") == "gateway")
            if source == "gateway"
            else ~pl.col("clock_id").is_in(["gateway", "engine", "host", "other"])
        ).to_dicts()[0]
        for a in (before, after)
    ]
    assert [row["status"] for row in changed] == ["aligned", "aligned"]
    assert changed[1]["error_ns"] <= 100e6
    moved = changed[1]["offset_ns"] - changed[0]["offset_ns"]
    assert abs(moved - skew.offset * 1e9) <= changed[0]["error_ns"] + changed[1]["error_ns"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["partition-behind-caddy", "paused-behind-haproxy"])
def test_a_proxy_clock_that_was_set_is_two_segments(name, tmp_path):
    before = occorr.analyze(SAMPLES / name)
    stamps = before.timeline.get_column("timestamp").drop_nulls().cast(pl.Int64)
    after = occorr.analyze(
        twin(SAMPLES / name, tmp_path / name, "proxy", Skew(at=(stamps.min() + stamps.max()) / 2e9, step=5.0))
    )
    proxy = ~pl.col("clock_id").is_in(["gateway", "engine", "host", "other"])
    first, gap, last = after.clocks.filter(proxy).sort("segment_start").to_dicts()
    true = before.clocks.filter(proxy).row(0, named=True)
    for row, step in ((first, 0), (last, 5e9)):
        assert abs(row["offset_ns"] - step - true["offset_ns"]) <= row["error_ns"] + true["error_ns"]
        assert row["error_ns"] < 50e6
    assert "the clock was set in this time" in gap["method"]
    assert (
        gap["offset_ns"] - gap["error_ns"]
        <= first["offset_ns"]
        <= last["offset_ns"]
        <= gap["offset_ns"] + gap["error_ns"]
    )
    assert after.closes.get_column("cause").sort().equals(before.closes.get_column("cause").sort())


@pytest.mark.parametrize("source", ["gateway", "proxy"])
def test_a_clock_that_ticks_in_seconds_is_noticed_although_it_writes_milliseconds(source, tmp_path):
    after = occorr.analyze(twin(SAMPLES / "partition-behind-caddy", tmp_path / "x", source, Skew(digits=0)))
    own = after.timeline.filter(
        (pl.col("source_kind") == source) & (pl.col("clock_id") != "engine") & pl.col("timestamp_raw").is_not_null()
    )
    assert own.height > 20
    assert own.get_column("time_resolution_ns").min() == 10**9
    row = after.clocks.filter(pl.col("clock_id") == own.item(0, "clock_id")).row(0, named=True)
    assert row["status"] == "aligned"
    assert abs(row["offset_ns"]) <= row["error_ns"] < 1.1e9  # the clock itself was right


def two_proxies(folder: Path, skew: Skew) -> tuple[str, ...]:
    """Two HAProxies before one gateway, each with half of the clients, in one folder; the clock of `inner` is skewed."""
    twin(SAMPLES / "paused-behind-haproxy", folder, "docker", Skew())
    log = folder / "proxy.access.log"
    lines = log.read_text(encoding="utf-8").splitlines()
    log.unlink()
    for name, part in (("edge", lines[::2]), ("inner", [rewrite(line, skew) for line in lines[1::2]])):
        (folder / f"{name}.access.log").write_text("\n".join(part) + "\n", encoding="utf-8")
    return ("haproxy:edge", "haproxy:inner")


@pytest.mark.long
def test_two_proxies_of_a_kind_have_clocks_of_their_own(tmp_path):
    names = two_proxies(tmp_path / "x", Skew(offset=2.35))
    after = occorr.analyze(tmp_path / "x")
    edge, inner = (after.clocks.filter(pl.col("clock_id") == name).row(0, named=True) for name in names)
    assert edge["status"] == inner["status"] == "aligned"
    assert abs(inner["offset_ns"] - edge["offset_ns"] - 2.35e9) <= edge["error_ns"] + inner["error_ns"]
    before = occorr.analyze(SAMPLES / "paused-behind-haproxy")
    assert after.closes.get_column("cause").sort().equals(before.closes.get_column("cause").sort())
