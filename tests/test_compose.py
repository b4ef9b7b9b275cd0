"""Two projects that Compose itself made: what it does to a gateway has its cause, and the other project's is left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

import occorr
from lab import gateway as gateways, watching as watches

pytestmark = [pytest.mark.engine, pytest.mark.long]
COMPOSE = shutil.which("docker-compose")


def project(gateway, version: str) -> str:
    """A gateway and a CLI in its network; a change of `version` makes Compose replace the gateway."""
    service = {
        "image": gateways.GATEWAY_IMAGE,
        "command": ["sh", "-c", gateways.SCRIPT.replace("$", "$$"), "openclaw", "gateway"],
        "volumes": [f"{gateway.folder}:/ctl"],
        "environment": {"RELEASE": version},
    }
    cli = {"image": gateways.IMAGE, "command": ["sleep", "1000"], "network_mode": "service:gateway"}
    return json.dumps({"version": "2.4", "services": {"gateway": service, "cli": cli}})


@pytest.mark.skipif(COMPOSE is None, reason="needs Compose: apt-get install docker-compose")
def test_what_compose_does(engine, tmp_path):
    gateways.prepare(engine)

    def compose(name: str, *words: str) -> None:
        file = tmp_path / f"{name}.json"
        subprocess.run(
            [COMPOSE, "--project-name", name, "--file", file, "--ansi", "never", *words],
            env=dict(engine.environment),
            check=True,
            capture_output=True,
            timeout=120,
        )

    with gateways.speaking() as one, gateways.speaking() as two, watches.watching(engine) as watch:
        for name, gateway in (("one", one), ("two", two)):
            (tmp_path / f"{name}.json").write_text(project(gateway, "a"))
            compose(name, "up", "-d")
            assert gateway.booted.wait(20)
        bystander = two.connect()
        restarted = one.connect()
        watch.until(
            lambda r: r["type"] == "container" and r.get("service") == "cli" and r["action"] == "start", count=2
        )
        one.booted.clear()
        compose("one", "restart", "gateway")
        assert one.booted.wait(20)
        replaced = one.connect()
        (tmp_path / "one.json").write_text(project(one, "b"))
        one.booted.clear()
        compose("one", "up", "-d")
        assert one.booted.wait(20)
        causes = {restarted: "restart.manual", replaced: "restart.deploy"}
        for conn, cause in causes.items():
            watch.until(lambda r, c=conn, w=cause: r.get("close_id") == c and r["cause"] == w, 40)
        watch.end()
        words = ["collect", "-p", "one", "-p", "two", "--since", "10m", "-o", str(tmp_path / "b")]
        command = [sys.executable, "-c", "from occorr.cli import main; main()", *words]
        subprocess.run(command, env=dict(engine.environment), check=True, capture_output=True, timeout=120)
        for name in ("one", "two"):
            compose(name, "down", "--timeout", "1")
    told = [r["close_id"] for r in watch.rows if r["type"] in ("close", "revised")]
    assert bystander not in told
    assert {r["compose_project"] for r in watch.rows if r.get("close_id") in causes} == {"one"}
    # the replaced container's log went with it: what came of the first restart did too
    assert bystander not in occorr.analyze(tmp_path / "b").closes.get_column("close_id").to_list()
