"""Reads documents: `docker inspect` and its kin, Compose files, proxies' configurations, `openclaw.json`, manifests.

Secrets become fingerprints before a fact is made, so that two sources of one token can be compared.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import json5
import yaml

from occorr import bundle, configs, containers, scrub
from occorr.facts import Fact, line_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from occorr.read import Blob
    from occorr.redact import Redactor

LIMIT: Final = 8 << 20  # a document larger than this is a log
_COMPOSE: Final = re.compile(r"(?m)^services:\s*(?:#.*)?$")
_INSPECTED: Final = '{"Id":'  # docker inspect --format '{{json .}}' of several containers, a line each
_PROMPT: Final = re.compile(
    r"\A\s{0,9}(?:[\w.-]{1,64}@[^\s$#>]{1,200})?[$#>] ?(?:sudo )?(?:docker|podman|cat|kubectl) [^\n]*\n"
)
# An .env file, each line in one way only: what is none is told at its first other line.
_VARIABLES: Final = re.compile(r"(?:[ \t\r]*(?:#[^\n]*|(?:export[ \t]+)?\w+=[^\n]*)?(?:\n|\Z))+")
_VARIABLE: Final = re.compile(r"(?m)^[ \t]*(?:export[ \t]+)?(\w+=)[\"']?([^\n]*?)[\"']?[ \t\r]*$")


class _Loader(yaml.SafeLoader):
    """YAML's safe reader, which passes over the tags that Compose has for overrides (`!reset`, `!override`)."""


def _untagged(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _untagged)


@dataclass(frozen=True, slots=True)
class Document:
    """What a document told; `trouble` says what ended the reading before its end, or is empty."""

    kind: str
    facts: tuple[Fact, ...]
    trouble: str = ""


def texts(blobs: Sequence[Blob]) -> Iterator[str]:
    """The inputs that are short enough to be configurations."""
    for blob in blobs:
        if 0 < len(blob.data) <= configs.LIMIT:
            yield bytes(blob.data).decode("utf-8", "replace").lstrip("\ufeff")


def secrets(blobs: Sequence[Blob]) -> Iterator[str]:
    """What documents call secret: it may stand in any other input, in words that no pattern knows."""
    for blob in blobs:
        if 0 < len(blob.data) <= LIMIT:
            text = _text(blob)
            with contextlib.suppress(*configs.SHAPELESS):
                yield from scrub.secrets(_json(text) if text[:4000].lstrip()[:1] in ("[", "{") else _plain(text))


def document(blob: Blob, redactor: Redactor) -> Document | None:
    """What a document tells, or None where the input is none that is known; what is not as it should be ends it there."""
    if not 0 < len(blob.data) <= LIMIT:
        return None
    text = _text(blob)
    kind, told = _recognised(blob, text, redactor) or ("", ())
    found: list[Fact] = []
    try:
        found.extend(told)  # keeps what came before an error
    except configs.SHAPELESS as error:
        return Document(kind, tuple(found), f"not read to its end: {_why(error)}")
    return Document(kind, tuple(found)) if kind else None


def _text(blob: Blob) -> str:
    """A document's text; the command that people copied with its output is a line without words."""
    return _PROMPT.sub("\n", bytes(blob.data).decode("utf-8", "replace").lstrip("\ufeff"), count=1)


def _why(error: Exception) -> str:
    """An error of a reader, for people: where a YAML text is wrong, or that a value is no such thing as it should be."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"a value is not of the kind that belongs there ({error})"


def _recognised(blob: Blob, text: str, redactor: Redactor) -> tuple[str, Iterable[Fact]] | None:
    """The kind of a document and its facts as they are read, or None."""
    head = text[:4000].lstrip()
    if found := bundle.manifest(blob):
        return "occorr bundle", _bundle(found, text)
    if head.startswith(("[", "{")):
        return _from_json(text, redactor) or _proxy_config(text)  # TOML begins so too
    if re.match(r"CONTAINER ID +IMAGE +", head):
        return "docker ps", containers.ps(text, redactor)
    if _COMPOSE.search(text):
        return "compose", _compose_file(text, redactor)
    return _proxy_config(text)


def _plain(text: str) -> Any:
    """What an `.env` file or a Compose file says, or None; raises what YAML does."""
    if len(text) <= configs.LIMIT and _VARIABLES.fullmatch(text):
        return ["".join(pair) for pair in _VARIABLE.findall(text)]
    return _compose(text)


def _compose(text: str) -> Any:
    """What a Compose file says, or None; raises what YAML does."""
    return yaml.load(text, _Loader) if _COMPOSE.search(text) else None  # noqa: S506 - it is a SafeLoader


def _compose_file(text: str, redactor: Redactor) -> Iterator[Fact]:
    data = _compose(text)
    if isinstance(data, dict) and isinstance(data.get("services"), dict):
        yield from containers.compose(data, text, redactor)


def _proxy_config(text: str) -> tuple[str, Iterable[Fact]] | None:
    """A proxy's configuration: the timeouts that it declares, where its upstreams are, and what its logs will not show."""
    kind = configs.kind(text)
    if not kind:
        return None
    return configs.READERS[kind].title, (
        Fact(f"proxy:{kind}", f.key, f.value, f.line) for f in configs.findings(kind, text)
    )


def _json(text: str) -> Any:
    """What a JSON document says, or an `openclaw.json` in JSON5; None where it is none, as a log of JSON lines."""
    try:
        if text.lstrip()[:1] == "{" and "\n{" in text.strip():
            lines = text.split("\n") if text.lstrip().startswith(_INSPECTED) else ()
            return [json.loads(line) for line in lines if line.strip()] or None
        return json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        if not re.search(r'(?m)^\s*"?(?:gateway|agents|channels)"?\s*:', text):
            return None
        try:
            return json5.loads(text)
        except (ValueError, RecursionError):
            return None


def _from_json(text: str, redactor: Redactor) -> tuple[str, Iterable[Fact]] | None:
    data = _json(text)
    items = data if isinstance(data, list) else [data]
    if not items or not all(isinstance(i, dict) for i in items):
        return None
    if all("State" in i and "Config" in i for i in items):
        return "docker inspect", (f for i in items for f in containers.container(i, text, redactor))
    if all("RepoDigests" in i and "RootFS" in i for i in items):
        return "docker image inspect", (f for i in items for f in containers.image(i, text))
    if isinstance(data, dict) and isinstance(data.get("Server"), dict) and "ApiVersion" in data["Server"]:
        return "docker version", containers.engine(data, text)
    if all("IPAM" in i for i in items):
        return "docker network inspect", (f for i in items for f in containers.network(i, text))
    if isinstance(data, dict) and isinstance(data.get("services"), dict):
        return "compose", containers.compose(data, text, redactor)
    if isinstance(data, dict) and ("static_resources" in data or "envoy.config.listener" in text):
        return _proxy_config(text)
    if isinstance(data, dict) and isinstance(data.get("gateway"), dict):
        return "openclaw.json", _gateway_config(data, text, redactor)
    return None


def _bundle(found: dict[str, Any], text: str) -> Iterator[Fact]:
    """A bundle's manifest: from when to when its events reach, and what could not be had."""
    events, collected = found.get("events") or {}, found.get("collected") or {}
    for key, value in (
        ("events.covered_from", events.get("covered_from")),
        ("events.covered_to", events.get("covered_to")),
    ):
        if value:
            yield Fact("engine", key, str(value), line_of(text, str(value)))
    for key in ("from", "to"):
        if collected.get(key):
            yield Fact("bundle", f"collected.{key}", str(collected[key]), line_of(text, f'"{key}"'))
    for row in found.get("containers") or []:
        for path in row.get("paths") or []:
            yield Fact(f"container:{row.get('id')}", "log", str(path), line_of(text, json.dumps(path)))
    for row in found.get("missing") or []:
        yield Fact(
            "bundle",
            "missing",
            f"{row.get('what')}: {row.get('why')}",
            line_of(text, json.dumps(row.get("what"), ensure_ascii=False)),
        )


def _gateway_config(data: dict[str, Any], text: str, redactor: Redactor) -> Iterator[Fact]:
    """`openclaw.json`; the subject is `gateway`."""
    public: dict[str, Any] = {k: data[k] for k in scrub.PUBLIC_CONFIG if k in data}
    stack: list[tuple[str, Any]] = list(scrub.config(public, redactor).items())
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{key}.{k}", v) for k, v in value.items()]
        elif value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield Fact("gateway", key, shown, line_of(text, key.rpartition(".")[2]))
