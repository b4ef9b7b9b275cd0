"""--anonymize: no address and no host name is left in any output, and what was one stays one."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import occorr
from occorr import analysis, anonymize, report, results, schema
from occorr.cli.base import app

ROOT = Path(__file__).parent.parent / "sample_logs"
SAMPLE = ROOT / "oom-then-deploy"
KEY = b"a key"
ADDRESS = re.compile(
    r"(?<![\d.])(?:192\.0\.2|198\.51\.100|203\.0\.113|172\.\d+\.\d+)\.\d+|2001:db8:[0-9a-f:]+", re.IGNORECASE
)


@pytest.fixture(scope="module")
def plain():
    return occorr.analyze(SAMPLE)


@pytest.fixture(scope="module")
def told(plain):
    return analysis.anonymized(plain)


def replaced(*texts: str, key: bytes = KEY) -> list[str]:
    """What becomes of lines of a log."""
    frames = {name: schema.conform(schema.empty(table), table) for name, table in schema.TABLES.items()}
    frames["timeline"] = schema.conform(
        pl.DataFrame({"log_record_original": list(texts), "event_id": [str(n) for n in range(len(texts))]}),
        schema.EVENTS,
    )
    return anonymize.frames(frames, key)["timeline"].get_column("log_record_original").to_list()


def test_no_address_or_host_name_is_left_in_any_form(plain, told):
    assert ADDRESS.search(report.json_text(plain)) and "gw.example.org" in report.json_text(plain), (
        "the sample holds none: nothing would be tested"
    )
    for text in (report.json_text(told), report.markdown(told)):
        assert not ADDRESS.search(text)
        assert "example.org" not in text
        assert str(SAMPLE.parent) not in text and "sample_logs" not in text
    for name in schema.TABLES:
        assert not ADDRESS.search(getattr(told, name).write_json())


def test_joins_stay(plain, told):
    for column in ("client_address",):
        before, after = plain.closes.get_column(column).cast(pl.String), told.closes.get_column(column).cast(pl.String)
        assert (
            pl.DataFrame({"a": before, "b": after}).drop_nulls().n_unique()
            == before.drop_nulls().n_unique()
            == after.drop_nulls().n_unique()
        )
    # A client's address in a verdict's row is found again in the line that proves it.
    for row in (
        told.closes.join(told.evidence, on="close_id")
        .filter(pl.col("log_file_path").str.ends_with("proxy.access.log") & pl.col("client_address").is_not_null())
        .to_dicts()
    ):
        assert row["client_address"].startswith("ip-") and row["client_address"] in row["quote"]


def test_verdicts_are_those_of_the_real_addresses(plain, told):
    columns = ["close_id", "timestamp", "cause", "verdict", "probability", "client_port", "incident_id"]
    assert told.closes.select(columns).equals(plain.closes.select(columns))


@pytest.mark.long
def test_saved_and_fresh_results_agree_and_a_key_compares_across_results(tmp_path, told):
    runner = CliRunner()
    (tmp_path / "key").write_bytes(KEY)
    assert runner.invoke(app, ["analyze", str(SAMPLE), "-o", str(tmp_path / "real")]).exit_code == 0
    for name, more in (("a.json", []), ("b.json", ["--redact-key", str(tmp_path / "key")])):
        assert (
            runner.invoke(
                app, ["report", "timeline", str(tmp_path / "real"), "--anonymize", "-o", str(tmp_path / name), *more]
            ).exit_code
            == 0
        )
    assert runner.invoke(app, ["analyze", str(SAMPLE), "--anonymize", "-o", str(tmp_path / "hidden")]).exit_code == 0
    first = json.loads((tmp_path / "a.json").read_text())["closes"]
    assert [c["client_address"] for c in first] == results.load(tmp_path / "hidden").closes.get_column(
        "client_address"
    ).cast(pl.String).to_list()
    keyed = {c["client_address"] for c in json.loads((tmp_path / "b.json").read_text())["closes"]}
    assert replaced("from 192.0.2.108 now")[0].split()[1] in keyed
    assert replaced("from 192.0.2.108 now", key=b"another")[0].split()[1] not in keyed


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:18789",
        "[::1]:18789",
        "0.0.0.0",
        "::",
        "ws://localhost:18789",
        "05:44:10",
        "2026-11-21T05:44:10.123Z",
        "OpenClaw 2026.9.6",
        "nginx/1.22.1",
        "1:2:3",
        "sha256:0123456789abcdef",
        "::ffff:127.0.0.1",
        "a::b",
    ],
)
def test_what_names_nobody_stays(text):
    if (
        text == "a::b"
    ):  # hexadecimal by chance: a C++ name cannot be told from an address, and hiding it is the safe side
        assert replaced(f"x {text} y")[0] != f"x {text} y"
    else:
        assert replaced(f"x {text} y") == [f"x {text} y"]


def test_hosts_are_known_by_where_a_line_names_them_and_then_hidden_everywhere():
    first, second, third = replaced(
        "closed host=gw.example.org origin=https://app.example.org:8443 x",
        "GW.example.org is slow, not gw.example.orgs",
        "see gateway.file.log and app.example.org",
    )
    gateway, page = re.search(r"host=(host-\w{10}) ", first)[1], re.search(r"https://(host-\w{10}):8443", first)[1]
    assert gateway != page
    assert second == f"{gateway} is slow, not gw.example.orgs"
    assert third == f"see gateway.file.log and {page}"


@settings(max_examples=60, deadline=None)
@given(
    address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    form=st.sampled_from(["remote={} x", "[{}]:18789", "{}", '"remoteAddr":"{}"', "fwd={},10.0.0.1 x"]),
)
def test_no_address_survives_and_equal_ones_stay_equal(address, form):
    line = form.format(address)
    once, again = replaced(line, f"x {address} y")
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback or mapped.is_unspecified:
        return
    assert str(address) not in once
    assert again.split()[1] in once
    assert ipaddress.ip_address(address)  # the text that hypothesis made was one
    assert replaced(once) == [once]


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "result"
    results.save(plain, place, {})
    return place, plain.closes.filter(pl.col("client_address").is_not_null()).item(0, "close_id")


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "{close}", "{result}"],
        ["query", "{result}", "SELECT client_address, client_port FROM closes", "--format", "csv"],
        ["export", "{result}", "--to", "timesketch"],
        ["export", "{result}", "--to", "perfetto"],
        ["export", "{result}", "--to", "otlp"],
        ["export", "{result}", "--to", "csv", "--table", "evidence"],
    ],
    ids=lambda c: " ".join(w for w in c if "{" not in w)[:40],
)
def test_commands_on_a_result_hide_addresses_alike(command, saved):
    place, close = saved
    words = [w.format(result=place, close=close) for w in command]
    open_ = CliRunner().invoke(app, words)
    hidden = CliRunner().invoke(app, [*words, "--anonymize"])
    again = CliRunner().invoke(
        app, ["query", str(place), "SELECT client_address FROM closes", "--format", "csv", "--anonymize"]
    )
    assert open_.exit_code == hidden.exit_code == again.exit_code == 0, hidden.output
    assert ADDRESS.search(open_.stdout), "nothing would be tested"
    assert not ADDRESS.search(hidden.stdout) and "example.org" not in hidden.stdout
    # One client has one name in whatever is asked, so that what one command shows can be sought with the next.
    told = set(re.findall(r"ip-[0-9a-f]{10}", hidden.stdout))
    assert told & set(re.findall(r"ip-[0-9a-f]{10}", again.stdout))


def test_both_sides_of_a_comparison_share_one_key(saved, tmp_path):
    place, _ = saved
    for form in ("json", "md"):
        out = tmp_path / f"diff.{form}"
        assert CliRunner().invoke(app, ["diff", str(place), str(place), "--anonymize", "-o", str(out)]).exit_code == 0
        assert not ADDRESS.search(out.read_text()) and "example.org" not in out.read_text()
