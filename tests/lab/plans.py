"""Incidents from a seed: what happens in each, and everything that varies around it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import install, proxies
from .incident import Plan, Step
from .stage import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PREFIXES = (
    "ops",
    "internal",
    "legacy",
    "canary",
    "v2",
    "beta",
    "eu",
    "team-a",
    "staging",
    "old",
    "agents",
    "relay",
    "edge",
    "lab2",
    "mobile",
    "desk",
)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "America/Sao_Paulo",
    "Australia/Adelaide",
    "Europe/London",
)
HEALTH = (
    "--health-cmd=curl -fsS -m 2 http://127.0.0.1:18789/healthz",
    "--health-interval=2s",
    "--health-timeout=2s",
    "--health-retries=3",
)
CALM = (
    "wrong_token",
    "no_token",
    "pairing",
    "origin",
    "nodevice",
    "version",
    "invalid",
    "big_early",
    "big_late",
    "early_abort",
    "closed_port",
)


@dataclass(frozen=True, slots=True)
class Story:
    """What happens: steps from a random source, and what the setting must be for it."""

    steps: Callable[[random.Random, Setting], Sequence[Step]]
    needs: Mapping[str, Any] = field(default_factory=dict)
    proxies: tuple[str, ...] = ()  # only with these
    extras: int = 2  # client faults that are mixed in, at most
    holders: int = 4
    seconds: float = 25


def one(fault: str, *, at: float = 11, **choices: Sequence[Any]) -> Callable[[random.Random, Setting], Sequence[Step]]:
    """One step, its options drawn from the choices."""
    return lambda rng, _: [Step(at, fault, {k: rng.choice(list(v)) for k, v in choices.items()})]


def along_routes(rng: random.Random, setting: Setting) -> Sequence[Step]:
    paths = list(setting.routes)
    rng.shuffle(paths)
    return [Step(3 + 2.5 * i, "route", {"path": path, "n": rng.randint(2, 4)}) for i, path in enumerate(paths)]


def refusals(rng: random.Random, _: Setting) -> Sequence[Step]:
    kinds = rng.sample(CALM, 7)
    steps = [Step(3 + 4 * i, "burst", {"kind": kind, "n": rng.randint(2, 4)}) for i, kind in enumerate(kinds)]
    return [
        *steps,
        Step(3 + 4 * len(kinds), "burst", {"kind": "wrong_token", "n": 14, "gap": 0.15, "one_source": True}),
    ]


def commands(rng: random.Random, _: Setting) -> Sequence[Step]:
    kinds = ["normal", "wrong_token", "closed_port", "loopback", "dns", "denied"]
    rng.shuffle(kinds)
    return [
        Step(
            3 + 5 * i, "cli", {"planned": kind, "via": "proxy" if kind == "denied" else rng.choice(["direct", "proxy"])}
        )
        for i, kind in enumerate(kinds)
    ]


def twice(first: Step, second: Step) -> Callable[[random.Random, Setting], Sequence[Step]]:
    return lambda *_: [first, second]


def all_routes(rng: random.Random, kinds: Sequence[str]) -> dict[str, str]:
    return dict(zip((f"/{p}/" for p in rng.sample(PREFIXES, len(kinds))), kinds, strict=True))


STORIES: Mapping[str, Story] = {
    "manual": Story(one("manual", how=("restart", "stop", "term"))),
    "killed": Story(one("killed", how=("docker", "host"))),
    "crash": Story(one("crash", how=("throw", "reject", "abort", "exit"))),
    "crash-loop": Story(one("crash_loop", how=("throw", "exit"), times=(2, 3), life=(2, 5)), extras=1),
    "oom": Story(one("oom")),
    "in-process": Story(one("in_process", how=("exec", "host"))),
    "deploy": Story(one("deploy", style=("v2", "v1", "hand"))),
    "deploy-without-volume": Story(
        one("deploy", style=("v2", "v1", "hand")), {"persistent": False, "version": install.NEW}, extras=1
    ),
    "unhealthy": Story(
        one("unhealthy", times=(1,), stall=(12, 15)), {"health": (*HEALTH, "--health-start-period=90s")}, extras=1
    ),
    "unhealthy-storm": Story(
        one("unhealthy", times=(3, 4), stall=(12,)), {"health": (*HEALTH, "--health-start-period=0s")}, extras=1
    ),
    "conflict-loop": Story(one("conflict_loop", seconds=(25, 35)), {"version": install.NEW}, extras=1),
    "conflict-second": Story(one("conflict_second", at=6, seconds=(24,), n=(4, 6)), {"version": install.NEW}),
    "proxy": Story(one("proxy", how=("reload", "restart", "kill")), proxies=tuple(proxies.PROXIES)),
    "proxy-then-restart": Story(
        twice(Step(9, "proxy", {"how": "reload"}), Step(17, "manual", {})), proxies=tuple(proxies.PROXIES), extras=1
    ),
    "freeze": Story(
        one("freeze", seconds=(9, 12), proxied=(2, 3), commands=(0, 1)),
        {"version": install.NEW},
        proxies=tuple(proxies.PROXIES),
    ),
    "gives-up": Story(
        one("freeze", seconds=(9,), proxied=(0,), commands=(2, 3)), {"version": install.NEW}, extras=1
    ),  # the older CLI needs half a minute to start
    "stalled-handshake": Story(one("stalled_handshake", n=(3, 4), seconds=(20,)), extras=0),
    "partition": Story(one("partition", how=("drop", "disconnect"), seconds=(11, 14)), extras=1),
    "reset": Story(one("reset", where=("gateway",), seconds=(4, 6)), extras=1),
    "reset-at-proxy": Story(one("reset", where=("proxy",), seconds=(4,)), proxies=tuple(proxies.PROXIES), extras=1),
    "rotate": Story(one("rotate"), {"version": install.NEW}, extras=1),
    "slow": Story(one("burst", kind=("slow",), n=(1,), mode=("webchat",), hold=(24,)), extras=2, seconds=50),
    "deaf": Story(one("burst", at=4, kind=("deaf",), n=(2, 3), hold=(75,)), {"version": install.NEW}, seconds=70),
    "tick": Story(
        twice(
            Step(3, "burst", {"kind": "tick", "n": 3, "hold": 120, "mode": "webchat"}),
            Step(14, "freeze", {"seconds": 72, "proxied": 2}),
        ),
        extras=0,
        seconds=100,
    ),
    "silent": Story(one("burst", at=5, kind=("silent",), n=(3, 4)), seconds=40),
    "idle": Story(
        one("burst", at=4, kind=("idle",), n=(3, 4), hold=(90,), via=("proxy",), mode=("webchat", "cli")),
        proxies=("nginx", "haproxy", "apache", "envoy"),
        holders=2,
        seconds=60,
    ),
    "untrusted": Story(
        one("unrelated"),
        {"trusted": False, "version": install.NEW},
        proxies=("nginx", "haproxy", "caddy", "apache", "traefik"),
        seconds=40,
    ),
    "refusals": Story(refusals, extras=0, seconds=45),
    "routes": Story(along_routes, proxies=tuple(proxies.PROXIES), extras=1, seconds=30),
    "routes-again": Story(along_routes, proxies=("nginx", "haproxy", "apache", "caddy"), extras=1, seconds=30),
    "commands": Story(commands, {"version": install.NEW}, proxies=tuple(proxies.PROXIES), extras=1, seconds=40),
    "wrong-route": Story(one("unrelated"), proxies=tuple(proxies.PROXIES), seconds=35),
    "quiet": Story(one("unrelated"), extras=1, seconds=40),
    "smoke": Story(
        lambda rng, setting: [*along_routes(rng, setting), Step(18, "manual", {"how": "restart"})], extras=0
    ),
}
SMOKE = {"smoke": "nginx"}  # with what Debian's smallest packages have


def setting_of(rng: random.Random, story: Story, name: str) -> Setting:
    """What varies around a story."""
    front = rng.choice(story.proxies) if story.proxies else rng.choice([*proxies.PROXIES, "nginx", "haproxy", None])
    proxy = proxies.PROXIES[front] if front else None
    version = story.needs.get("version") or rng.choice([install.NEW, install.NEW, install.NEW, install.OLD])
    s = Setting(
        project=rng.choice(["openclaw", "claw", "homelab", "assistant", "molty", "desk", "ki-stack"]), separator=rng.choice("-_"), gateway=rng.choice(["gateway", "openclaw", "openclaw-gateway"]),
        front=rng.choice(["proxy", "edge", "web", (front or "proxy").partition("-")[0]]), bystander=rng.choice(["worker", "redis", "postgres", "watchtower"]), subnet=rng.choice(["192.0.2", "203.0.113"]), host=rng.randint(2, 150),
        version=version, proxy=front, format=rng.choice(list(proxy.formats)) if proxy else "", idle=75, cut=rng.choice([1, 2]), verbose=rng.random() < 0.3, console=rng.choice(["", "", "", "", "json", "pretty"]),
        level=rng.choice(["error", "error", "warn", "info"]) if front != "apache" else rng.choice(["warn", "info"]), token=f"throwaway-{rng.randrange(16**16):016x}", image=rng.choice(["openclaw/gateway", "ghcr.io/openclaw/openclaw", "openclaw"]),
        memory="3g" if version == install.OLD else "1500m",
    )  # fmt: skip
    zones = {who: rng.choice(ZONES) for who in ("gateway", "proxy", "cli") if rng.random() < 0.4}
    clocks = {}
    if rng.random() < 0.25:
        clocks["gateway"] = rng.choice(["+0.180", "-1.750", "+2.350", "+37.250 x1.0001", "-0.640"])
    if proxy and proxy.faketime and rng.random() < 0.2:
        clocks["proxy"] = rng.choice(["+2.350", "-0.900", "-12.500", "+0.400"])
    more: dict[str, Any] = {"zones": zones, "clocks": clocks, **story.needs}
    if name == "idle":
        more["idle"] = rng.choice([12, 16, 20])  # the gateway pings every 25 s
    if name == "commands":
        more["routes"] = all_routes(rng, ["auth"])
    if name.startswith(("routes", "smoke")):
        more["routes"] = all_routes(
            rng,
            [rng.choice(["auth", "deny"]), *rng.sample(["closed", "hole", "plain", "loopback", "dns", "socket"], 5)],
        )
    if name == "wrong-route":
        more["main_route"] = rng.choice(["loopback", "dns", "socket", "closed", "plain"])
    return replace(s, **more)


def kept(rng: random.Random, setting: Setting) -> dict[str, Any]:
    """Which sources somebody collected, and what the files are called."""
    lost = {
        name
        for name, share in {
            "gateway": 0.2,
            "file": 0.35,
            "json": 0.6,
            "stdout": 0.75,
            "stderr": 0.7,
            "inspect": 0.4,
            "compose": 0.35,
            "config": 0.45,
        }.items()
        if rng.random() < share
    }
    if rng.random() < 0.45:
        lost |= set(
            rng.choice(
                [
                    ("events",),
                    ("access", "error"),
                    ("error",),
                    ("file",),
                    ("gateway", "json", "stdout", "stderr"),
                    ("events", "inspect"),
                    ("cli",),
                ]
            )
        )
    if {"gateway", "file", "json", "stdout"} <= lost and rng.random() < 0.8:
        lost.discard(rng.choice(["gateway", "file"]))
    keep: dict[str, Any] = {"missing": sorted(lost)}
    if rng.random() < 0.35:
        keep["names"] = {
            "gateway": f"{setting.gateway}.log",
            "file": "openclaw.log",
            "events": "events.json",
            "access": "access.log",
            "error": "error.log",
            "inspect": "inspect.json",
            "json": "container-json.log",
        }
    if rng.random() < 0.1:
        keep["events_from_s"] = rng.choice([10, 20])
    return keep


def plan(name: str, story_name: str, seed: int, proxy: str | None = None) -> Plan:
    """One incident of a story; with a proxy it is the small kind, of which one gateway's version is enough."""
    rng = random.Random(f"{story_name}/{seed}")
    story = STORIES[story_name]
    if proxy:
        story = replace(story, proxies=(proxy,), needs={**story.needs, "version": install.NEW}, extras=0)
    setting = setting_of(rng, story, story_name)
    steps = list(story.steps(rng, setting))
    for _ in range(rng.randint(0, story.extras)):
        kind = rng.choice(CALM)
        steps.append(
            Step(rng.choice([rng.uniform(2, 7), rng.uniform(20, 30)]), "burst", {"kind": kind, "n": rng.randint(1, 4)})
        )
    if rng.random() < 0.6:
        steps.append(Step(rng.uniform(3, 25), "unrelated"))
    return Plan(
        name,
        seed,
        setting,
        sorted(steps, key=lambda s: s.at),
        rng.randint(2, 3),
        story.holders,
        story.seconds,
        kept(rng, setting),
        story_name,
    )


def plans(size: str, seed: int, only: Sequence[str] = ()) -> list[Plan]:
    """All incidents of a run: `smoke` a small one, `nightly` every story once."""
    names = [
        n
        for n in (SMOKE if size == "smoke" else STORIES)
        if n in only or not only and (n != "smoke" or size == "smoke")
    ]
    return [
        plan(f"s{seed:04d}-{i:02d}", name, seed, SMOKE[name] if size == "smoke" else None)
        for i, name in enumerate(STORIES)
        if name in names
    ]
