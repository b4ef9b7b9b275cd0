"""Several gateways told apart: whose each line is, by containers, addresses, host names, boots and folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr.facts import GATEWAY
from occorr.schema import SECOND
from occorr.scope import AFTER_START, BEGINS, ONE_OFF, started

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK: Final = 300_000_000  # the engine tells a death so much later than it was, at most, as both stamp it
DEAF: Final = 1_500_000_000  # a process that begins talks to nobody for so long
SOON: Final = 120 * SECOND  # … and listens after so long
SEVERAL: Final = 3  # lines that a log without a start shows
_TALK: Final = r"^(?:websocket|rpc|pairing|auth|handshake|frame|protocol)\."  # to clients


def one_offs(events: pl.DataFrame) -> pl.DataFrame:
    """Containers that `docker compose run` made of the gateway's image: container_id, and `a` to `b`, ns, when they ran.

    They stand beside the gateway and may hold its port or its state; `b` is far away where nothing tells their end.
    """
    own = events.filter(
        pl.col("container_name").fill_null("").str.contains(ONE_OFF)
        & pl.col("container_image_name").fill_null("").str.contains(GATEWAY)
    )
    t = pl.col("timestamp_raw").cast(pl.Int64)
    ends = pl.col("event_name").is_in(["container.die", "container.destroy"])
    runs = own.group_by("container_id").agg(
        t.filter(pl.col("event_name") == "container.start").min().alias("a"),
        t.filter(ends).min().fill_null(1 << 62).alias("b"),
    )
    return runs.drop_nulls("a").sort("a", "container_id")


def _aside(events: pl.DataFrame) -> pl.Expr:
    """Whether a line is a one-off container's: it names it, or its file begins and ends with it."""
    runs = one_offs(events)
    ids = runs.get_column("container_id").to_list()
    if not ids:
        return pl.lit(value=False)
    t = pl.coalesce("observed_timestamp", "timestamp_raw").cast(pl.Int64)
    lines = events.filter(pl.col("source_kind") == "gateway").select(
        "log_file_path", "part", "event_name", t.alias("t")
    )
    boots = events.filter(
        (pl.col("event_name") == "container.start")
        & ((pl.col("role") == "gateway") | pl.col("container_id").is_in(ids))
    ).select("container_id", t.alias("boot"))
    begun = (
        lines.filter(pl.col("event_name") == "gateway.start")
        .drop_nulls("t")
        .sort("t")
        .join_asof(boots.sort("boot"), left_on="t", right_on="boot", strategy="backward", check_sortedness=False)
    )
    spans = lines.group_by("log_file_path", "part").agg(
        pl.col("t").min().alias("first"), pl.col("t").max().alias("last")
    )
    files = (
        begun.group_by("log_file_path", "part")
        .agg(pl.col("container_id").unique())
        .filter(pl.col("container_id").list.len() == 1)
        .with_columns(pl.col("container_id").list.first())
        .join(runs, on="container_id", maintain_order="left")
        .join(spans, on=["log_file_path", "part"], maintain_order="left")
        .filter((pl.col("first") >= pl.col("a") + AFTER_START) & (pl.col("last") <= pl.col("b") + SECOND))
    )
    file = pl.concat_str("log_file_path", "part", separator="\n", ignore_nulls=True)
    named = pl.col("container_id").is_in(ids) | pl.col("host_name").is_in([i[:12] for i in ids])
    return (pl.col("source_kind") == "gateway") & (
        named.fill_null(value=False) | file.is_in(files.select(file).to_series().to_list())
    )


def instances(events: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Tells several gateways apart: adds `instance`.

    `instance` is `project/service` (or the container's name) of the gateway that an event belongs to; an empty string
    where there is only one gateway; null where several are there and nothing says which one it is, and for lines of a
    container that `docker compose run` put beside it. A proxy's lines and a client's belong to the gateway that they
    name by its address, else to the one whose logs lie beside theirs.
    """
    family = pl.coalesce(pl.concat_str("compose_project", pl.lit("/"), "compose_service"), "container_name")
    docker = (
        events.filter(pl.col("role") == "gateway")
        .group_by("container_id")
        .agg(family.drop_nulls().first().alias("instance"))
    )
    own = facts.filter(pl.col("subject").str.starts_with("container:")).with_columns(
        pl.col("subject").str.slice(10).alias("container_id")
    )
    wide = own.group_by("container_id").agg(
        pl.col("value").filter(pl.col("key") == "compose.project").first().alias("p"),
        pl.col("value").filter(pl.col("key") == "compose.service").first().alias("s"),
        pl.col("value").filter(pl.col("key") == "name").first().alias("n"),
        (pl.col("value").filter(pl.col("key") == "role") == "gateway").any().alias("g"),
    )
    stated = wide.filter("g").select(
        "container_id", pl.coalesce(pl.concat_str("p", pl.lit("/"), "s"), "n").alias("instance")
    )
    known = pl.concat([docker, stated]).drop_nulls().unique("container_id", keep="first", maintain_order=True)
    by_id = dict(known.rows())
    aside = _aside(events)
    by_host = {c[:12]: i for c, i in by_id.items()}
    if len(set(by_host.values())) <= 1:
        by_host |= _by_turns(events.filter(~aside), by_host)
    if len(set(by_host.values())) <= 1:
        return events.with_columns(pl.when(~aside).then(pl.lit("")).alias("instance"))
    addresses = own.filter(
        pl.col("key").str.contains(r"^network\..*\.address$") & pl.col("container_id").is_in(list(by_id))
    )
    # networks of several hosts may give out the same addresses: such a one tells nothing
    documented = addresses.select(
        pl.col("value").alias("address"), pl.col("container_id").replace_strict(by_id).alias("of")
    )
    local = pl.coalesce("local_address", pl.col("endpoint").str.extract(r"->\[?([^\]]+?)\]?:\d+$", 1))
    by_address = _own_addresses(events, local, by_host) | _ones_alone(documented)
    services = [i.rpartition("/")[2] for i in set(by_id.values())]
    by_service = {
        s: i for i in by_id.values() if services.count(s := i.rpartition("/")[2]) == 1
    }  # both projects may call theirs `gateway`
    told = pl.coalesce(
        pl.col("container_id").replace_strict(by_id, default=None, return_dtype=pl.String),
        pl.col("host_name").replace_strict(by_host, default=None, return_dtype=pl.String),
        local.replace_strict(by_address, default=None, return_dtype=pl.String),
        pl.coalesce("compose_service", "part").replace_strict(by_service, default=None, return_dtype=pl.String),
    )
    files = (
        events.filter(pl.col("source_kind") == "gateway")
        .with_columns(told.alias("_t"))
        .group_by("log_file_path", "part")
        .agg(pl.col("_t").drop_nulls().mode().sort().first().alias("_file"))
    )
    upstream = pl.col("upstream_address").str.extract(r"^\[?([^\]]+?)\]?:\d+$", 1)
    named = (
        pl.when(pl.col("source_kind") == "docker")
        .then(pl.col("container_id").replace_strict(by_id, default=None, return_dtype=pl.String))
        .when(pl.col("source_kind") == "gateway")
        .then(pl.coalesce(told, "_file"))  # gateways on one state write one log: a line that says its own is theirs
        .when(pl.col("source_kind") == "proxy")
        .then(upstream.replace_strict(by_address, default=None, return_dtype=pl.String))
    )
    boots = started(events, list(by_id)).with_columns(pl.col("container_id").replace_strict(by_id).alias("_boot"))
    files = files.join(
        boots.select("log_file_path", "part", "_boot"),
        on=["log_file_path", "part"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    files = files.select("log_file_path", "part", pl.coalesce("_file", "_boot").alias("_file"))
    events = events.join(files, on=["log_file_path", "part"], how="left", maintain_order="left")
    events = events.with_columns(named.alias("instance")).drop("_file")
    documents = own.filter(pl.col("container_id").is_in(list(by_id))).select(
        pl.col("log_file_path").cast(pl.String), pl.col("container_id").replace_strict(by_id).alias("instance")
    )
    beside = pl.col("log_file_path").replace_strict(_beside(events, documents), default=None, return_dtype=pl.String)
    missing = pl.col("instance").is_null() & pl.col("source_kind").is_in(["gateway", "proxy", "cli"])
    whose = pl.when(missing).then(beside).otherwise("instance")
    return events.with_columns(pl.when(~aside).then(whose).alias("instance"))


def _by_turns(events: pl.DataFrame, known: dict[str, str]) -> dict[str, str]:
    """Host names of gateways that no document names and that write by turns with others: two gateways on one log or state.

    One that takes another's place, as a new container does, writes only after it. A host that started no gateway wrote
    something else, as the CLI does.
    """
    lines = events.filter((pl.col("source_kind") == "gateway") & pl.col("host_name").is_not_null()).select(
        "event_name",
        "host_name",
        pl.col("host_name").replace(known).alias("name"),
        pl.coalesce("observed_timestamp", "timestamp_raw").alias("t"),
    )
    ran = lines.filter(pl.col("event_name").is_in(BEGINS)).get_column("host_name")
    lines = lines.filter(pl.col("host_name").is_in(ran.unique().implode())).drop_nulls("t").sort("t")
    turns = lines.filter((pl.col("name") != pl.col("name").shift(1)).fill_null(value=True)).get_column("name")
    if turns.len() == turns.n_unique():
        return {}
    return dict(lines.select("host_name", "name").unique().sort("host_name").rows())


def _own_addresses(events: pl.DataFrame, local: pl.Expr, by_host: dict[str, str]) -> dict[str, str]:
    """Addresses at which gateways were reached, as their own lines tell: address → instance, where one alone has it."""
    own = events.filter(pl.col("source_kind") == "gateway").select(
        local.alias("address"),
        pl.col("host_name").replace_strict(by_host, default=None, return_dtype=pl.String).alias("of"),
    )
    return _ones_alone(own.filter(~pl.col("address").str.contains(r"^127\.|^::1$")).drop_nulls())


def _ones_alone(found: pl.DataFrame) -> dict[str, str]:
    """Of addresses and whose they are (`of`): address → instance, without those that several have."""
    alone = found.group_by("address").agg(pl.col("of").unique()).filter(pl.col("of").list.len() == 1)
    return dict(alone.select("address", pl.col("of").list.first()).sort("address").rows())


def _beside(events: pl.DataFrame, documents: pl.DataFrame) -> dict[str, str]:
    """The one gateway of which a file's folder tells, by lines or documents, or, if it tells of none, the nearest folder above: path → instance."""
    told: dict[PurePath, set[str]] = {}
    said = events.drop_nulls("instance").select(pl.col("log_file_path").cast(pl.String), "instance")
    for path, instance in pl.concat([said, documents]).unique().rows():
        for folder in PurePath(path).parents:
            told.setdefault(folder, set()).add(instance)
    paths = events.get_column("log_file_path").unique().to_list()
    nearest = {p: next((told[f] for f in PurePath(p).parents if f in told), set()) for p in paths}
    return {p: next(iter(names)) for p, names in nearest.items() if len(names) == 1}


def survived(events: pl.DataFrame) -> pl.DataFrame:
    """Withdraws the role of a gateway from containers whose death its log goes on through: another process wrote that log.

    Of containers that share an image, a service or a name the events may show those of another host, project or replica.
    Where some logs go on through a death and others show it, the former are of a gateway that nothing names.

    Args:
        events: placed events with `role` and `instance`.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    own = events.filter((pl.col("role") == "gateway") & pl.col("container_id").is_not_null())
    deaths = own.filter(pl.col("event_name") == "container.die").select("container_id", "instance", t.alias("die"))
    log = events.filter((pl.col("source_kind") == "gateway") & t.is_not_null())
    if "zone_assumed" in log.columns:
        log = log.filter(~pl.col("zone_assumed").fill_null(value=False))
    if deaths.is_empty() or log.is_empty():
        return events
    boots = own.filter(pl.col("event_name") == "container.start").select("instance", t.alias("boot")).sort("boot")
    written = log.select(
        "log_file_path",
        "part",
        "instance",
        "event_name",
        # where the line itself says it: a short form leaves it out, and then the line before tells whose it is
        pl.when(pl.col("body").str.contains(pl.col("conn_short").str.slice(0, 8), literal=True))
        .then("conn_short")
        .alias("conn_short"),
        t.alias("t"),
        (t - pl.col("duration_ns").fill_null(0)).alias("since"),
        pl.col("clock_error_ns").fill_null(0).alias("doubt"),
    ).sort("t")
    found = []
    for (path, part, instance), lines in sorted(
        written.partition_by("log_file_path", "part", "instance", as_dict=True).items(), key=str
    ):
        log_of_one = _Written.of(lines)
        here = pl.col("instance").eq_missing(pl.lit(instance, pl.String))
        begun = boots.filter(here).get_column("boot").to_numpy()
        for container, die in deaths.filter(here).select("container_id", "die").rows():
            on = log_of_one.goes_on(die, begun)
            if on is not None:
                found.append({"log_file_path": path, "part": part, "container_id": container, "on": on})
    told = pl.DataFrame(
        found, schema={"log_file_path": pl.String, "part": pl.String, "container_id": pl.String, "on": pl.Boolean}
    )
    lost = told.filter("on")
    if lost.is_empty():
        return events
    shown = told.filter(~pl.col("on")).get_column("container_id").unique()
    hosts = log.get_column("host_name").drop_nulls().unique()
    kept = own.filter(
        pl.col("container_id").is_in(shown.implode()) | pl.col("container_id").str.slice(0, 12).is_in(hosts.implode())
    )
    family = own.filter(pl.col("container_id").is_in(lost.get_column("container_id").implode())).get_column("instance")
    others = own.filter(pl.col("instance").is_in(family.implode(), nulls_equal=True)).join(
        kept, on="container_id", how="anti"
    )
    ids = others.get_column("container_id").unique()
    strange = lost.filter(pl.col("container_id").is_in(kept.get_column("container_id").implode())).select(
        "log_file_path", "part", strange=True
    )
    events = events.join(
        strange.unique(), on=["log_file_path", "part"], how="left", nulls_equal=True, maintain_order="left"
    )
    return events.with_columns(
        pl.when(
            pl.col("container_id").is_in(ids.implode()).fill_null(value=False) & (pl.col("source_kind") == "docker")
        )
        .then(None)
        .otherwise("role")
        .alias("role"),
        pl.when(pl.col("strange").is_null()).then("instance").alias("instance"),
    ).drop("strange")


@dataclass(frozen=True, slots=True)
class _Written:
    """When one log was written, ns, sorted: all lines, starts of a process, lines of talk to clients; and when its connections were known.

    `opened` and `heard` are the first line of each connection and the last of its talk, `doubt` what its clock is off by at most.
    """

    lines: NDArray[np.int64]
    begins: NDArray[np.int64]
    talk: NDArray[np.int64]
    opened: NDArray[np.int64]
    heard: NDArray[np.int64]
    doubt: int

    @classmethod
    def of(cls, lines: pl.DataFrame) -> _Written:
        """What the lines of a log tell, sorted by time."""
        t = pl.col("t")
        talks = pl.col("event_name").cast(pl.String).str.contains(_TALK)
        known = (
            lines.filter(pl.col("conn_short").is_not_null())
            .group_by("conn_short")
            .agg(
                pl.min_horizontal(t.min(), pl.col("since").min()).alias("opened"), t.filter(talks).max().alias("heard")
            )
            .drop_nulls("heard")
            .sort("heard")
        )
        return cls(
            lines.get_column("t").to_numpy(),
            lines.filter(pl.col("event_name").is_in(BEGINS)).get_column("t").to_numpy(),
            lines.filter(talks).get_column("t").to_numpy(),
            known.get_column("opened").to_numpy(),
            known.get_column("heard").to_numpy(),
            int(lines.get_column("doubt").to_numpy().max()),
        )

    def goes_on(self, die: int, boots: NDArray[np.int64]) -> bool | None:
        """Whether the log goes on through a container's death, or shows it; null where it tells neither, or began later.

        No process writes between its end and the next start, and none talks to clients in its first second or knows a
        connection that was open before.
        """
        before, after = die - self.doubt, die + SLACK + self.doubt
        if self.lines[0] >= before:
            return None

        def between(times: NDArray[np.int64], low: int, high: int) -> int:
            return int(np.searchsorted(times, high) - np.searchsorted(times, low, side="right"))

        later = self.begins[self.begins > after]
        until = min(int(later[0]), die + SOON) if len(later) else die + SOON
        deaf = min([until, *(int(b) + DEAF for b in boots[boots > die][:1])])
        crossing = bool(((self.opened < before - SECOND) & (self.heard > after)).any())
        # a log that shows its starts would show one
        unshown = bool((self.begins < before).any()) and between(self.talk, after, until) >= SEVERAL
        if between(self.talk, after, deaf) or crossing or unshown:
            return True
        silent = between(self.lines, die - SOON, die) > 0 and between(self.lines, after, die + SOON) == 0
        return False if silent or until < die + SOON else None
