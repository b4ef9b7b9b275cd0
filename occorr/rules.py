"""Loads `occorr/rules/*.toml`, one file a cause, and checks them like definitions: all mistakes at once, with file:line.

A rule speaks about closes (`[[rule]]`) or about what happened to a path (`[[episode]]`). Its `when` is an SQL
expression over the features that `FEATURES` and `EPISODE_FEATURES` name, so that an operator can read it and polars can
run it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import resources, schema
from occorr.checked import File
from occorr.errors import DefinitionError, Problem, nearest
from occorr.facts import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STR, I64, BOOL, F64 = pl.String, pl.Int64, pl.Boolean, pl.Float64
FEATURES: Final[Mapping[str, Any]] = {
    # what was seen of the close
    "via": STR,
    "established": BOOL,
    "inferred": BOOL,
    "code": I64,
    "code_gateway": I64,
    "code_client": I64,
    "reason": STR,
    "duration_s": F64,
    # the gateway's word
    "g_seen": BOOL,
    "g_cause": STR,
    "g_auth": STR,
    "g_error": STR,
    "ambiguous": BOOL,
    "g_parse_error": BOOL,
    "g_parse": STR,
    "g_remote": STR,
    "g_timeout_line": BOOL,
    "g_version_line": BOOL,
    "g_auth_line": BOOL,
    "g_forwarded": STR,
    # the proxy's word
    "p_seen": BOOL,
    "p_kind": STR,
    "p_status": I64,
    "p_established": BOOL,
    "p_failed": BOOL,
    "p_refused": BOOL,  # … it could not connect, at once: a refusal, though no error number says so
    "p_upstream_status": STR,
    "p_upstream_known": BOOL,
    "p_errno": I64,
    "p_phase": STR,
    "p_error_level": STR,
    "p_left": BOOL,
    "p_termination": STR,
    "p_flags": STR,
    "p_content_type": STR,
    "p_duration_s": F64,
    "p_to_gateway": BOOL,
    "p_own_port": BOOL,
    "p_socket": BOOL,
    "p_aligned": BOOL,
    "p_limit_s": F64,
    "p_error": STR,
    "p_upstream": STR,
    "p_own_loopback": BOOL,
    "p_flags_known": BOOL,
    # the client's word
    "c_seen": BOOL,
    "c_error": STR,
    "c_status": I64,
    "c_host": STR,
    "c_reason": STR,
    "c_source": STR,
    "c_published": BOOL,
    "c_own_port": BOOL,
    "c_inside": BOOL,
    # what is known around it
    "gateway_alive": BOOL,
    "gateway_log": BOOL,
    "contained": BOOL,
    "docker_covers": BOOL,
    "proxy_known": STR,
    "untrusted_line": BOOL,
    "downtime_near": BOOL,
    "death_soon": BOOL,
    "same_length": I64,
    "fine": BOOL,
    "proxy_event_near": BOOL,
    "proxy_stayed": BOOL,
    "interruption_near": BOOL,
    "rotated_near": BOOL,
    "g_public": BOOL,
    "gone_after": I64,
    "p_edge": BOOL,
    "p_trusted": BOOL,
    "same_moment": I64,
    "same_breath": I64,
    "lost_together": I64,
    "gone_together": I64,
    "others_invalid": I64,
    "unanswered_near": BOOL,
    "late_gateway": BOOL,
    "stopping": BOOL,
    "outlived": BOOL,
    "log_gap": BOOL,
}
EPISODE_FEATURES: Final[Mapping[str, Any]] = {
    "kind": STR,
    "covered": BOOL,
    "abrupt": BOOL,
    "exit_code": I64,
    "die": I64,
    "kill_term": I64,
    "kill_kill": I64,
    "kill_other": I64,
    "oom": I64,
    "oom_fact": BOOL,
    "oom_kernel": BOOL,
    "oom_near": BOOL,
    "stop": I64,
    "again": BOOL,
    "watched": BOOL,
    "created": I64,
    "destroyed": I64,
    "unhealthy": I64,
    "sick": BOOL,
    "sigterm": I64,
    "sigusr": I64,
    "in_process": I64,
    "conflict": I64,
    "left": BOOL,
    "crash": I64,
    "fatal": I64,
    "node_exit": I64,
    "moved": BOOL,
    "stayed": BOOL,
    "unchecked": BOOL,
    "shown": BOOL,
    "narrow": BOOL,
    "silent_s": F64,
    "listened": BOOL,
    "begun": BOOL,
    "elsewhere": BOOL,
    "beside": I64,
    "rivals": I64,
    "told_ready": BOOL,
}
AT: Final = ("cut", "end", "down", "starting", "during")
CITES: Final = (
    "gateway",
    "open",
    "proxy",
    "proxy_error",
    "client",
    "auth",
    "error",
    "parse",
    "timeout",
    "version",
    "invalid",
    "death",
    "episode",
    "untrusted",
)
RANK: Final = {"decisive": 3, "supporting": 2, "circumstantial": 1}
EPISODE: Final = "episode"  # as a rule's cause: whatever the episode's cause is


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeRule:
    """Names the cause of an episode."""

    id: str
    cause: str
    when: str
    strength: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """How a close must stand to an episode: of which kind, at which of its moments, with how much slack (s)."""

    kind: str
    at: str
    when: str = ""
    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Names the cause of a close."""

    id: str
    cause: str
    when: str
    strength: str
    priority: int
    cites: tuple[str, ...]
    sentence: str
    relation: Relation | None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Features of an imagined close (or episode) and whether the file's rules fire on them."""

    path: str
    line_number: int
    about: str
    values: Mapping[str, Any]
    fires: bool


@dataclass(frozen=True, slots=True, eq=False)
class Cause:
    """One file of rules: what the cause is called, what to check first, and how it is recognised."""

    cause: str
    path: str
    title: str
    check: str
    command: str
    settle: str
    rules: tuple[Rule, ...]
    episodes: tuple[EpisodeRule, ...]
    steps: Mapping[str, tuple[str, str]]  # check and command by the proxy's program, where it has words of its own
    cases: tuple[Case, ...] = field(default=())


_TOP: Final = {
    "cause": str,
    "title": str,
    "check": str,
    "command": str,
    "settle": str,
    "rule": list,
    "episode": list,
    "case": list,
    "step": list,
}
_STEP: Final = {"proxy": str, "check": str, "command": str}
_RULE: Final = {
    "id": str,
    "when": str,
    "strength": str,
    "priority": int,
    "cites": list,
    "sentence": str,
    "at": dict,
    "cause": str,
}
_EPISODE: Final = {"id": str, "when": str, "strength": str, "sentence": str}
_AT: Final[Mapping[str, type | tuple[type, ...]]] = {
    "kind": str,
    "at": str,
    "when": str,
    "before": (int, float),
    "after": (int, float),
}
_CASE: Final = {"close": dict, "episode": dict, "fires": bool}


def _condition(file: File, text: str, valid: Mapping[str, Any], table: str, index: int) -> None:
    try:
        roots = pl.sql_expr(text).meta.root_names() if text else []
    except (pl.exceptions.PolarsError, TypeError) as error:
        file.wrong(f"when is no valid SQL expression: {str(error).splitlines()[0]}", table, index, "when")
        return
    for name in roots:
        if name not in valid:
            file.wrong(f"{name!r} in when is no feature; {nearest(name, valid)}", table, index, "when")


def _file(path: Path, shown: str) -> tuple[Cause | None, list[Problem]]:
    file = File(shown, path.read_text(encoding="utf-8"))
    try:
        data = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        return None, [Problem(shown, 1, f"not valid TOML: {error}")]
    file.keys(data, _TOP)
    cause = str(data.get("cause", ""))
    if cause not in schema.CAUSE_NAMES | {EPISODE}:
        file.wrong(f"cause {cause!r} is not in the vocabulary; {nearest(cause, schema.CAUSE_NAMES)}", key="cause")
    rules, episodes, cases = [], [], []
    for index, raw in enumerate(data.get("rule", [])):
        file.keys(raw, _RULE, "rule", index)
        _condition(file, raw.get("when", ""), FEATURES, "rule", index)
        if raw.get("strength") not in schema.STRENGTHS:
            file.wrong(
                f"strength {raw.get('strength')!r} is unknown; {nearest(str(raw.get('strength')), schema.STRENGTHS)}",
                "rule",
                index,
                "strength",
            )
        for name in raw.get("cites", ()):
            if name not in CITES:
                file.wrong(f"cites {name!r} is unknown; {nearest(name, CITES)}", "rule", index, "cites")
        relation = None
        if at := raw.get("at"):
            file.keys(at, _AT, "rule", index)
            if at.get("at") not in AT:
                file.wrong(f"at {at.get('at')!r} is unknown; {nearest(str(at.get('at')), AT)}", "rule", index, "at")
            _condition(file, at.get("when", ""), EPISODE_FEATURES, "rule", index)
            relation = Relation(
                at.get("kind", ""),
                at.get("at", ""),
                at.get("when", ""),
                float(at.get("before", 0)),
                float(at.get("after", 0)),
            )
        rules.append(
            Rule(
                f"{path.stem}/{raw.get('id', index)}",
                raw.get("cause", cause),
                raw.get("when", ""),
                raw.get("strength", ""),
                int(raw.get("priority", 50)),
                tuple(raw.get("cites", ())),
                raw.get("sentence", ""),
                relation,
            )
        )
    for index, raw in enumerate(data.get("episode", [])):
        file.keys(raw, _EPISODE, "episode", index)
        _condition(file, raw.get("when", ""), EPISODE_FEATURES, "episode", index)
        episodes.append(
            EpisodeRule(
                f"{path.stem}/{raw.get('id', index)}",
                cause,
                raw.get("when", ""),
                raw.get("strength", ""),
                raw.get("sentence", ""),
            )
        )
    for index, raw in enumerate(data.get("case", [])):
        file.keys(raw, _CASE, "case", index)
        about = "episode" if "episode" in raw else "close"
        for name in raw.get(about, {}):
            if name not in (EPISODE_FEATURES if about == "episode" else FEATURES):
                file.wrong(
                    f"{name!r} in a case is no feature;"
                    f" {nearest(name, EPISODE_FEATURES if about == 'episode' else FEATURES)}",
                    "case",
                    index,
                    about,
                )
        cases.append(Case(shown, file.line_of("case", index, about), about, raw.get(about, {}), bool(raw.get("fires"))))
    steps = {}
    for index, raw in enumerate(data.get("step", [])):
        file.keys(raw, _STEP, "step", index)
        if raw.get("proxy") not in PROGRAMS:
            file.wrong(
                f"proxy {raw.get('proxy')!r} is unknown; {nearest(str(raw.get('proxy')), PROGRAMS)}",
                "step",
                index,
                "proxy",
            )
        steps[raw.get("proxy", "")] = (raw.get("check", ""), raw.get("command", ""))
    found = Cause(
        cause,
        shown,
        data.get("title", ""),
        data.get("check", ""),
        data.get("command", ""),
        data.get("settle", ""),
        tuple(rules),
        tuple(episodes),
        steps,
        tuple(cases),
    )
    return found, file.problems


def load(folder: Path) -> tuple[Cause, ...]:
    """All causes of a folder.

    Raises:
        DefinitionError: holds every mistake of every file.
    """
    causes, problems = [], []
    for path in sorted(folder.glob("*.toml")):
        cause, wrong = _file(path, f"{folder.name}/{path.name}")
        problems += wrong
        if cause is not None:
            causes.append(cause)
    if problems:
        raise DefinitionError(problems)
    return tuple(causes)


@cache
def builtin() -> tuple[Cause, ...]:
    """The rules that come with occorr."""
    return load(resources.folder("rules"))
