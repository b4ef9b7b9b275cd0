"""Which connection of the gateway is which tunnel of the proxy, and which close is which command's."""

from __future__ import annotations

from typing import Final

import polars as pl

from occorr.closes.assignment import assign
from occorr.closes.paths import published
from occorr.schema import MS, SECOND

SLACK: Final = 1_200 * MS  # a gateway's close line comes up to 1 s after its decision
OPEN_SLACK: Final = 700 * MS  # request at the proxy → `← open` at a loaded gateway
EARLY: Final = 50 * MS  # durations that the two round differently
LATE: Final = 60 * SECOND  # with equal openings, how far two ends may differ (partition, dead peer)
THAW: Final = 30 * SECOND  # a frozen gateway logs what was given up during the freeze only when it thaws
EXITS: Final = 5 * SECOND  # from when the CLI gives up to its exit, on a busy machine
GONE: Final = 12.0  # most that it costs if a tunnel did not end with its gateway: as much as 3 s late at its start
OTHER_KIND: Final = 2.0  # cost of a browser that names itself otherwise, or of another client that names itself as one
SEVERAL: Final = 2  # connections that one address needs to be taken for the proxy's …
NEARLY_ALL: Final = 0.9  # … and how many of them the proxy logged
FEW: Final = 0.5  # of a client's that takes another way no more happen to fit
VAGUE: Final = ("connect failed", "handshake failed", "n/a", "")  # reasons of the gateway that any refusal may have
UNSURE: Final = 5.0  # cost of a pair of which one side has no end that is known


def match_proxy(gateway: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """Pairs of gateway connections and tunnels at the proxy: g_row, p_row, group."""
    g = gateway.filter(pl.col("via") != "direct").select(
        "g_row",
        "g_instance",
        "g_t",
        "g_low",
        "g_high",
        "g_opened",
        "g_opened_error",
        "g_forwarded",
        "g_agent",
        "g_mode",
        "g_local",
        "g_port",
        "g_remote",
        "g_duration",
        "inferred",
        "code_gateway",
        "g_handshake",
    )
    given_up = (
        pl.col("p_left")
        | pl.col("p_status").is_in([504, 408])
        | (pl.col("p_status").is_null() & (pl.col("p_phase") == "awaiting_response")).fill_null(value=False)
    )
    p = attempts.filter(pl.col("p_established") | given_up).select(
        "p_row",
        "p_instance",
        "p_established",
        "p_t",
        "p_low",
        "p_high",
        "p_stamp",
        "p_opened",
        "p_client",
        "p_agent",
        "p_upstream",
        "p_resolution",
        "p_clock_status",
        "p_clock_error",
        "p_local_port",
        "p_duration",
    )
    if g.is_empty() or p.is_empty():
        return pl.DataFrame(schema={"g_row": pl.UInt32, "p_row": pl.UInt32, "group": pl.Int64})
    pairs = _near(g, p)
    first_hop = pl.col("g_forwarded").str.split(",").list.eval(pl.element().str.strip_chars())
    fits = pl.col("p_client").is_in(first_hop, nulls_equal=False).fill_null(value=True) | pl.col("p_client").is_null()
    agent = (pl.col("g_agent") == pl.col("p_agent")).fill_null(value=True)
    port = (pl.col("g_port") == pl.col("p_local_port")).fill_null(value=True)
    browser = pl.col("p_agent").str.contains("Mozilla/", literal=True)
    mode = (
        pl.when((pl.col("g_mode") == "webchat") & browser.not_())
        .then(OTHER_KIND)
        .when((pl.col("g_mode") == "cli") & browser)
        .then(OTHER_KIND)
        .otherwise(0.0)
    )
    # a name, or a published port on the host's loopback, may be any address of the container
    asked = pl.col("p_upstream").str.extract(r"^\[?([0-9a-fA-F.:]+?)\]?:\d+$", 1)
    loopback = pl.any_horizontal(at.str.contains(r"^(?:127\.|::1$)") for at in (asked, pl.col("g_local")))
    upstream = (loopback | (asked == pl.col("g_local"))).fill_null(value=True)
    beyond_end = pl.max_horizontal(pl.col("g_low") - pl.col("p_high"), pl.col("p_low") - pl.col("g_high"), 0)
    # an opening that was logged while the gateway's clock was set may have been seconds earlier or later
    width = (
        pl.col("p_resolution").fill_null(SECOND)
        + pl.col("p_clock_error").fill_null(0)
        + pl.col("g_opened_error").fill_null(0)
    )
    start_gap = pl.max_horizontal((pl.col("g_opened") - pl.col("p_opened")).abs() - width, 0)
    same_start = (start_gap <= OPEN_SLACK).fill_null(value=False)
    unknown_start = pl.col("g_opened").is_null() | pl.col("p_opened").is_null()
    # a starting or busy gateway accepts late what the proxy has long since sent
    late_start = (pl.col("g_opened") - pl.col("p_opened") > 0).fill_null(value=False)
    # nothing opens at the gateway before its proxy was asked
    too_early = (
        ~pl.col("inferred")
        & (pl.col("p_resolution") < SECOND)
        & (pl.col("p_opened") - pl.col("g_opened") > width + (pl.col("g_high") - pl.col("g_low")) + EARLY)
    ).fill_null(value=False)
    # what the proxy gave up while the gateway was frozen, the gateway logs as an abandoned handshake when it thaws
    thawed = (
        (pl.col("code_gateway") == 1006)
        & (pl.col("g_handshake") != "connected").fill_null(value=True)
        & pl.col("g_forwarded").is_not_null()
        & (pl.col("g_t") - pl.col("p_t")).is_between(-SECOND, THAW)
    )
    # a stamp that may mark the beginning must fall on it, or on the end where nobody knows which of the two it marks
    on_start = ((pl.col("g_opened") - pl.col("p_stamp")).abs() - width <= OPEN_SLACK).fill_null(value=False)
    on_end = (pl.col("p_opened").is_null() & ((pl.col("g_t") - pl.col("p_stamp")).abs() - width <= SLACK)).fill_null(
        value=False
    )
    same_gateway = (pl.col("g_instance") == pl.col("p_instance")).fill_null(value=True)
    ok = (
        same_gateway
        & fits
        & ~too_early
        & agent
        & upstream
        & port
        & pl.when(pl.col("p_stamp").is_not_null())
        .then(on_start | on_end)
        .when(pl.col("p_established"))
        .then((beyond_end <= SLACK) & (same_start | unknown_start | late_start) | same_start & (beyond_end <= LATE))
        .otherwise(thawed)
    )
    pairs = pairs.filter(ok)
    pairs = pairs.join(_elsewhere(g, p, pairs), on="g_remote", how="anti")
    center = (
        pl.col("g_t") - pl.col("p_t") - pl.when(pl.col("p_resolution") >= SECOND).then(SECOND // 2).otherwise(0)
    ).abs()
    cost = (
        (beyond_end / SLACK).clip(0, 3)
        + _late(start_gap.fill_null(0))
        + mode
        + pl.when(pl.col("p_resolution") < SECOND).then(center / SLACK).otherwise(0.0).clip(0, 2)
        + pl.when(unknown_start).then(0.3).otherwise(0.0)
    )
    fine_start = (
        pl.when(pl.col("p_resolution") < SECOND)
        .then(_late((pl.col("g_opened") - pl.col("p_opened")).abs()))
        .otherwise(0.0)
        .fill_null(0.0)
    )
    # nobody closed an inferred one before its process was gone: its tunnel ended about then, unless the process hung
    center = pl.when("inferred").then((pl.col("g_high") - pl.col("p_t")).abs()).otherwise(center)
    cost = cost + pl.when("inferred").then((center / SLACK).clip(0, GONE)).otherwise(0.0)
    # how long it lasted tells apart what stamps of one second cannot
    lasted = (
        pl.when(late_start & ~same_start)
        .then(0.0)
        .otherwise(((pl.col("g_duration") - pl.col("p_duration")).abs() / (100 * MS)).clip(0, 3))
        .fill_null(0.5)
    )
    return assign(pairs.with_columns((cost + fine_start + lasted).fill_null(UNSURE).alias("cost")), "g_row", "p_row")


def _elsewhere(g: pl.DataFrame, p: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Addresses, as g_remote, that reach the gateway past the proxy: it logged few of their connections, and of another's nearly all.

    What only happens to fit counts as logged, so that an address is a client's only where most do not. One that ever came
    with a forwarded address is a proxy's.
    """
    peer = pl.col("g_remote")
    if not p.get_column("p_clock_status").is_in(["aligned", "reference"]).all():
        return g.select("g_remote").clear()
    told = g.filter(
        pl.col("g_remote").is_not_null()
        & ~pl.col("inferred")
        & pl.col("g_t").is_between(p.get_column("p_t").min(), p.get_column("p_t").max())
    )
    each = told.group_by(peer.alias("peer")).agg(
        pl.len().alias("all"),
        pl.col("g_row").is_in(pairs.get_column("g_row").implode()).mean().alias("logged"),
        pl.col("g_forwarded").is_not_null().any().alias("forwards"),
        pl.col("g_remote").unique(),
    )
    known = ((pl.col("logged") >= NEARLY_ALL) & (pl.col("all") >= SEVERAL)).any()
    return each.filter(known & (pl.col("logged") <= FEW) & ~pl.col("forwards")).explode("g_remote").select("g_remote")


def _late(gap: pl.Expr) -> pl.Expr:
    """What a gap of two openings costs. It grows faster than the gap, so that what a busy gateway accepts late keeps its order."""
    slack = gap / OPEN_SLACK
    return slack + slack * slack / 16


def _near(g: pl.DataFrame, p: pl.DataFrame) -> pl.DataFrame:
    """Candidate pairs whose ends lie within reach, found by buckets of time and never by comparing all with all."""
    bucket = LATE + SECOND
    left = g.with_columns((pl.col("g_t") // bucket).alias("_b"))
    right = pl.concat([p.with_columns((pl.col("p_t") // bucket + shift).alias("_b")) for shift in (-1, 0, 1)])
    pairs = left.join(right, on="_b", maintain_order="left").drop("_b")
    bare = p.filter(pl.col("p_stamp").is_not_null())
    if bare.height:
        marks = pl.concat(
            [bare.with_columns((pl.col("p_stamp") // bucket + shift).alias("_b")) for shift in (-1, 0, 1)]
        )
        begun = g.with_columns((pl.col("g_opened") // bucket).alias("_b"))
        pairs = pl.concat(
            [
                pairs,
                left.join(marks, on="_b", maintain_order="left").drop("_b"),
                begun.join(marks, on="_b", maintain_order="left").drop("_b"),
            ]
        )
    return pairs.unique(["g_row", "p_row"], maintain_order=True)


def match_client(rows: pl.DataFrame, calls: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Pairs of closes and CLI invocations: row, c_row, and the group where several would fit."""
    out = {"row": pl.UInt32, "c_row": pl.UInt32, "c_group": pl.Int64}
    if rows.is_empty() or calls.is_empty():
        return pl.DataFrame(schema=out)
    timed = calls.filter(
        pl.col("c_low").is_not_null()
        & ~_loose()
        & ~pl.col("c_error").is_in(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENOENT", "EACCES"])
    )
    bridges = facts.filter(pl.col("key").str.contains(r"^network\..*\.gateway$")).get_column("value").unique().to_list()
    t = pl.coalesce("g_t", "p_t")
    seen = rows.with_columns(t.alias("_t"), pl.coalesce("p_client", "g_forwarded", "g_remote").alias("_from")).filter(
        pl.col("_t").is_not_null()
    )
    pairs = seen.select(
        "row",
        "_t",
        "_from",
        pl.coalesce("via", pl.when(pl.col("p_row").is_not_null()).then(pl.lit("proxy"))).alias("via"),
        "p_status",
        "code_gateway",
        "g_mode",
        "g_agent",
        "p_path",
        "g_reason",
        "p_agent",
        "g_cause",
        "p_established",
        "g_established",
        "g_instance",
        "p_instance",
        pl.coalesce("g_opened", "p_opened").alias("_opened"),
    ).join_where(
        timed.select(
            "c_row",
            "c_low",
            "c_high",
            "c_t",
            "c_error",
            "code_client",
            "c_status",
            "c_host",
            "c_path",
            "c_reason",
            "c_printed",
            "c_timeout_ms",
            "c_port",
            "c_instance",
            "c_start",
        ),
        pl.col("_t") >= pl.col("c_low") - SECOND,
        pl.col("_t") <= pl.col("c_high") + THAW,
    )
    # only a client that gave up is outlived by its connection
    pairs = pairs.filter(
        (pl.col("_t") <= pl.col("c_high") + SECOND)
        | ((pl.col("c_error") == "timeout") & (pl.col("code_gateway") == 1006))
    )
    # a command opens its connection after it began
    older = pl.col("c_start").is_not_null() & (pl.col("_opened") < pl.col("c_low") - SLACK)
    pairs = pairs.filter(~older.fill_null(value=False))
    loopback = pl.col("c_host").is_in(["127.0.0.1", "localhost", "::1", "0.0.0.0"])
    here = pl.col("_from").is_in([*bridges, "127.0.0.1", "::1"])
    place = pl.when(loopback & bool(bridges)).then(here).otherwise(pl.lit(value=True)).fill_null(value=True)
    ports = published(facts)
    other_way = (pl.col("c_port").is_in(ports["proxy"]) & (pl.col("via") == "direct")) | (
        pl.col("c_port").is_in(ports["gateway"]) & (pl.col("via") == "proxy")
    )
    place = place & ~(loopback & other_way).fill_null(value=False)
    tunnel = pl.col("p_established").fill_null(value=True)
    open_ = pl.coalesce("p_established", "g_established").fill_null(value=False)
    just = pl.col("_t") >= pl.col("c_high") - EXITS
    status = (
        pl.when(pl.col("c_error") == "rejected")
        .then(pl.col("p_status") == pl.col("c_status"))
        .when(pl.col("c_error") == "timeout")  # what was open ends when it gives up
        .then(~open_ | just)
        # without a code of its own kind only the time tells which connection it lost
        .when((pl.col("c_error") == "closed") & (pl.col("code_client") == 1006) & pl.col("c_printed"))
        .then(tunnel & just)
        .otherwise(tunnel)
        .fill_null(value=False)
    )
    path = pl.col("c_path").fill_null("/") == pl.col("p_path").fill_null(pl.col("c_path").fill_null("/"))
    browser = pl.any_horizontal(
        pl.col(agent).str.contains("Mozilla/", literal=True) for agent in ("p_agent", "g_agent")
    )
    mode = pl.col("g_mode").fill_null("cli").is_in(["cli", "backend", "probe"]) & ~browser.fill_null(value=False)
    both = pl.col("code_client").is_not_null() & pl.col("code_gateway").is_not_null()
    normal = [1000, 1001, 1005]
    code = (
        pl.when(both)
        .then(
            (pl.col("code_client") == pl.col("code_gateway"))
            | (pl.col("code_client").is_in(normal) & pl.col("code_gateway").is_in(normal))
            | (pl.col("code_client") == 1006)
        )
        .otherwise(pl.lit(value=True))
    )
    refusal = (
        pl.when(pl.col("c_error") == "failed")
        .then(pl.col("code_gateway").is_in([1008, 1002, 1013]) | pl.col("g_cause").is_not_null())
        .when(pl.col("c_error") == "none")
        .then(pl.col("code_gateway").fill_null(1000).is_in(normal))
        .when(pl.col("c_error") == "ECONNRESET")  # it got no connection: one that was open is reported as closed
        .then(
            ~pl.col("p_established").fill_null(value=False)
            & ~pl.col("g_established").fill_null(value=False)
            & (pl.col("code_gateway").fill_null(1006) == 1006)
        )
        .otherwise(pl.lit(value=True))
        .fill_null(value=False)
    )
    same_gateway = (pl.col("c_instance") == pl.coalesce("g_instance", "p_instance")).fill_null(value=True)
    ok = same_gateway & place & status & path & mode & code & refusal & ~_contradicts()
    gap = (pl.col("c_high") - pl.col("_t")).abs() / SECOND
    said = (
        pl.when(
            pl.col("c_reason").is_not_null()
            & pl.col("g_reason").is_not_null()
            & (pl.col("c_reason") != pl.col("g_reason"))
        )
        .then(1.0)
        .otherwise(0.0)
    )
    gone = (
        pl.when(pl.col("c_error") == "timeout")
        .then((pl.col("code_gateway").is_not_null()).cast(pl.Float64))
        .otherwise(0.0)
    )
    # the CLI sends no User-Agent
    other = pl.col("p_agent").is_not_null().cast(pl.Float64) / 2
    fitting = pairs.filter(ok).with_columns((gap / 5 + said + gone + other).alias("cost"))
    # whoever was told the very words of a close is not moved to a bystander's, so that another command may have it
    words = ((pl.col("code_client") == pl.col("code_gateway")) & (pl.col("c_reason") == pl.col("g_reason"))).fill_null(
        value=False
    )
    sure = assign(fitting.filter(words), "row", "c_row")
    rest = fitting.join(sure, on="row", how="anti").join(sure, on="c_row", how="anti")
    # the two are numbered apart
    free = assign(rest, "row", "c_row").with_columns(pl.col("group") + sure.height)
    found = pl.concat([sure, free]).rename({"group": "c_group"})
    return pl.concat([found, _match_untimed(rows, calls, found)])


def _contradicts() -> pl.Expr:
    """Whether client and gateway give reasons of different kinds; a gateway may say no more than that it failed."""
    ours, theirs = (pl.col(name).str.extract(r"^([^:(]+?) *(?:[:(]|$)", 1) for name in ("c_reason", "g_reason"))
    told = pl.col("c_error").is_in(["closed", "failed"]) & ~theirs.is_in(VAGUE)
    return (told & ~ours.str.starts_with(theirs) & ~theirs.str.starts_with(ours)).fill_null(value=False)


def _loose() -> pl.Expr:
    """Whether a call's place in time is too wide to be joined by time: all that was read, where nothing beside it has a stamp."""
    wide = (pl.col("c_high") - pl.col("c_low") > LATE) & pl.col("c_start").is_null()
    return (pl.col("c_undated") | wide).fill_null(value=False)


def _match_untimed(rows: pl.DataFrame, calls: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Calls without any stamp: joined where one close of the gateway, and no other, has their code and reason."""
    bare = calls.filter(
        (pl.col("c_low").is_null() | _loose())
        & pl.col("c_reason").is_not_null()
        & ~pl.col("c_error").is_in(["none", "timeout"])
    )
    free = rows.join(found.select("row"), on="row", how="anti").filter(
        pl.col("code_gateway").is_not_null()
        & pl.col("g_reason").is_not_null()
        & ~pl.col("g_ambiguous").fill_null(value=False)
    )
    told = (pl.col("c_reason") == pl.col("g_reason")) & (
        (pl.col("code_client") == pl.col("code_gateway")) | pl.col("code_client").is_null()
    )
    pairs = (
        bare.select("c_row", "c_reason", "code_client", "c_instance")
        .join(free.select("row", "g_reason", "code_gateway", "g_mode", "g_instance"), how="cross")
        .filter(
            told
            & (pl.col("c_instance") == pl.col("g_instance")).fill_null(value=True)
            & pl.col("g_mode").fill_null("cli").is_in(["cli", "backend", "probe"])
        )
    )
    alone = pairs.filter((pl.len().over("c_row") == 1) & (pl.len().over("row") == 1))
    return alone.select("row", "c_row", pl.lit(None, pl.Int64).alias("c_group"))
