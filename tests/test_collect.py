"""Collecting from a real engine: what was done to two projects' gateways is what the bundle's analysis says, and no secret is in it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

import occorr
from lab import engine as engines
from occorr import bundle, cli, read
from occorr.collect.work import Log
from occorr.engine import Container, Line
from occorr.errors import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, OccorrError
from occorr.follow.logs import Place

pytestmark = pytest.mark.engine
SCRIPT = Path(__file__).parent / "lab" / "gateway.sh"
GATEWAY = "openclaw/gateway:2026.9.6"
SECRETS = {
    "env": "tok-claw-93kd82hs7dq", "env2": "ketchup-and-mustard-77", "label": "label-only-9fk3l2", "flag": "flagged-secret-5", "flag2": "equal-sign-pw-8", "health": "probe-header-4411", "exec": "exec-argument-31", "random": "Zk39fQpL20xWmB77aaTT10ce",
    "config": "gw-auth-from-file-62", "bot": "123456:telegram-bot-secret", "line": "seen-in-a-line-8842", "basic": "$apr1$abcdefgh$0123456789abcdefghijkl", "nginx": "upstream-bearer-29dk",
}  # fmt: skip


def arguments(*words: object) -> list[str]:
    return [sys.executable, "-c", "from occorr.cli import main; main()", *map(str, words)]


def run(engine, *words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(*words),
        **{"env": dict(engine.environment), "capture_output": True, "text": True, "timeout": 180, **options},
    )


@pytest.fixture
def call(engine, monkeypatch, capsys):
    """The command line in this process: its exit code and what it said on standard error."""

    def run_here(*words: object) -> tuple[int, str]:
        for name in ("DOCKER_HOST", "DOCKER_CONFIG"):
            monkeypatch.setenv(name, engine.environment[name])
        monkeypatch.setattr(sys, "argv", ["occorr", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return run_here


def boot() -> int:
    """When the machine was started, in hundredths of a second since 1970."""
    return int((time.time() - float(Path("/proc/uptime").read_text().split()[0])) * 100)


@dataclass
class World:
    engine: engines.Engine
    root: Path
    done: list[tuple[str, str, float]]  # project, cause, when
    live: Path  # the bundle that followed all of it
    late: Path  # the one taken afterwards
    said: str


def create(
    engine,
    project: str,
    service: str,
    *options: object,
    image: str = engines.IMAGE,
    command: tuple[object, ...] = ("sleep", "1000"),
) -> str:
    labels = {
        "com.docker.compose.project": project,
        "com.docker.compose.service": service,
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
    }
    flags = [x for k, v in labels.items() for x in ("--label", f"{k}={v}")]
    return engine.docker("run", "--detach", "--name", f"{project}-{service}-1", *flags, *options, image, *command)


def gateway(world_root: Path, engine, project: str, token: str, version: str, *options: object) -> str:
    (world_root / project).mkdir(exist_ok=True)
    return create(
        engine, project, "gateway", "--network", f"{project}_default", "--restart", "unless-stopped", "--label", f"com.docker.compose.config-hash={version}", "--env", f"BOOT={boot()}", "--env", f"OPENCLAW_GATEWAY_TOKEN={token}",
        "--volume", f"{world_root / project}:/ctl", "--volume", f"{SCRIPT}:/gateway.sh:ro", *options, image=GATEWAY, command=("sh", "/gateway.sh", "gateway", "run"),
    )  # fmt: skip


def until(what, patience: float = 15) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@contextmanager
def world(engine, root: Path):
    """Two projects: `claw` with a gateway that is restarted, crashes and becomes ill, a CLI in its network and a proxy; `home` with one
    that is killed, runs out of memory and is replaced."""
    engine.docker("tag", engines.IMAGE, GATEWAY)
    engine.docker("tag", engines.IMAGE, "nginx:1.25")
    for project in ("claw", "home"):
        engine.docker("network", "create", "--label", f"com.docker.compose.project={project}", f"{project}_default")
    try:
        state = root / "state"
        (state / "tmp").mkdir(parents=True)
        (state / "openclaw.json").write_text(
            "{ // with a comment: "
            + SECRETS["config"]
            + '\n gateway: { port: 18789, auth: { mode: "token", token: "'
            + SECRETS["config"]
            + '" } },\n channels: { telegram: { botToken: "'
            + SECRETS["bot"]
            + '", name: "x" } } }\n'
        )
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime())
        (state / "tmp" / f"openclaw-{stamp[:10]}.log").write_text(
            json.dumps(
                {
                    "0": '{"subsystem":"gateway"}',
                    "1": f"loaded with {SECRETS['config']}",
                    "_meta": {"date": stamp, "logLevelName": "INFO", "name": "openclaw"},
                    "time": stamp.replace("Z", "+00:00"),
                    "hostname": "h",
                    "message": f"loaded with {SECRETS['config']}",
                }
            )
            + "\n"
        )
        gateway(
            root, engine, "claw", SECRETS["env"], "a1", "--env", f"MY_PASSWORD={SECRETS['env2']}", "--env", "TZ=UTC", "--env", "OPENCLAW_STATE_DIR=/state", "--label", f"note={SECRETS['label']}", "--label", "traefik.http.middlewares.a.basicauth.users=admin:" + SECRETS["basic"],
            "--volume", f"{state}:/state", "--volume", f"{state / 'tmp'}:/tmp/openclaw", "--health-cmd", f"test ! -e /ctl/ill || {{ echo curl -H 'X-Key: {SECRETS['health']}' --password {SECRETS['health']}; exit 1; }}", "--health-interval", "2s", "--health-retries", "2",
        )  # fmt: skip
        gateway(root, engine, "home", "tok-home-0k2j4h", "b1", "--memory", "16m", "--memory-swap", "16m")
        create(
            engine,
            "claw",
            "cli",
            "--network",
            "container:claw-gateway-1",
            command=(
                "sh",
                "-c",
                f"sleep 1000 # --password {SECRETS['flag']} --api-key={SECRETS['flag2']} {SECRETS['random']}",
                "cli",
                "--token",
                SECRETS["flag"],
                SECRETS["random"],
            ),
        )
        (root / "nginx.conf").write_text(
            'http {\n server {\n  listen 80;\n  location / {\n   proxy_pass http://gateway:18789;\n   proxy_read_timeout 60s;\n   proxy_set_header Authorization "Bearer '
            + SECRETS["nginx"]
            + '";\n  }\n }\n}\n'
        )
        (root / "access.log").write_text(
            f'192.0.2.7 - - [{time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())}] "GET /?token={SECRETS["line"]} HTTP/1.1" 200 1234 "-" "curl/8"\n'
        )
        engine.docker(
            "run",
            "--detach",
            "--name",
            "edge",
            "--network",
            "claw_default",
            "--volume",
            f"{root / 'nginx.conf'}:/etc/nginx/nginx.conf:ro",
            "--volume",
            f"{root / 'access.log'}:/var/log/nginx/access.log:ro",
            "nginx:1.25",
            "sh",
            "-c",
            "echo edge starts; sleep 1000",
        )
        engine.docker(
            "run",
            "--detach",
            "--name",
            "silent",
            "--log-driver",
            "none",
            engines.IMAGE,
            "sh",
            "-c",
            "echo nobody hears; sleep 1000",
        )
        yield
    finally:
        names = engine.docker("ps", "--all", "--quiet").split()
        if names:
            engine.docker("rm", "--force", "--volumes", *names)
        for project in ("claw", "home"):
            engine.docker("network", "rm", f"{project}_default", check=False)


@pytest.fixture(scope="module")
def lived(engine, tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    with world(engine, root):
        until(
            lambda: (
                "ready" in engine.docker("logs", "home-gateway-1")
                and engine.docker("inspect", "--format", "{{.State.Health.Status}}", "claw-gateway-1") == "healthy"
            )
        )
        live = root / "live.tar.zst"
        with following(
            arguments(
                "collect",
                "-p",
                "claw",
                "-p",
                "home",
                "--container",
                "silent",
                "--since",
                "10m",
                "--follow",
                "10m",
                "--files",
                "-o",
                live,
            ),
            engine,
            root / "said",
        ) as follower:
            done = []

            def act(project: str, cause: str, *what) -> None:
                done.append((project, cause, time.time()))
                for step in what:
                    step()
                time.sleep(3)

            def health() -> str:
                return engine.docker("inspect", "--format", "{{.State.Health.Status}}", "claw-gateway-1")

            act("claw", "restart.manual", lambda: engine.docker("restart", "claw-gateway-1"))
            act(
                "home",
                "restart.killed",
                lambda: engine.docker("kill", "home-gateway-1"),
                lambda: engine.docker("start", "home-gateway-1"),
            )
            act("claw", "restart.crash", (root / "claw" / "crash").touch)
            act("home", "restart.oom", (root / "home" / "eat").touch)
            (root / "claw" / "ill").touch()
            until(lambda: health() == "unhealthy")
            act(
                "claw",
                "restart.unhealthy",
                lambda: engine.docker("restart", "claw-gateway-1"),
                (root / "claw" / "ill").unlink,
            )
            engine.docker("exec", "claw-gateway-1", "sh", "-c", f"true --token {SECRETS['exec']}")
            late = root / "late"
            assert run(engine, "collect", "-p", "home", "--since", "10m", "-o", late).returncode == EXIT_OK
            act(
                "home",
                "restart.deploy",
                lambda: engine.docker("rm", "--force", "home-gateway-1"),
                lambda: gateway(root, engine, "home", "tok-home-0k2j4h", "b2"),
            )
            follower.send_signal(signal.SIGINT)  # the way in which people end it
            follower.wait(90)
        said = (root / "said").read_text()
        assert follower.returncode == EXIT_INTERRUPTED, said
        yield World(engine, root, done, live, late, said)


def contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read())) as tar:
        return {m.name.partition("/")[2]: tar.extractfile(m).read() for m in tar}


@pytest.fixture(scope="module")
def taken(lived):
    return contents(lived.live)


@pytest.fixture(scope="module")
def judged(lived):
    return occorr.analyze(lived.live)


@pytest.mark.long
def test_each_close_has_the_cause_of_what_was_done(lived, judged):
    closes = judged.closes
    for project, cause, when in lived.done:
        near = closes.filter(
            (pl.col("compose_project") == project)
            & ((pl.col("timestamp").cast(pl.Int64) / 1e9 - when).is_between(-1, 15))
            & (pl.col("cause") == cause)
        )
        assert near.height == 2, (project, cause, closes.select("timestamp", "compose_project", "cause", "verdict"))
        assert set(near.get_column("verdict")) == {"decisive"}
    assert closes.height == 2 * len(lived.done)  # two clients each time, and nothing invented


@pytest.mark.long
def test_what_was_taken_afterwards_says_the_same_of_what_was_before(lived):
    closes = occorr.analyze(lived.late).closes
    assert sorted(closes.get_column("cause").to_list()) == [
        "restart.killed",
        "restart.killed",
        "restart.oom",
        "restart.oom",
    ]
    assert set(closes.get_column("verdict")) == {"decisive"}


@pytest.mark.long
def test_no_secret_is_anywhere(lived, taken):
    whole = b"".join(taken.values()) + lived.said.encode()
    assert [name for name, secret in SECRETS.items() if secret.encode() in whole] == []
    config = json.loads(taken["files/claw-gateway-1/openclaw.json"])
    assert config["gateway"]["port"] == 18789 and config["gateway"]["auth"]["mode"] == "token"
    (item,) = (i for i in json.loads(taken["docker.inspect.json"]) if i["Name"] == "/claw-gateway-1")
    env = dict(e.split("=", 1) for e in item["Config"]["Env"])
    assert env["TZ"] == "UTC" and env["OPENCLAW_STATE_DIR"] == "/state"
    assert re.fullmatch(r"fp:[0-9a-f]{8}", env["OPENCLAW_GATEWAY_TOKEN"]) and re.fullmatch(
        r"fp:[0-9a-f]{8}", env["MY_PASSWORD"]
    )
    (log,) = (
        text.decode() for name, text in taken.items() if name.startswith("logs/claw-gateway-1") and "stdout" in name
    )
    assert (
        f"fetched with {env['OPENCLAW_GATEWAY_TOKEN']} in" in log
    )  # the same secret has the same fingerprint wherever it stands
    (file,) = (text.decode() for name, text in taken.items() if name.startswith("files/claw-gateway-1/tmp_openclaw"))
    assert f"loaded with {config['gateway']['auth']['token']}" in file


@pytest.mark.long
def test_everything_is_there_and_named(lived, taken):
    found = json.loads(taken["manifest.json"])
    assert {f["path"]: f["sha256"] for f in found["files"]} == {
        n: hashlib.sha256(d).hexdigest() for n, d in taken.items() if n != "manifest.json"
    }
    by_name = {}
    for row in found["containers"]:
        by_name.setdefault(row["name"], []).append(row)
    assert sorted(by_name) == ["claw-cli-1", "claw-gateway-1", "edge", "home-gateway-1", "silent"]
    assert [r["beside"] for r in by_name["edge"]] == [True]  # a proxy on the project's network
    assert sorted(r["gone"] for r in by_name["home-gateway-1"]) == [False, True]  # the replaced one's lines were saved
    assert {(m["what"], m["asked"]) for m in found["missing"]} >= {("log of silent", True)}
    assert found["engine"]["version"] and float(found["engine"]["api_version"]) > 1.4
    subnets = {n["Name"]: n["IPAM"]["Config"][0]["Subnet"] for n in json.loads(taken["docker.networks.json"])}
    assert set(subnets) >= {"claw_default", "home_default"} and all(
        s.startswith("198.51.100.") for s in subnets.values()
    )
    assert all(i["Id"].startswith("sha256:") for i in json.loads(taken["docker.images.json"]))
    (item,) = (i for i in json.loads(taken["docker.inspect.json"]) if i["Name"] == "/claw-gateway-1")
    probes = item["State"]["Health"]["Log"]
    assert len(probes) > 5 and any(p["ExitCode"] == 1 for p in probes)  # the engine keeps five
    (cli,) = (i for i in json.loads(taken["docker.inspect.json"]) if i["Name"] == "/claw-cli-1")
    assert cli["HostConfig"]["NetworkMode"] == f"container:{item['Id']}"
    assert b"proxy_read_timeout 60s" in taken["files/edge/etc_nginx_nginx.conf"]
    assert b'"GET /?token=fp:' in taken["files/edge/var_log_nginx_access.log"]
    assert b"edge starts" in next(text for name, text in taken.items() if name.startswith("logs/edge"))


@pytest.mark.long
def test_events_are_those_of_the_engine(lived, taken):
    events = [json.loads(line) for line in taken["docker.events.jsonl"].splitlines()]
    stamps = [e["timeNano"] for e in events]
    assert stamps == sorted(stamps)
    actions = [(e["Actor"]["Attributes"].get("name"), e["Action"]) for e in events if e["Type"] == "container"]
    assert (
        ("home-gateway-1", "oom") in actions
        and ("home-gateway-1", "destroy") in actions
        and ("claw-gateway-1", "health_status: unhealthy") in actions
    )
    told = lived.engine.docker("events", "--since", "10m", "--until", "0s", "--format", "{{json .}}").splitlines()
    ids = {i["Id"] for i in json.loads(taken["docker.inspect.json"])}
    until_ns = max(stamps)
    kept = {
        json.loads(line)["timeNano"]
        for line in told
        if json.loads(line)["Type"] == "container" and json.loads(line)["Actor"]["ID"] in ids
    }
    assert {t for t in kept if t <= until_ns} <= set(stamps)


@pytest.mark.long
def test_facts_of_the_bundle(lived, judged):
    facts = judged.facts
    known = {(r["subject"], r["key"]): r["value"] for r in facts.to_dicts()}
    assert known["engine", "version"] == lived.engine.docker("version", "--format", "{{.Server.Version}}")
    assert known["engine", "events.covered_from"].endswith("Z")
    assert known["proxy:nginx", "timeout.idle"] == "60"
    assert facts.filter((pl.col("key") == "missing") & pl.col("value").str.starts_with("log of silent")).height == 1
    assert facts.filter(pl.col("key") == "health.failed").height >= 2


@pytest.mark.long
def test_lines_name_their_container(judged):
    events = judged.timeline.filter(pl.col("event_name") == "websocket.connected")
    assert set(events.get_column("compose_project").cast(pl.String)) == {"claw", "home"}
    assert events.get_column("container_id").null_count() == 0


@pytest.mark.long
def test_a_changed_file_and_a_missing_one_are_told(lived, tmp_path, taken):
    for name, data in taken.items():
        path = tmp_path / "b" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            data.replace(b"health_status: unhealthy", b"health_status: healthy--")
            if name == "docker.events.jsonl"
            else data
        )
    (tmp_path / "b" / "docker.version.json").unlink()
    result = occorr.analyze(tmp_path / "b")
    said = {Path(r["path"]).name: (r["status"], r["message"]) for r in result.sources.to_dicts()}
    assert result.partial
    assert "changed since it was collected" in said["docker.events.jsonl"][1]
    assert said["docker.version.json"][0] == "failed" and "not there" in said["docker.version.json"][1]
    assert said["docker.inspect.json"][0] == "ok"


@pytest.mark.long
def test_partial_when_a_log_that_was_asked_for_cannot_be_had(lived, call, tmp_path):
    code, said = call("collect", "--container", "silent", "-o", tmp_path / "b")
    assert code == EXIT_PARTIAL
    assert "log of silent" in said and "'none'" in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "clwa"], "did you mean 'claw'"), (["--container", "claw-gatway-1"], "did you mean 'claw-gateway-1'"), ([], "projects here: claw, home"), (["-p", "claw", "--since", "yesterwhat"], "--since"), (["-p", "claw", "--follow", "soon"], "--follow"),
        (["-p", "claw", "--until", "2h", "--since", "1h"], "not before --until"), (["-p", "claw", "--follow", "1s", "--until", "1h"], "contradict"), (["-p", "claw", "--path", "x"], "CONTAINER:/PATH"), (["-p", "claw", "--path", "nobody:/x"], "no such container"), (["-p", "claw", "-o", "x.zip"], "tar.zst"),
    ],
)  # fmt: skip
def test_mistakes_cost_one_line_and_leave_nothing(lived, call, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, said = call("collect", *words, *([] if "-o" in words else ["-o", "b"]))
    lines = [line for line in said.splitlines() if line.startswith("occorr:")]
    assert (code, len(lines)) == (EXIT_USAGE, 1), said
    assert says in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_evidence_is_never_overwritten(lived, call, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    (tmp_path / "c.tar.zst").write_text("mine")
    for name in ("b", "c.tar.zst"):
        code, said = call("collect", "-p", "home", "-o", tmp_path / name)
        assert code == EXIT_USAGE and "never overwritten" in said
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b", "c.tar.zst", "mine.txt"]


def test_nothing_is_left_when_it_fails_midway(tmp_path):
    def broken() -> None:
        with bundle.writing(tmp_path / "b") as draft:
            draft.path("logs/x.log").write_text("x")
            raise OSError(28, "No space left on device")

    with pytest.raises(OccorrError, match="No space left"):
        broken()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"])
def test_every_form_reads_the_same(tmp_path, ending):
    target = tmp_path / f"b{ending}"
    with bundle.writing(target) as draft:
        draft.path("logs/a.log").write_text("2026-11-21T05:53:48.000000001Z hello\n")
        draft.lacks("x", "y")
        bundle.finish(draft, target, {"occorr": "0"})
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    found = {b.path.rpartition("/")[2]: b for b in bundle.checked(list(read.blobs([target])))}
    assert set(found) == {"a.log", "manifest.json"} and all(b.status == "ok" for b in found.values())
    assert bytes(found["a.log"].data) == b"2026-11-21T05:53:48.000000001Z hello\n"


def test_without_an_engine(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    for host, says in (
        (f"unix://{tmp_path}/none.sock", "no such socket"),
        ("tcp://127.0.0.1:1", "refused"),
    ):
        done = subprocess.run(
            arguments("collect", "-p", "x", "-o", tmp_path / "b"),
            env={**environment, "DOCKER_HOST": host},
            capture_output=True,
            text=True,
        )
        assert done.returncode == EXIT_NOTHING
        assert len(done.stderr.splitlines()) == 1 and says in done.stderr
    done = subprocess.run(
        arguments("collect", "-p", "x", "-o", tmp_path / "b"),
        env={**environment, "DOCKER_CONTEXT": "nowhere", "DOCKER_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_NOTHING and "no such context" in done.stderr


def test_without_permission(engine, tmp_path):
    # imported first: the interpreter's own files may be closed to the user that it becomes
    code = "import contextvars, fractions, os; from occorr import bundle, cli, collect, engine, redact; engine.connect(redact.Redactor(b'')).api.close(); os.setresuid(65534, 65534, 65534); cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "collect", "-p", "x", "-o", str(tmp_path / "b")],
        env=dict(engine.environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_NOTHING, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "no permission" in done.stderr and "group docker" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("times", [1, 2])
def test_a_term_signal_keeps_what_is_there_and_two_leave_nothing(engine, tmp_path, times):
    ident = engine.docker("run", "--detach", engines.IMAGE, "sh", "-c", "echo hello; sleep 1000")
    try:
        place = tmp_path / "there"
        words = arguments("collect", "--container", ident[:12], "--follow", "10m", "-o", place / "b")
        with following(words, engine, tmp_path / "said") as follower:
            # the second one must not find the first one's work done
            for _ in range(times):
                follower.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            follower.wait(60)
        assert follower.returncode == EXIT_INTERRUPTED
        assert os.listdir(place) in ([["b"]] if times == 1 else [[], ["b"]])
    finally:
        engine.docker("rm", "--force", ident)


# ---------------------------------------------------------------- no line lost, none twice
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_log_that_is_resumed_anywhere_holds_each_line_once(tmp_path_factory, data):
    """The two streams' stamps are not in order with each other, clocks are set back, and the engine repeats what it gave."""
    ms = st.integers(min_value=1, max_value=400)
    steps = data.draw(
        st.lists(
            st.tuples(st.sampled_from(["stdout", "stderr"]), ms, st.sampled_from([0, 0, 0, -3, -900])),
            min_size=1,
            max_size=40,
        )
    )
    now, lines = 10**9 * 10**9, []
    for number, (stream, step, jump) in enumerate(steps):
        now += (step + jump) * 10**6 if jump else step * 10**6
        lines.append(Line(now, str(now), stream, f"{stream} {number % 7}"))
    if data.draw(st.booleans()):  # stamps may be equal where the texts differ
        lines = [Line(x.time_ns // 10**9 * 10**9, x.stamp, x.stream, f"{x.text} {i}") for i, x in enumerate(lines)]
    log = Log(Container("c" * 64, "x", "", ""), bundle.Draft(tmp_path_factory.mktemp("log")))
    place = Place()
    cuts = sorted(data.draw(st.sets(st.integers(min_value=1, max_value=len(lines)), max_size=6)) | {len(lines)})
    repeats = [data.draw(st.integers(min_value=0, max_value=len(lines))) for _ in cuts]
    at = 0
    for upto, repeat in zip(cuts, repeats, strict=True):
        since = place.since_ns(0)
        part = [x for i, x in enumerate(lines[:upto]) if i >= at or x.time_ns >= since]
        for line in [*part[:repeat], *part]:
            if place.new(line.stream, line.time_ns, line.text):
                log.write(line)
        at = upto
    for out in log.files.values():
        out.close()
    got = {stream: Path(out.name).read_text().splitlines() for stream, out in log.files.items()}
    for stream in ("stdout", "stderr"):
        assert got.get(stream, []) == [f"{x.stamp} {x.text}" for x in lines if x.stream == stream]
    assert log.count == len(lines)


def counting(rounds: int, each: int, pause: str) -> str:
    """Prints numbered lines, `each` of them at a time, once /tmp/go is there."""
    return (
        f"while [ ! -e /tmp/go ]; do sleep 0.05; done; i=0; while [ $i -lt {rounds} ]; do awk -v a=$((i * {each} + 1)) -v b=$((i * {each} + {each})) "
        """'BEGIN { for (; a <= b; a++) print a, "the quick brown fox jumps over the lazy dog and back again" }'; i=$((i + 1)); """
        f"sleep {pause}; done; sleep 1000"
    )


@contextmanager
def following(words: list[str], engine, said: Path):
    """A collection that follows by now; its end is the test's to send."""
    with said.open("w") as err:
        follower = subprocess.Popen(words, env=dict(engine.environment), stdout=subprocess.DEVNULL, stderr=err)
    try:
        until(lambda: "following until" in said.read_text(), 60)
        time.sleep(1)
        yield follower
    finally:
        follower.kill()
        follower.wait()


# VmHWM and not ru_maxrss, which a child has from its parent
PEAK = "import re, sys; from occorr.cli import main\ntry: main()\nfinally: print('peak', re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"


def counted(engine, tmp_path, count: int, script: str, *options: object, patience: float) -> str:
    """Follows a container until its last line is in its log, and compares the lines; what was said on standard error."""
    ident = engine.docker("run", "--detach", "--name", "talker", *options, engines.IMAGE, "sh", "-c", script)
    try:
        words = [
            sys.executable,
            "-c",
            PEAK,
            "collect",
            "--container",
            "talker",
            "--since",
            "1h",
            "--follow",
            "20m",
            "-o",
            str(tmp_path / "b"),
        ]
        with following(words, engine, tmp_path / "said") as follower:
            engine.docker("exec", ident, "touch", "/tmp/go")
            until(lambda: engine.docker("logs", "--tail", "1", ident).startswith(f"{count} "), patience)
            follower.send_signal(signal.SIGINT)
            follower.wait(patience)
        (log,) = (tmp_path / "b" / "logs").iterdir()
        assert [int(line.split(" ")[1]) for line in log.read_text().splitlines()] == list(range(1, count + 1))
        return (tmp_path / "said").read_text()
    finally:
        engine.docker("rm", "--force", "talker")


@pytest.mark.long
def test_ten_thousand_lines_a_second_without_loss_below_300_mb(engine, tmp_path):
    seconds = 30
    said = counted(engine, tmp_path, 10_000 * seconds, counting(10 * seconds, 1000, "0.09"), patience=60 + 10 * seconds)
    assert int(re.search(r"(?m)^peak (\d+)$", said)[1]) < 300 * 1024


@pytest.mark.long
def test_logs_that_the_engine_turns_over_are_followed(engine, tmp_path):
    counted(
        engine,
        tmp_path,
        6000,
        counting(60, 100, "0.05"),
        "--log-opt",
        "max-size=64k",
        "--log-opt",
        "max-file=3",
        patience=60,
    )


@pytest.mark.long
def test_an_engine_that_is_killed_meanwhile(tmp_path):
    """What it had said is there, what it says afterwards too, and the gap is named."""
    if reason := engines.missing():
        pytest.skip(reason)
    with engines.running() as engine:
        engine.docker(
            "run",
            "--detach",
            "--name",
            "one",
            "--restart",
            "always",
            engines.IMAGE,
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done",
        )
        with following(
            arguments("collect", "--container", "one", "--since", "1m", "--follow", "10m", "-o", tmp_path / "b"),
            engine,
            tmp_path / "said",
        ) as follower:
            time.sleep(2)
            os.kill(engine.pid, signal.SIGKILL)
            engine.process.wait()
            engines.clear(engine.root)
            again = engines.start(engine.root, image=False)
            try:
                until(lambda: "true" in again.docker("inspect", "--format", "{{.State.Running}}", "one", check=False))
                time.sleep(4)
                follower.send_signal(signal.SIGINT)
                follower.wait(60)
                told = again.docker("logs", "one").splitlines()
            finally:
                engines.stop(again)
    said = (tmp_path / "said").read_text()
    assert follower.returncode == EXIT_INTERRUPTED, said
    (log,) = (tmp_path / "b" / "logs").iterdir()
    lines = [line.split(" ")[1] for line in log.read_text().splitlines()]
    assert lines == told[: len(lines)] and lines.count("1") == 2  # two lives, each from its first line on
    assert re.search(r"docker events: between \S+ and \S+: the engine was gone", said)
    starts = [json.loads(line) for line in (tmp_path / "b" / "docker.events.jsonl").read_text().splitlines()]
    assert sum(e["Action"] == "start" for e in starts) == 2
