"""Joins lines by keys that need no clock: connection ids, one message in two streams, the lines of one CLI invocation."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr import schema

SEVERAL: Final = 3  # lines of one and the greatest length are no chance
SAME: Final = 0.8  # share of a file's events, in the time that two files share, from which they are one log
TWIN_WINDOW_NS: Final = 150_000_000  # console minus file stamp of one message: 0–68 ms measured, doubled
# What an end is about: one invocation tells of one, in the library's words and in the gateway's.
ABOUT: Final = (
    r"(pairing|pending approval|token mismatch|token missing|password mismatch|password missing|device identity|device signature"
    r"|origin not allowed|protocol mismatch|too many|service restart|slow consumer)"
)
FINE_NS: Final = 1_000_000  # stamps as fine as this can stand for another form of their message
QUARTER_NS: Final = 900_000_000_000
_RICHNESS: Final = {"openclaw/file": 0, "openclaw/json": 1, "openclaw/logs": 2}
_COLUMNS: Final = {
    **schema.working(schema.EVENTS),
    **schema.working(schema.ATTRIBUTES),
    "part": pl.String,
    "seq": pl.UInt32,
    "also_at": pl.String,
    "twin_raw": schema.TS,
    "twin_observed": pl.Boolean,
}


# A listener of both families writes IPv4 addresses as IPv6 ones, here and not there.
_MAPPED: Final = r"(?i)\[?::ffff:(\d+\.\d+\.\d+\.\d+)\]?"
_ADDRESSES: Final = (
    "client_address",
    "remote_address",
    "forwarded_for",
    "local_address",
    "upstream_address",
    "endpoint",
)


def complete(events: pl.DataFrame) -> pl.DataFrame:
    """All working columns, so that what follows need not ask which source was there."""
    have = set(events.columns)
    events = events.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in _COLUMNS.items() if name not in have
    )
    return events.with_columns(pl.col(a).str.replace_all(_MAPPED, "$1") for a in _ADDRESSES if a in events.columns)


def link(events: pl.DataFrame) -> pl.DataFrame:
    """Events with connection ids filled in, twins folded and CLI invocations told apart.

    Args:
        events: decoded events of all inputs.

    Returns:
        the events, each message once; `conn_short` is filled wherever the connection is known and joins all its lines.
    """
    events = complete(events).filter(pl.col("event_name").is_not_null())
    return _invocations(_twins(_zoned(_connections(events))))


def _zoned(events: pl.DataFrame) -> pl.DataFrame:
    """Gives a gateway's stamps without zone or date those of the same messages in its other streams.

    A console in a terminal and the file log of one process tell of the same connections; the difference of their
    stamps, in whole quarters of an hour, is the zone, and the days where the date is missing.
    """
    gateway = (
        (pl.col("source_kind") == "gateway")
        & pl.col("conn_short").is_not_null()
        & pl.col("timestamp_raw").is_not_null()
    )
    stamp = pl.col("timestamp_raw").cast(pl.Int64)
    # what a connection says often would pair each with each
    once = pl.len().over("log_file_path", "part", "event_name", "conn_short") == 1
    naive = events.filter(gateway & ~pl.col("zone_inline").fill_null(value=True) & once).select(
        "log_file_path", "part", "event_name", "conn_short", stamp.alias("n")
    )
    known = events.filter(gateway & pl.col("zone_inline") & once).select("event_name", "conn_short", stamp.alias("k"))
    pairs = naive.join(known, on=["event_name", "conn_short"], maintain_order="left").with_columns(
        ((pl.col("n") - pl.col("k")) / QUARTER_NS).round().cast(pl.Int64).alias("q")
    )
    pairs = pairs.filter((pl.col("n") - pl.col("k") - pl.col("q") * QUARTER_NS).abs() <= 2_000_000_000)
    votes = (
        pairs.group_by("log_file_path", "part", "q")
        .agg(pl.col("conn_short").n_unique().alias("votes"))
        .sort("votes", "q", descending=[True, False])
        .unique(["log_file_path", "part"], keep="first", maintain_order=True)
    )
    if votes.is_empty():
        return events
    shifted = events.join(
        votes.select("log_file_path", "part", "q"), on=["log_file_path", "part"], how="left", maintain_order="left"
    )
    hit = pl.col("q").is_not_null() & ~pl.col("zone_inline").fill_null(value=True)
    return shifted.with_columns(
        pl.when(hit)
        .then((stamp - pl.col("q") * QUARTER_NS).cast(schema.TS))
        .otherwise("timestamp_raw")
        .alias("timestamp_raw"),
        pl.when(hit).then(pl.lit(value=True)).otherwise("zone_inline").alias("zone_inline"),
    ).drop("q")


def once(frames: list[pl.DataFrame]) -> tuple[pl.DataFrame, dict[tuple[str, str], dict[str, int]]]:
    """All events, those that two files hold only once; the first file wins.

    Two files overlap where nearly all that one of them says in the time of both stands in the other, to the letter. One
    file may say the same thing twice in a second: the n-th time there is the n-th time here.

    Returns:
        the events, and for each (path, part) how many of its lines stand in which other file.
    """
    events = pl.concat(frames, how="diagonal")
    if len(frames) < 2:
        return events, {}
    order = {path: i for i, path in enumerate(f.item(0, "log_file_path") for f in frames)}
    moment = (
        pl.coalesce("timestamp_raw", "observed_timestamp")
        if "observed_timestamp" in events.columns
        else pl.col("timestamp_raw")
    )
    rows = (
        events.with_row_index("_row")
        .select("_row", "event_name", "log_file_path", "part", "log_record_original", moment.alias("t"))
        .filter(pl.col("t").is_not_null())
    )
    rows = rows.with_columns(
        pl.col("log_file_path").replace_strict(order, return_dtype=pl.Int64).alias("file"),
        pl.col("log_record_original").hash(1).alias("key"),
    )
    rows = rows.with_columns(pl.int_range(pl.len()).over("file", "key", "t", order_by="_row").alias("n"))
    several = rows.filter(pl.col("file").n_unique().over("key", "t", "n") > 1)
    if several.is_empty():
        return events, {}
    pairs = (
        several.select("key", "t", "n", pl.col("file").alias("a"))
        .join(several.rename({"file": "b"}), on=["key", "t", "n"], maintain_order="left")
        .filter(pl.col("a") < pl.col("b"))
    )
    named = ~pl.col("event_name").is_in(["log", "unparsed"])
    spans = {
        f: (a, b)
        for f, a, b in rows.group_by("file").agg(pl.col("t").min().alias("a"), pl.col("t").max().alias("b")).rows()
    }
    gone: list[pl.DataFrame] = []
    for (a, b), same in pairs.group_by("a", "b", maintain_order=True):
        low, high = max(spans[a][0], spans[b][0]), min(spans[a][1], spans[b][1])
        mine = rows.filter((pl.col("file") == b) & pl.col("t").is_between(low, high))
        counted = named if mine.select(named.any()).item() else pl.lit(value=True)
        if same.filter(counted).height >= SAME * mine.filter(counted).height:
            gone.append(same.select("_row", "log_file_path", "part", "a"))
    if not gone:
        return events, {}
    lost = pl.concat(gone).sort("a").unique("_row", keep="first", maintain_order=True)
    names = {i: path for path, i in order.items()}
    told: dict[tuple[str, str], dict[str, int]] = {}
    for path, part, other, count in (
        lost.group_by("log_file_path", "part", "a", maintain_order=True).len().sort("log_file_path", "part", "a").rows()
    ):
        told.setdefault((path, part), {})[names[other]] = count
    return (
        events.with_row_index("_row").filter(~pl.col("_row").is_in(lost.get_column("_row").to_list())).drop("_row"),
        told,
    )


def short(conn: pl.Expr) -> pl.Expr:
    """The short form `8…4` of a connection id."""
    return pl.concat_str(conn.str.slice(0, 8), pl.lit("…"), conn.str.slice(-4))


def _connections(events: pl.DataFrame) -> pl.DataFrame:
    """Fills `conn_short` from the id, from the line before (compact style) and from the endpoint; and the id from it."""
    events = events.with_columns(pl.coalesce("conn_short", short(pl.col("conn_id"))).alias("conn_short")).sort(
        "log_file_path", "part", "seq"
    )
    needs = pl.col("conn_short").is_null() & pl.col("endpoint").is_not_null()
    where = ["log_file_path", "part", "endpoint"]
    known = (
        pl.when(pl.col("event_name") == "websocket.open").then("conn_short").forward_fill().over(where, order_by="seq")
    )
    events = events.with_columns(pl.when(needs).then(known).otherwise("conn_short").alias("conn_short"))
    # compact style leaves the id out where it equals that of the connection line before
    lines = pl.col("event_name").is_in(
        ["websocket.open", "websocket.connect", "rpc.response", "websocket.close", "frame.parse_error"]
    )
    last = (
        pl.when(lines & pl.col("conn_short").is_not_null())
        .then("conn_short")
        .forward_fill()
        .over("log_file_path", "part", order_by="seq")
    )
    hidden = pl.col("body").str.contains(" conn=", literal=True).fill_null(value=False)  # blacked out, and not left out
    # a line that ends where others were cut off may have lost it, and of lines that somebody chose the one before may be another's
    compact = lines & pl.col("conn_short").is_null() & (pl.col("source_kind") == "gateway") & ~hidden & ~_cut()
    events = events.with_columns(pl.when(compact).then(last).alias("_last"))
    ends = (
        events.filter(pl.col("endpoint").is_not_null() & pl.col("conn_short").is_not_null())
        .group_by(pl.col("conn_short").alias("_last"))
        .agg(pl.col("endpoint").first().alias("_end"))
    )
    events = events.join(ends, on="_last", how="left", maintain_order="left")
    other = (pl.col("endpoint") != pl.col("_end")).fill_null(value=False)
    ended = pl.col("_last").is_not_null() & (pl.col("event_name") == "websocket.close")
    other |= ended & (ended.sum().over("log_file_path", "part", "_last") > 1)  # a connection ends once
    events = events.with_columns(pl.coalesce("conn_short", pl.when(~other).then("_last")).alias("conn_short")).drop(
        "_last", "_end"
    )
    whole = (
        events.filter(pl.col("conn_id").is_not_null())
        .group_by("conn_short")
        .agg(pl.col("conn_id").first().alias("_whole"))
    )
    return (
        events.join(whole, on="conn_short", how="left", maintain_order="left")
        .with_columns(pl.coalesce("conn_id", "_whole").alias("conn_id"))
        .drop("_whole")
    )


def _cut() -> pl.Expr:
    """Whether a line is as long as the longest of its file, as several are: a screen or a command may have cut them."""
    width = pl.col("log_record_original").str.len_chars()
    longest = width.max().over("log_file_path", "part")
    return ((width == longest) & ((width == longest).sum().over("log_file_path", "part") >= SEVERAL)).fill_null(
        value=False
    )


def _twins(events: pl.DataFrame) -> pl.DataFrame:
    """One row for one message that stands in several streams; the richest form stays and takes the engine's stamp along."""
    gateway = events.filter(pl.col("source_kind") == "gateway")
    rest = events.filter(pl.col("source_kind") != "gateway")
    files = gateway.group_by("log_file_path", "part").agg(
        pl.col("parser").drop_nulls().mode().sort().first().alias("main"), pl.len()
    )
    if files.height < 2 or _apart(gateway, files.height):
        return events
    files = files.with_columns(
        pl.col("main").replace_strict(_RICHNESS, default=9, return_dtype=pl.Int64).alias("rank")
    ).sort("rank", "log_file_path", "part")
    body = pl.col("body").str.replace(r"^(?:gateway |admission |shutdown |heartbeat: )", "").str.slice(0, 60)
    code = pl.col("websocket_close_code").cast(pl.String).fill_null("")
    # one stream may tell of an end twice ("closed before connect", "→ close"), and each has fields that the other lacks
    form = body.str.extract(r"(\w+)", 1).fill_null("")
    key = pl.concat_str("event_name", pl.coalesce("conn_short", body), code, form, separator="|")
    moment = pl.coalesce("timestamp_raw", "observed_timestamp")
    gateway = gateway.with_columns(
        key.alias("_key"), moment.alias("_at"), pl.col("timestamp_raw").is_null().alias("_bare")
    )
    kept: pl.DataFrame | None = None
    for path, part in files.select("log_file_path", "part").rows():
        own = gateway.filter((pl.col("log_file_path") == path) & (pl.col("part") == part)).sort("_at", nulls_last=True)
        if kept is None:
            kept = own
            continue
        kept = _fold(kept, own)
    folded = kept.drop("_key", "_at", "_bare") if kept is not None else gateway
    return pl.concat([folded, rest], how="diagonal")


def _apart(gateway: pl.DataFrame, files: int) -> bool:
    """Whether each of the files is a container's own: two processes never write one message."""
    if "container_id" not in gateway.columns:
        return False
    owners = gateway.select("log_file_path", "part", "container_id").unique()
    return owners.height == files == owners.get_column("container_id").drop_nulls().n_unique()


def _fold(kept: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Adds a file's rows to those that are kept; a row with a twin there only leaves its place and its envelope's stamp."""
    kept = kept.with_row_index("_row")
    coarse = bool((own.get_column("time_resolution_ns").max() or 0) > TWIN_WINDOW_NS)  # type: ignore[operator]  # polars types a column's maximum as any value
    tolerance = TWIN_WINDOW_NS + (1_000_000_000 if coarse else 0)
    right = kept.filter(pl.col("_at").is_not_null()).select("_key", "_bare", "_at", "_row").sort("_at")
    left = own.with_row_index("_own")
    pairs = (
        left.filter(pl.col("_at").is_not_null())
        .select("_key", "_bare", "_at", "_own")
        .join_asof(
            right,
            on="_at",
            by=["_key", "_bare"],
            strategy="nearest",
            tolerance=f"{tolerance}ns",
            check_sortedness=False,
        )
        .filter(pl.col("_row").is_not_null())
    )
    place = pl.concat_str(pl.col("log_file_path"), pl.lit(":"), pl.col("log_line")).alias("_place")
    taken = pairs.select("_own", "_row").join(
        left.select(
            "_own",
            "observed_timestamp",
            "observed_clock_id",
            "log_iostream",
            place,
            pl.when(pl.col("zone_inline") & (pl.col("time_resolution_ns") <= FINE_NS))
            .then("timestamp_raw")
            .alias("_raw"),
        ),
        on="_own",
        maintain_order="left",
    )
    taken = taken.group_by("_row").agg(
        pl.col("_raw").filter(pl.col("observed_timestamp").is_not_null()).first().alias("_raw"),
        pl.col("observed_timestamp").drop_nulls().first().alias("_obs"),
        pl.col("observed_clock_id").drop_nulls().first().alias("_obs_clock"),
        pl.col("log_iostream").drop_nulls().first().alias("_stream"),
        pl.col("_place").sort().str.join("; ").alias("_place"),
    )
    kept = (
        kept.join(taken, on="_row", how="left", maintain_order="left")
        .with_columns(
            # each form of a message has a stamp of its own, and the envelope's belongs to the form that it came with
            pl.when(pl.col("observed_timestamp").is_null() & pl.col("_obs").is_not_null())
            .then("_raw")
            .otherwise("twin_raw")
            .alias("twin_raw"),
            (
                pl.col("twin_observed").fill_null(value=False)
                | (pl.col("observed_timestamp").is_null() & pl.col("_obs").is_not_null())
            ).alias("twin_observed"),
            pl.coalesce("observed_timestamp", "_obs").alias("observed_timestamp"),
            pl.coalesce("observed_clock_id", "_obs_clock").alias("observed_clock_id"),
            pl.coalesce("log_iostream", "_stream").alias("log_iostream"),
            pl.concat_str("also_at", "_place", separator="; ", ignore_nulls=True).replace("", None).alias("also_at"),
        )
        .drop("_row", "_raw", "_obs", "_obs_clock", "_stream", "_place")
    )
    fresh = left.join(pairs.select("_own"), on="_own", how="anti").drop("_own")
    return pl.concat([kept, fresh], how="diagonal").sort("_at", nulls_last=True)


def another(*over: str) -> pl.Expr:
    """Whether an outcome of the CLI cannot be of the invocation that the one before it is of: another code, another limit, another reason.

    Args:
        over: columns that part what is compared; what stands before in the frame came before.
    """

    def before(value: pl.Expr) -> pl.Expr:
        return value.forward_fill().shift(1).over(*over)

    spoken = pl.when(pl.col("cli_error").is_in(["failed", "closed"])).then(pl.col("websocket_close_reason"))
    about = spoken.str.to_lowercase().str.extract(ABOUT).replace("pending approval", "pairing")
    told = (about, pl.col("websocket_close_code"), pl.col("cli_timeout_ms"))
    return pl.any_horizontal((value != before(value)).fill_null(value=False) for value in told)


def _invocations(events: pl.DataFrame) -> pl.DataFrame:
    """Numbers the CLI's invocations in each file and spreads what one line of an invocation says over the others."""
    cli = (pl.col("source_kind") == "cli") & (pl.col("parser") == "openclaw/cli")
    lines = events.filter(cli).sort("log_file_path", "seq")
    if lines.is_empty():
        return events
    # An invocation begins at its prompt, or, in a paste without one, at a failure or success after a target block; a
    # prompt of a form that nobody knows is told by what contradicts the outcome before it.
    prompt = pl.col("event_name").is_in(["cli.command"])
    headline = pl.col("event_name").is_in(["cli.failure", "cli.success"])
    has_prompt = prompt.any().over("log_file_path")
    block = pl.col("event_name").is_in(["cli.target", "cli.source", "cli.config"])
    after_block = headline & block.shift(1, fill_value=False).over("log_file_path", order_by="seq")
    begins = pl.when(has_prompt).then(prompt).otherwise(after_block)
    lines = lines.with_columns(begins.cum_sum().over("log_file_path", order_by="seq").alias("_run"))
    again = headline & another("log_file_path", "_run")
    lines = lines.with_columns(
        (begins | again).cum_sum().over("log_file_path", order_by="seq").cast(pl.Int64).alias("cli_record")
    )
    alone = pl.col("log_file_path").str.replace(r"\.[\w.]*$", "").alias("_stem")
    sidecar = (
        lines.filter((pl.col("event_name") == "cli.recorded") & pl.col("cli_command").is_not_null())
        .select(
            alone,
            pl.col("recorded_start").alias("_start"),
            pl.col("recorded_end").alias("_end"),
            pl.col("cli_exit_code").alias("_code"),
            pl.col("event_id").alias("_by"),
        )
        .unique("_stem", keep="first")
    )
    lines = lines.with_columns(alone).join(sidecar, on="_stem", how="left", maintain_order="left")
    spread = [
        "cli_target",
        "cli_source",
        "cli_command",
        "recorded_start",
        "recorded_end",
        "cli_exit_code",
        "cli_timeout_ms",
    ]
    # what a recorder says of a run holds for all outcomes in it; without it a run may hide another's prompt
    whole = pl.col("recorded_start").is_not_null().any().over("log_file_path", "_run")
    own = [
        pl.coalesce(
            pl.col(c).drop_nulls().first().over("log_file_path", "cli_record"),
            pl.when(whole).then(pl.col(c).drop_nulls().first().over("log_file_path", "_run")),
        ).alias(c)
        for c in spread
    ]
    single = ~(
        pl.col("recorded_start").is_not_null()
        & (pl.col("event_name") == "cli.recorded")
        & pl.col("cli_command").is_null()
    ).any().over("log_file_path")
    lines = (
        lines.with_columns(own)
        .with_columns(
            pl.when(single)
            .then(pl.coalesce("recorded_start", "_start"))
            .otherwise("recorded_start")
            .alias("recorded_start"),
            pl.when(single).then(pl.coalesce("recorded_end", "_end")).otherwise("recorded_end").alias("recorded_end"),
            pl.when(single)
            .then(pl.coalesce("cli_exit_code", "_code"))
            .otherwise("cli_exit_code")
            .alias("cli_exit_code"),
        )
        .drop("_stem", "_start", "_end", "_code", "_by", "_run")
    )
    return pl.concat([events.filter(~cli), lines], how="diagonal")
