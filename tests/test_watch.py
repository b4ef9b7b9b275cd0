"""`occorr watch` against a real engine: every fault is told, with its cause; how soon is measured by `make bench-watch`."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid

import polars as pl
import pytest

from lab import drills, engine as engines, gateway as gateways, watching as watches
from lab.drills import DRILLS
from occorr import analysis, segments

pytestmark = pytest.mark.engine
DOCKER = shutil.which("docker", path="/usr/bin") or "docker"


@pytest.fixture(scope="module")
def watch(engine):
    """One watch over everything that the tests of this module start."""
    gateways.prepare(engine)
    with watches.watching(engine) as running:
        yield running


@pytest.fixture
def project(engine):
    name = f"p{uuid.uuid4().hex[:6]}"
    yield name
    drills.clear(engine, name)


@pytest.fixture
def gateway():
    with gateways.speaking() as one:
        yield one


def told(watch, project, ids, cause, *, verdict="decisive"):
    """The closes were told with their cause, and nothing else was told first; how soon is not held here."""
    rows = watch.closes(set(ids))
    assert {r["cause"] for r in rows.values()} == {cause}
    assert {r["verdict"] for r in rows.values()} == {verdict}
    assert {r["compose_project"] for r in rows.values()} == {project}
    assert all(r["lag_ms"] >= 0 for r in rows.values())
    return rows


def test_a_refusal(engine, watch, project, gateway):
    gateways.run(engine, gateway, project)
    rows = told(watch, project, [gateway.refuse()], "auth.token_mismatch")
    (row,) = rows.values()
    assert (row["websocket_close_code"], row["client_address"], row["client_port"]) == (1008, "192.0.2.106", 50825)


@pytest.mark.long
@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_each_fault_is_told_with_its_cause(engine, watch, project, gateway, drill):
    scene, conns = drill.run(engine, gateway, project)
    watch.until(lambda r: r.get("close_id") in conns and r["cause"] == drill.cause, count=len(conns))
    rows = [r for r in watch.rows if r.get("close_id") in conns]
    last = {r["close_id"]: r for r in rows}
    assert {(r["cause"], r["verdict"], r["compose_project"]) for r in last.values()} == {
        (drill.cause, "decisive", project)
    }
    assert {r["close_id"]: r["type"] for r in reversed(rows)} == dict.fromkeys(conns, "close")  # what changes says so
    if drill.cause == "restart.killed":
        died = watch.until(lambda r: r.get("action") == "die" and r["container_id"] == scene.container)
        assert died[0]["exit_code"] == 137
    if drill.cause == "restart.manual":
        assert {r["code_gateway"] for r in rows} == {1012}
    if drill.cause == "restart.deploy":  # the new container's log is followed too
        conn = gateway.connect()
        time.sleep(0.3)
        gateway.say(f"[ws] webchat disconnected code=1001 reason=n/a conn={conn}")
        assert watch.closes({conn})[conn]["family"] == "client"
    drills.clear(engine, project)  # … and a container that is removed afterwards changes nothing of it
    watch.until(lambda r: r.get("action") == "destroy" and r.get("project") == project)
    time.sleep(2)
    last = {r["close_id"]: r["cause"] for r in watch.rows if r.get("close_id") in conns}
    assert last == dict.fromkeys(conns, drill.cause)


def test_two_projects_do_not_blame_each_other(engine, watch, project, gateway):
    """The kill of one gateway is no reason for what happens at another at that moment."""
    with gateways.speaking() as bystander:
        other = f"{project}b"
        mine, theirs = gateways.run(engine, gateway, project), gateways.run(engine, bystander, other)
        try:
            cut, kept = gateway.connect(), bystander.connect()
            time.sleep(0.5)
            engine.docker("kill", mine)
            bystander.say(f"[ws] webchat disconnected code=1001 reason=n/a conn={kept}")
            told(watch, project, [cut], "restart.killed")
            assert watch.closes({kept})[kept]["family"] == "client"
        finally:
            engine.docker("rm", "--force", theirs)


def numbered(engine, project, script, *options):
    """A container that prints lines; its id."""
    return engine.docker(
        "run",
        "--detach",
        "--name",
        f"{project}-talker-1",
        "--label",
        f"com.docker.compose.project={project}",
        "--label",
        "com.docker.compose.service=talker",
        *options,
        engines.IMAGE,
        "sh",
        "-c",
        script,
    )


def recorded(folder, ident):
    """The lines of a container's log in a record, without the engine's stamps."""
    (source,) = [
        s for s in segments.stored(folder) if s.source.kind == "log" and s.source.origin["container_id"] == ident
    ]
    lines = pl.concat(source.lines())
    assert lines.get_column("line").to_list() == list(range(1, lines.height + 1))
    return lines.get_column("raw").str.replace(r"^\S+ ", "")


def follow_to_the_end(engine, project, ident, folder, count, patience):
    """Lets a watch follow until the container has ended and so many of its lines are there."""
    with watches.watching(engine, "--project", project, "--record", folder) as watch:
        engine.docker("exec", ident, "touch", "/tmp/go")
        watch.until(
            lambda r: r["type"] == "container" and r["action"] == "die" and r["container_id"] == ident, patience
        )
        deadline = time.monotonic() + patience
        while len(recorded(folder, ident)) < count and time.monotonic() < deadline:
            time.sleep(0.3)
        assert watch.end() == ""
        assert watch.process.returncode == 130
    return watch.rows[-1]


WAIT = "while [ ! -e /tmp/go ]; do sleep 0.05; done; "


def counting(rounds, each, pause):
    """Numbered lines, `each` of them at a time."""
    return (
        WAIT
        + f"""i=0; while [ $i -lt {rounds} ]; do awk -v a=$((i * {each} + 1)) -v b=$((i * {each} + {each})) 'BEGIN {{ for (; a <= b; a++) print a, "the quick brown fox jumps over the lazy dog and back again" }}'; i=$((i + 1)); sleep {pause}; done"""
    )


@pytest.mark.long
def test_ten_thousand_lines_a_second_are_all_recorded(engine, project, tmp_path):
    seconds = 30
    ident = numbered(engine, project, counting(10 * seconds, 1000, 0.09))
    end = follow_to_the_end(engine, project, ident, tmp_path / "record", 10_000 * seconds, 60 + 4 * seconds)
    lines = recorded(tmp_path / "record", ident)
    assert lines.str.extract(r"^(\d+) ", 1).cast(pl.Int64).to_list() == list(range(1, 10_000 * seconds + 1))
    assert end["lines"] == 10_000 * seconds


@pytest.mark.long
def test_a_full_disk_ends_the_watch_in_one_line_and_what_was_written_is_there(engine, project, tmp_path):
    ident = numbered(engine, project, counting(60, 1000, 0.05))
    command = ["prlimit", "--fsize=2000000", *watches.COMMAND, "--project", project, "--record", tmp_path / "record"]
    environment = {**engine.environment, "PYTHONPATH": str(watches.ROOT)}
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said) as watch,
    ):
        assert json.loads(watch.stdout.readline())["type"] == "watching"
        engine.docker("exec", ident, "touch", "/tmp/go")
        watch.stdout.read()
    assert watch.returncode == 4, (tmp_path / "said").read_text()
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert "the record ends here" in line and str(tmp_path / "record") in line
    numbers = recorded(tmp_path / "record", ident).str.extract(r"^(\d+) ", 1).cast(pl.Int64).to_list()
    assert len(numbers) > 1000 and numbers == list(range(1, len(numbers) + 1))
    with watches.watching(
        engine, "--project", project, "--record", tmp_path / "record"
    ) as again:  # with room, it goes on
        deadline = time.monotonic() + 60
        while len(recorded(tmp_path / "record", ident)) < 60_000 and time.monotonic() < deadline:
            time.sleep(0.5)
        again.end()
    numbers = recorded(tmp_path / "record", ident).str.extract(r"^(\d+) ", 1).cast(pl.Int64).to_list()
    assert numbers == list(range(1, 60_001))


@pytest.mark.long
def test_rotated_logs_are_followed_through(engine, project, tmp_path):
    """The engine turns the log over about ten times while it is read."""
    ident = numbered(engine, project, counting(60, 100, 0.05), "--log-opt", "max-size=64k", "--log-opt", "max-file=3")
    follow_to_the_end(engine, project, ident, tmp_path / "record", 6000, 60)
    assert recorded(tmp_path / "record", ident).str.extract(r"^(\d+) ", 1).cast(pl.Int64).to_list() == list(
        range(1, 6001)
    )


@pytest.mark.long
def test_a_record_goes_on_where_it_ended(engine, project, gateway, tmp_path):
    """What happened between two watches is fetched from the engine, nothing comes twice, and the second one knows what the first one saw."""
    gateways.prepare(engine)
    gateways.run(
        engine,
        gateway,
        project,
        "--env",
        "OPENCLAW_GATEWAY_TOKEN=swordfish-of-yesterday",
        "--label",
        "secret.label=swordfish-of-yesterday",
    )
    (ident,) = engine.docker(
        "ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}"
    ).split()
    with watches.watching(engine, "--project", project, "--record", tmp_path / "record") as watch:
        conn, first = gateway.connect(), gateway.refuse()
        gateway.say("[gateway] offered token=swordfish-of-yesterday")
        watch.closes({first})
        watch.end()
    second = gateway.refuse()
    engine.docker("pause", ident)
    engine.docker("unpause", ident)
    with watches.watching(engine, "--project", project, "--record", tmp_path / "record", "--since", "5m") as watch:
        watch.closes({second})
        (note,) = watch.until(lambda r: r["type"] in ("gap", "reconnected"))
        assert note["type"] == "reconnected"
        engine.docker("kill", ident)
        assert watch.closes({conn})[conn]["cause"] == "restart.killed"
        watch.end()
    both = subprocess.run(
        [DOCKER, "logs", ident],
        env=engine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    lines = both.stdout.splitlines()
    assert any("swordfish" in line for line in lines)
    got = recorded(tmp_path / "record", ident).to_list()
    assert sorted(line.replace("swordfish-of-yesterday", "X") for line in lines) == sorted(
        re.sub("fp:[0-9a-f]+", "X", line) for line in got
    )
    (events,) = [s for s in segments.stored(tmp_path / "record") if s.source.kind == "events"]
    actions = [json.loads(raw)["Action"] for raw in pl.concat(events.lines()).get_column("raw") if ident in raw]
    assert [a for a in actions if a in ("create", "start", "pause", "unpause", "kill", "die")] == [
        "create",
        "start",
        "pause",
        "unpause",
        "kill",
        "die",
    ]
    assert b"swordfish" not in b"".join(p.read_bytes() for p in (tmp_path / "record").iterdir())
    assert not any(
        "swordfish" in raw
        for s in segments.stored(tmp_path / "record")
        for frame in s.lines()
        for raw in frame.get_column("raw")
    )


@pytest.mark.long
def test_the_engine_is_killed_and_started_again(tmp_path):
    """What it delivered is recorded, the gap is told with its bounds, and what inspect knows of it is filled in."""
    if reason := engines.missing():
        pytest.skip(reason)
    with engines.running() as engine, gateways.speaking() as gateway:
        gateways.prepare(engine)
        ident = gateways.run(engine, gateway, "g", "--restart", "always")
        other = open(tmp_path / "delivered.jsonl", "wb")
        listener = subprocess.Popen(
            [DOCKER, "events", "--format", "{{json .}}"],
            env=engine.environment,
            stdout=other,
            stderr=subprocess.DEVNULL,
        )
        with watches.watching(engine, "--project", "g", "--record", tmp_path / "record") as watch:
            conn = gateway.connect()
            engine.docker("exec", ident, "true")
            time.sleep(0.5)
            gateway.booted.clear()
            killed_at = time.time_ns()
            os.kill(engine.pid, signal.SIGKILL)
            listener.wait(10)
            watch.until(lambda r: r["type"] == "lost")
            engine.process.wait()
            engines.clear(engine.root)
            again = engines.start(engine.root, image=False)
            back_at = time.time_ns()
            try:
                (gap,) = watch.until(lambda r: r["type"] == "gap", 40)
                assert gateway.booted.wait(20)
                late = gateway.refuse()
                watch.closes({late})
                watch.until(lambda r: r["type"] in ("close", "revised") and r["close_id"] == conn)
                watch.end()
            finally:
                engines.stop(again)
        delivered = {line.strip() for line in (tmp_path / "delivered.jsonl").read_text().splitlines()}
        other.close()
    begin, end = (
        pl.Series([gap[k]]).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns").cast(pl.Int64).item()
        for k in ("begin", "end")
    )
    assert abs(begin - killed_at) < 2e9 and end <= back_at + 5e9
    assert any("died at" in t for t in gap["reconciled"])
    (events,) = [s for s in segments.stored(tmp_path / "record") if s.source.kind == "events"]
    raws = set(pl.concat(events.lines()).get_column("raw").to_list())
    mine = {line for line in delivered if ident in line}
    assert mine and mine <= raws
    (row,) = [r for r in watch.rows if r.get("close_id") == conn]
    assert row["verdict"] != "decisive"  # inspect knows that it died, and nobody why
    result = analysis.analyze(tmp_path / "record")
    (source,) = result.sources.filter(pl.col("path").str.ends_with("events.jsonl")).to_dicts()
    assert source["status"] == "partial" and gap["begin"] in source["message"]
    assert late in result.closes.get_column("close_id").to_list()


# ---------------------------------------------------------------- mistakes
def fails(environment, *options, before=()):
    done = subprocess.run(
        [*before, *watches.COMMAND, *options],
        env={**os.environ, "PYTHONPATH": str(watches.ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def test_no_engine(tmp_path):
    code, said = fails({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert code == 3 and "no Docker engine" in said


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and util-linux, to do without its power over files",
)
def test_no_permission(tmp_path):
    """A socket that belongs to somebody else."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s.sock")
        listener.listen()
        os.chown(tmp_path / "s.sock", 65534, 65534)
        os.chmod(tmp_path / "s.sock", 0o600)
        code, said = fails(
            {"DOCKER_HOST": f"unix://{tmp_path}/s.sock"},
            before=["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
        )
    assert code == 3 and "no permission" in said


@pytest.mark.long
def test_no_such_project_and_no_such_container(engine, watch, project, gateway):
    gateways.run(engine, gateway, project)
    code, said = fails(engine.environment, "--project", project[:-1])
    assert code == 2 and project in said  # the nearest name
    code, said = fails(engine.environment, "--container", "nobody")
    assert code == 2 and "no such container" in said


def test_a_directory_that_is_no_record(engine, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    code, said = fails(engine.environment, "--record", str(tmp_path))
    assert code == 2 and "is no record" in said
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize(("options", "words"), [
    (["--for", "soon"], "--for 'soon'"), (["--metrics", "host"], "--metrics 'host'"), (["--on-close", "no-such-program-here x"], "no-such-program-here"), (["--record-size", "much"], "--record-size 'much'"), (["--metrics", "70000"], "70000"),
])  # fmt: skip
def test_what_cannot_be_understood(tmp_path, options, words):
    code, said = fails({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, *options)
    assert code == 2 and words in said
