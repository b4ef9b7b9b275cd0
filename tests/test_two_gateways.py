"""Two Compose projects on one host, their logs in one directory: what happens to one gateway says nothing of the other."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from twins import Skew, twin

import occorr

SAMPLES = Path(__file__).resolve().parent.parent / "sample_logs"
OTHER_NET = ("192.0.2.", "198.51.100.")


def other(source: Path, target: Path, net: str = OTHER_NET[1]) -> None:
    """A copy of an incident as another project's, on another network or, on another host, on one with equal addresses."""
    target.mkdir()
    for file in source.rglob("*"):
        if not file.is_file() or file.suffix in (".md", ".toml"):
            continue
        text = file.read_text(encoding="utf-8").replace(OTHER_NET[0], net)
        for project in ("openclaw", "claw", "homelab", "assistant"):
            text = (
                text.replace(f"{project}_gateway", "beta_gateway")
                .replace(f"{project}_proxy", "beta_proxy")
                .replace(f"{project}_default", "beta_default")
            )
            text = text.replace(
                f'"com.docker.compose.project":"{project}"', '"com.docker.compose.project":"beta"'
            ).replace(f'"com.docker.compose.project": "{project}"', '"com.docker.compose.project": "beta"')
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


def causes(frame: pl.DataFrame, net: str) -> dict[tuple[object, ...], tuple[str, str]]:
    rows = frame.filter(pl.col("client_address").str.starts_with(net))
    return {
        (
            r["client_address"].replace(net, ""),
            r["client_port"],
            r["conn_id"],
            r["http_status_proxy"],
            str(r["timestamp"])[:19],
        ): (r["cause"], r["verdict"])
        for r in rows.to_dicts()
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "second"),
    [("crash-then-sigterm", "proxy-reload-then-deploy"), ("partition-behind-caddy", "crash-then-sigterm")],
)
def test_no_decisive_verdict_crosses_over(tmp_path, first, second):
    shutil.copytree(SAMPLES / first, tmp_path / "a", ignore=shutil.ignore_patterns("*.md", "*.toml"))
    other(SAMPLES / second, tmp_path / "b")
    both = occorr.analyze([tmp_path]).closes
    assert both.get_column("compose_project").drop_nulls().n_unique() == 2
    for name, net in ((first, OTHER_NET[0]), (second, OTHER_NET[1])):
        alone = {k: v[0] for k, v in causes(occorr.analyze([SAMPLES / name]).closes, OTHER_NET[0]).items()}
        together = causes(both, net)
        shared = alone.keys() & together.keys()
        assert len(shared) >= 0.8 * len(alone)
        assert {k: v for k, v in together.items() if k in shared and v[1] == "decisive" and v[0] != alone[k]} == {}


@pytest.mark.long
def test_hosts_with_equal_addresses_keep_their_own_closes(tmp_path):
    """Who writes from one host says nothing of the other's, though both call their gateway 192.0.2.2."""
    shutil.copytree(SAMPLES / "crash-then-sigterm", tmp_path / "a", ignore=shutil.ignore_patterns("*.md", "*.toml"))
    other(SAMPLES / "proxy-reload-then-deploy", tmp_path / "b", net=OTHER_NET[0])
    both = occorr.analyze([tmp_path]).closes
    for folder in ("a", "b"):
        alone = occorr.analyze([tmp_path / folder]).closes
        project = alone.item(0, "compose_project")
        mine = both.filter(pl.col("compose_project") == project)
        assert mine.group_by("cause").len().sort("cause").rows() == alone.group_by("cause").len().sort("cause").rows()


FIRST, SECOND = "crash-then-sigterm", "proxy-reload-then-deploy"
AHEAD, BEHIND = 2.345, -40.0  # s


def gateway_clocks(result: occorr.Analysis) -> list[dict[str, object]]:
    return result.clocks.filter(pl.col("clock_id").str.starts_with("gateway")).sort("offset_ns").to_dicts()


@pytest.mark.long
def test_gateways_of_two_hosts_have_clocks_of_their_own(tmp_path):
    twin(SAMPLES / FIRST, tmp_path / "both" / "a", "gateway", Skew(offset=AHEAD))
    other(twin(SAMPLES / SECOND, tmp_path / "x", "gateway", Skew(offset=BEHIND)), tmp_path / "both" / "b")
    both = occorr.analyze([tmp_path / "both"])
    behind, ahead = gateway_clocks(both)
    assert behind["status"] == ahead["status"] == "aligned"
    for row, true in ((ahead, AHEAD), (behind, BEHIND)):
        assert abs(row["offset_ns"] - true * 1e9) <= row["error_ns"] + 2e6  # the samples' own clocks were right to 2 ms
        assert row["error_ns"] < 20e6
    for name, net in ((FIRST, OTHER_NET[0]), (SECOND, OTHER_NET[1])):
        alone = occorr.analyze([SAMPLES / name]).closes
        mine = both.closes.filter(pl.col("client_address").str.starts_with(net))
        sure = alone.filter(pl.col("verdict") == "decisive").get_column("cause").unique().to_list()
        decisive = mine.filter(pl.col("verdict") == "decisive").get_column("cause").unique().to_list()
        assert set(decisive) <= set(sure)


def test_folders_whose_lines_one_clock_cannot_have_written_are_two_gateways(tmp_path):
    """No document tells the hosts apart: the second stamps of their lines do."""
    for folder, name, skew in (("a", FIRST, AHEAD), ("b", SECOND, BEHIND), ("c", FIRST, 0.0), ("d", SECOND, 0.0)):
        made = twin(SAMPLES / name, tmp_path / "x" / folder, "gateway", Skew(offset=skew))
        target = tmp_path / ("apart" if skew else "alike") / folder
        target.mkdir(parents=True)
        shutil.copy(made / "gateway.docker.log", target)
    behind, ahead = gateway_clocks(occorr.analyze([tmp_path / "apart"]))
    assert (behind["clock_id"], ahead["clock_id"]) == ("gateway:b", "gateway:a")
    for row, true in ((ahead, AHEAD), (behind, BEHIND)):
        assert abs(row["offset_ns"] - true * 1e9) <= row["error_ns"] + 2e6
    (one,) = gateway_clocks(occorr.analyze([tmp_path / "alike"]))
    assert one["clock_id"] == "gateway"


def told(id_: str, service: str, action: str, at: float, **more: str) -> str:
    labels = {"com.docker.compose.project": "homelab", "com.docker.compose.service": service}
    actor = {"ID": id_, "Attributes": {**labels, "image": "openclaw", "name": f"homelab-{service}-1", **more}}
    return json.dumps(
        {"Type": "container", "Action": action, "Actor": actor, "time": int(at), "timeNano": int(at * 1e9)}
    )


def filed(id_: str, at: float, text: str, level: str = "INFO") -> str:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    meta = {"runtime": "node", "hostname": id_[:12], "date": when, "logLevelName": level}
    return json.dumps({"0": '{"subsystem":"gateway"}', "1": text, "_meta": meta, "time": when, "hostname": id_[:12]})


def test_a_log_that_two_gateways_share_says_whose_line_it_is(tmp_path):
    """On one state they write one file, most of it the first one's; the second one's refusal to start is its own."""
    one, two, at = "1" * 64, "2" * 64, 1_795_823_600.0
    ups = [told(i, s, "start", at + k) for i, s, k in ((one, "gateway", 0), (two, "gateway-2", 100))]
    (tmp_path / "events.jsonl").write_text(
        "\n".join([*ups, told(two, "gateway-2", "die", at + 134.7, exitCode="1")]) + "\n"
    )
    lines = [filed(one, at + 5 + k, f"http server listening ({k})") for k in range(40)]
    lines.append(filed(two, at + 120, "loading configuration…"))
    refusal = "Gateway failed to start: Another Gateway owner lease is still active for this state directory."
    lines.append(filed(two, at + 134.3, refusal, "ERROR"))
    (tmp_path / "gateway.file.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "cli").mkdir()
    command = "openclaw gateway call health --url ws://127.0.0.1:18790"
    (tmp_path / "cli/01.meta.json").write_text(
        json.dumps({"argv": command, "start_ms": (at + 125.3) * 1e3, "end_ms": (at + 138.5) * 1e3, "rc": 1})
    )
    (tmp_path / "cli/01.out").write_text(
        f"$ {command}\nGateway not reachable at ws://127.0.0.1:18790 (ECONNRESET).\n"
        "Start it with `openclaw gateway run` or check `openclaw gateway status`.\n"
    )
    closes = occorr.analyze([tmp_path]).closes
    assert closes.get_column("cause").to_list() == ["restart.conflict"]
