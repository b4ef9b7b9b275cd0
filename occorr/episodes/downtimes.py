"""The time between two lives of a gateway, from its own log and the engine's events."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from occorr import scope
from occorr.episodes.gap import HUNG, Gap
from occorr.episodes.spoken import Spoken
from occorr.episodes.table import BACK_UP, record
from occorr.facts import GATEWAY
from occorr.schema import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLD_LATE: Final = 100 * MS  # a process may have written its first line before the engine tells its start
KILL_LAG: Final = 100 * MS  # the engine tells a kill before the death that it brings about, and stamps both itself
VAGUE: Final = 10 * SECOND
TWINS: Final = 500 * MS
STOPPED: Final = 10 * SECOND  # the engine waits so long from SIGTERM to SIGKILL
LIVED: Final = 60 * SECOND  # a start that fails does so sooner
REMOVED: Final = 30 * SECOND  # a container that is removed later than this after its death was not ended by that
REPLACED: Final = 600 * SECOND  # … and one that is made later than this takes nobody's place
KERNEL: Final = 3 * SECOND  # a kernel's stamps are of whole seconds, and drift while the host sleeps
HEEDED: Final = 60 * SECOND  # who acts on a health check does so within this
ASKED: Final = (None, 0, 137, 143)  # exit codes of who was stopped from outside, or may have been
LEASE: Final = 600 * SECOND  # a state is free again so long after an owner that did not let go of it, at the latest
_LIFE: Final = (
    "gateway.signal",
    "gateway.ignored",
    "gateway.stop",
    "gateway.restart",
    "gateway.drained",
    "gateway.shutdown",
    "gateway.conflict",
    "gateway.start_failed",
    "gateway.crash",
    "process.error",
    "gateway.start",
    "gateway.listening",
    "gateway.ready",
)
_ENGINE: Final = (
    "container.die",
    "container.kill",
    "container.oom",
    "container.stop",
    "container.restart",
    "container.start",
    "container.create",
    "container.destroy",
    "container.rename",
    "container.health_status",
    "container.exec_create",
)
READ: Final = (
    "timestamp",
    "clock_error_ns",
    "source_kind",
    "role",
    "instance",
    "host_name",
    "event_name",
    "event_id",
    "signal",
    "container_exit_code",
    "container_id",
    "health_status",
    "exec_command",
    "restart_mode",
    "stop_reason",
    "shutdown_ms",
    "body",
    "log_line",
    "log_file_path",
    "part",
    "compose_service",
    "compose_project",
    "observed_clock_id",
)  # columns of events that `downtimes` reads; there are some 150


def downtimes(
    events: pl.DataFrame,
    facts: pl.DataFrame,
    covered: tuple[int, int] | None,
    kernel: pl.DataFrame,
    *,
    alone: bool = True,
) -> list[dict[str, Any]]:
    """Each downtime between two lives of a gateway, a life being the time from `listening` to the next stop.

    Args:
        events: the placed events of one gateway, with the columns of `READ`.
        facts: FACTS.
        covered: from when to when the engine's events are known, ns.
        kernel: what kernels tell of processes that they killed for memory, on whatever host.
        alone: whether no other gateway is known, which might hold its state.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    names = pl.col("event_name")
    log = events.filter((pl.col("source_kind") == "gateway") & pl.col("timestamp").is_not_null())
    # a line without a stamp of its own lies somewhere between others, which tell what it tells with better ones
    vague = pl.col("clock_error_ns").fill_null(0) > VAGUE
    log = log.filter(~vague) if log.select((~vague).any()).item() else log
    engine = events.filter(names.is_in(_ENGINE) & (pl.col("role") == "gateway"))
    life = (
        pl.concat([log.filter(names.is_in(_LIFE)), engine], how="diagonal")
        .with_columns(t.alias("t"))
        .sort("t", "log_line", "event_id")
    )
    if life.is_empty():
        return []
    spoken = Spoken.of(log)
    talks = log.filter(names.cast(pl.String).str.starts_with("websocket.")).select(t.sort()).to_series().to_list()
    own, failed = _without_failed(life, talks)
    out = _gaps(own, spoken, facts, covered, kernel)
    if failed:  # another process that could not start beside it turned away its own clients only
        beside = _gaps(life, spoken, facts, covered, kernel)
        out = sorted([*out, *(row for row in beside if row["clash"] in failed)], key=itemgetter("cut_low"))
    # who had run for long before the logs begin, or failed like those after it, is told by these
    if (
        len(out) > 1
        and not out[0]["begun"]
        and not out[1]["listened"]
        and out[1]["cut_low"] - out[0]["cut_high"] < LIVED
    ):
        out[0]["listened"] = False
    told = int(life.get_column("t").to_numpy().max())
    for row in out:
        if row["up"] is None:  # what came after all that is known of it is anybody's
            row["surely"] = max(row["cut_high"], told + BACK_UP)
    if alone and not spoken.by_turns:
        _left(out, talks)
    _back(out, life, failed)
    for row, later in zip(out, out[1:], strict=False):
        # a process that died before it listened never ended the downtime: the next one's cause takes over
        if row["up"] is None or row["up"] > later["cut_low"]:
            row["up"] = later["cut_low"]
        # the engine does not tell when the container of a start that failed began; its first line comes later
        if not later["listened"] and not later["covered"] and row["up"] == later["cut_low"]:
            row["surely"] = max(row["cut_high"], row["up"] - scope.BOOT)
    ready = life.filter(names == "gateway.ready").get_column("t").to_list()
    for row, ends in zip(out, [*(later["cut_low"] for later in out[1:]), 1 << 62], strict=False):
        at = bisect_left(ready, row["up"]) if row["up"] is not None else len(ready)
        row["ready"] = ready[at] if at < len(ready) and ready[at] < ends else None  # no later process's word
        row["told_ready"] = row["ready"] is not None
    return out


def _gaps(
    life: pl.DataFrame, spoken: Spoken, facts: pl.DataFrame, covered: tuple[int, int] | None, kernel: pl.DataFrame
) -> list[dict[str, Any]]:
    """What happened between each two processes, as far as something ended there."""
    names = pl.col("event_name")
    begins = [spoken.first(x) for x in _begins(life)]
    boots = life.filter(names == "container.start").get_column("t").to_list()
    listening = life.filter(names == "gateway.listening").get_column("t").to_list()
    bounds = [None, *begins, None]
    unchecked, ooms = _unchecked(facts), _ooms(facts)
    checks = names.is_in(["container.exec_create", "container.health_status"]) if not unchecked else pl.lit(value=False)
    checked = _checked(facts) or life.select(checks.any()).item()
    rows = life.to_dicts()
    when = [r["t"] for r in rows]
    out: list[dict[str, Any]] = []
    for before, after in zip(bounds, bounds[1:], strict=False):
        begin, end = (
            (0 if before is None else bisect_right(when, before)),
            bisect_left(when, 1 << 62 if after is None else after),
        )
        gap = Gap(rows[begin:end]).without_outlived(spoken.last(before, None if after is None else after - 1))
        up = None
        if after is not None:
            at = bisect_left(listening, after)
            up = listening[at] if at < len(listening) else None if listening else after + BACK_UP
        row = _downtime(gap, spoken, before, after, up, ooms, covered, kernel)
        if row is None:
            continue
        # a start that fails by itself is why nobody listens from the moment its container began; one that is stopped
        # from outside is not
        if _failed(row) and before is not None:
            row["cut_low"] = min(
                row["cut_low"], max((b for b in boots if before - BACK_UP <= b <= before), default=before)
            )
        # health is told where it changes: who begins to listen later, but for a container that began since, does not know it
        since = bool(boots) and boots[0] <= row["cut_low"]
        watched = not checked or since or (covered is not None and row["cut_low"] - covered[0] >= HEEDED)
        again = bool(boots) and boots[-1] >= row["cut_low"]
        out.append(row | {"unchecked": unchecked, "watched": watched, "again": again})
    return out


def _without_failed(life: pl.DataFrame, talks: list[int]) -> tuple[pl.DataFrame, list[int]]:
    """Without the starts of other processes that failed beside this one, which went on to talk to its clients or was stopped later.

    Returns:
        the rest, and when the others failed, ns.
    """
    told = life.filter(
        pl.col("event_name").is_in([*scope.BEGINS, "gateway.ready", "gateway.conflict", "gateway.signal"])
    ).select("event_id", "event_name", "t")
    rows, when = told.rows(), told.get_column("t").to_list()
    dies = life.filter(pl.col("event_name") == "container.die").get_column("t").to_list()
    others, moments = [], []
    for at, (ident, what, begun) in enumerate(rows):
        later = (r for r in islice(rows, at + 1, None) if r[1] != "gateway.start" or r[2] > begun + TWINS)
        first = next(later, None) if what == "gateway.start" else None
        if first is None or first[1] != "gateway.conflict":
            continue
        clash = first[2]
        if bisect_left(dies, begun) < bisect_right(dies, clash + HUNG):  # its container ended with it: no other process
            continue
        told_twice = rows[at + 1 : bisect_right(when, clash + TWINS)]
        same = [r[0] for r in told_twice if r[1] == "gateway.conflict"]
        # whoever listens next is another one again
        _, name, until = next(
            (r for r in later if r[1] not in ("gateway.conflict", "gateway.start")), ("", "", 1 << 62)
        )
        if name == "gateway.signal" or bisect_left(talks, until) > bisect_right(talks, clash):
            others += [ident, *same]
            moments.append(clash)
    return life.filter(~pl.col("event_id").is_in(others)), moments


def _left(rows: list[dict[str, Any]], talks: list[int]) -> None:
    """Marks starts that failed since the state was still held, where its last owner may have been this gateway itself.

    An owner that ends without a word keeps its lease until it lapses, and a new container cannot tell that nobody is
    there. One that lives talks to its clients.
    """
    owner = None
    for listened, chain in groupby(rows, key=itemgetter("listened")):
        failed = list(chain)
        if listened:
            owner = failed[-1]
            continue
        begin, end = failed[0]["cut_low"] + SECOND, failed[-1]["up"] or 1 << 62
        lives = bisect_left(talks, end) > bisect_right(talks, begin)
        for row in failed:
            own = owner is None or (not owner["released"] and row["cut_low"] - owner["cut_low"] <= LEASE)
            row["left"] = bool(row["leased"] and own and not lives)


def _back(rows: list[dict[str, Any]], life: pl.DataFrame, beside: list[int]) -> None:
    """Adds when the gateway was told to be there again, and how many starts had failed by then.

    Args:
        rows: downtimes in order; those of processes that failed at the moments `beside` kept nobody out.
        life: the lines and events that tell of its lives.
        beside: ns.
    """
    listening, boots = (
        life.filter(pl.col("event_name") == name).get_column("t").to_list()
        for name in ("gateway.listening", "container.start")
    )
    begun = [row["cut_low"] for row in rows]
    for at, row in enumerate(rows):
        ends = listening or boots
        after = bisect_right(ends, row["cut_low"])
        end = ends[after] if after < len(ends) and row["clash"] not in beside else None
        row["back" if listening else "boot"] = end
        # a code of its own outweighs a signal that another process of the log was sent
        meanwhile = rows[at + 1 : bisect_left(begun, end or 0)]
        row["failed"] = sum(_failed(r) or not (r["listened"] or r["exit_code"] in ASKED) for r in meanwhile)


def _failed(row: dict[str, Any]) -> bool:
    """Whether a process ended by itself before it listened, and was not stopped from outside."""
    stopped = any(row[k] for k in ("kill_term", "kill_kill", "kill_other", "sigterm", "sigusr", "oom", "destroyed"))
    return not row["listened"] and not stopped


def _begins(life: pl.DataFrame) -> list[int]:
    """When processes of the gateway began: their first lines, and starts of containers whose lines were not collected."""
    marks = life.filter(pl.col("event_name").is_in(scope.BEGINS)).select("t", "event_name", "clock_error_ns")
    starts = marks.filter(pl.col("event_name") == "gateway.start").get_column("t").to_list()
    # one message in two streams has two stamps; no process starts and listens within their distance
    apart = pl.col("t").diff() > TWINS
    again = (
        marks.filter(
            (pl.col("event_name") == "gateway.listening")
            & (pl.col("event_name").shift(1) == "gateway.listening")
            & apart
        )
        .get_column("t")
        .to_list()
    )
    first = marks.item(0, "t") if marks.height and marks.item(0, "event_name") == "gateway.listening" else None
    logged = sorted({*starts, *again, *([first] if first is not None else [])})
    boots = life.filter(pl.col("event_name") == "container.start").get_column("t").to_list()
    doubt = dict(marks.select("t", pl.col("clock_error_ns").fill_null(0)).rows())
    silent = list(boots)
    for x in logged:  # each process was started once: by the start before its first line, or by one just told after it
        near = [b for b in silent if x - BACK_UP <= b <= x + SECOND + doubt.get(x, 0)]
        before = [b for b in near if b <= x + TOLD_LATE + doubt.get(x, 0)]
        if near:
            silent.remove(max(before) if before else min(near))
    return sorted({*logged, *silent})


def _downtime(
    gap: Gap,
    spoken: Spoken,
    before: int | None,
    after: int | None,
    up: int | None,
    ooms: Mapping[str, int],
    covered: tuple[int, int] | None,
    kernel: pl.DataFrame,
) -> dict[str, Any] | None:
    """The downtime between two processes (`before` and `after` are when they began), or None where nothing ended."""
    if not gap.ended(before, after, covered=covered is not None):
        return None
    rows, times, dies, graceful = gap.rows, gap.times, gap.dies, gap.graceful
    limits = [
        x for x in (after - 1 if after is not None else None, dies[0] + SECOND if dies else None) if x is not None
    ]
    last_line = spoken.last(before, min(limits) if limits else None)
    low, high, abrupt = gap.cut(last_line, before, after)
    killed_by = dies[0] + KILL_LAG if dies else 1 << 62  # what is sent after a death did not bring it about
    kills_term, kills_kill = (
        [k for k in gap.signals("container.kill", *values) if k <= killed_by]
        for values in (("15", "TERM"), ("9", "KILL", "6", "ABRT"))  # as a watchdog kills
    )
    # health and kills stand on the engine's clock; a line of the gateway may be that much later than it looks
    doubt = max((r["clock_error_ns"] or 0 for r in rows if r["event_name"] == "gateway.signal"), default=0)
    onset = min([*kills_term, *kills_kill], default=min(graceful, default=low) + doubt)
    user_lines = gap.signals("gateway.signal", "USR1", "USR2")
    codes = [r["container_exit_code"] for r in rows if r["event_name"] == "container.die"]
    ids = list(dict.fromkeys(r["container_id"] for r in rows if r["container_id"]))
    earlier, later = spoken.host(low, after=False), spoken.host(after, after=True) if after is not None else None
    by_kernel, maybe = _kernel(kernel, ids, dies) if kernel.height else ([], False)
    return record(
        kind="gateway",
        cut_low=low,
        cut_high=high,
        own_low=graceful[0] - 50 * MS if graceful else None,
        own_high=max(gap.cleaned, default=graceful[-1] + STOPPED) if graceful else None,
        up=up,
        error=max((r["clock_error_ns"] or 0 for r in rows), default=0),
        covered=covered is not None and covered[0] - SECOND <= low <= covered[1],
        abrupt=abrupt,
        exit_code=codes[0] if codes else None,
        die=len(dies),
        kill_term=len(kills_term),
        kill_kill=len(kills_kill),
        kill_other=len([k for k in times("container.kill") if k <= killed_by]) - len(kills_term) - len(kills_kill),
        oom=len(times("container.oom")),
        oom_fact=bool(by_kernel) or any(i in ooms and abs(d - ooms[i]) < 2 * SECOND for i in ids for d in dies),
        oom_kernel=bool(by_kernel),
        oom_near=maybe,
        stop=len(times("container.stop")),
        restart=len(times("container.restart")),
        created=len([x for x in times("container.create") if x <= high + REPLACED]),
        destroyed=len([x for x in times("container.destroy", "container.rename") if x <= high + REMOVED]),
        unhealthy=gap.unhealthy(onset),
        sick=gap.sick(onset),
        sigterm=len(gap.signals("gateway.signal", "TERM", "INT"))
        + len([r for r in rows if r["event_name"] == "gateway.stop" and "SIGTERM" in str(r["stop_reason"])]),
        sigusr=len(user_lines),
        in_process=(
            len([r for r in rows if re.search(r"in-process|supervisor|full process", str(r["restart_mode"] or ""))])
            if user_lines or not dies
            else 0
        ),
        conflict=len(times("gateway.conflict")),
        clash=min(times("gateway.conflict"), default=None),
        left=False,
        leased=any("lease" in str(r["body"]).lower() for r in rows if r["event_name"] == "gateway.conflict"),
        released=bool(gap.cleaned),
        crash=len(times("gateway.crash")),
        fatal=len([x for x in gap.fatal if not dies or x <= dies[0] + SECOND]),
        node_exit=len([r for r in rows if str(r["body"] or "").startswith("Node.js v")]),
        stayed=bool(graceful and after is not None and spoken.stayed(graceful[0], after)),
        moved=bool(earlier and later and spoken.followed(earlier, later)),
        shown=bool(times("gateway.signal", "gateway.stop", "gateway.crash")),
        events=[*by_kernel[:1], *gap.cited()],
        # it had come up: it said so, it was there when the logs begin, or it lived longer than a failed start does
        listened=before is None
        or low - before >= LIVED
        or any(r["event_name"] in ("gateway.listening", "gateway.ready") and r["t"] <= high for r in rows),
        begun=before is not None,
        container_id=ids[-1] if ids else None,
        project=next((r["compose_project"] for r in rows if r["compose_project"]), None),
        silent_s=(high - last_line) / SECOND if last_line is not None else None,
    )


def _unchecked(facts: pl.DataFrame) -> bool:
    """Whether the engine says that nothing checks the health of the gateway's container, and no document names what would act on it.

    A Compose file says nothing of the check that an image brings with it, as the gateway's own does.
    """
    image = (pl.col("key") == "image") & pl.col("value").cast(pl.String).str.contains(GATEWAY)
    ours = facts.filter(image | ((pl.col("key") == "role") & (pl.col("value") == "gateway"))).get_column("subject")
    told = facts.filter(pl.col("key").str.starts_with("state.")).get_column("subject")
    return bool(ours.is_in(told.implode()).any()) and not _checked(facts)


def _checked(facts: pl.DataFrame) -> bool:
    """Whether documents name a health check, or something that stops containers by itself."""
    checks = pl.col("key").str.contains(r"^(?:healthcheck\.|health\.|state\.health)")
    acts = pl.col("value").cast(pl.String).str.contains("(?i)autoheal|watchtower|ouroboros")
    return facts.filter(checks | acts.fill_null(value=False)).height > 0


def _ooms(facts: pl.DataFrame) -> dict[str, int]:
    """Containers whose latest death `docker inspect` calls an OOM kill, and when that was, ns."""
    killed = facts.filter((pl.col("key") == "state.oom_killed") & (pl.col("value") == "true")).get_column("subject")
    ended = (
        facts.filter((pl.col("key") == "state.finished_at") & pl.col("subject").is_in(killed.implode()))
        .select(
            pl.col("subject").str.strip_prefix("container:"),
            pl.col("value").str.to_datetime(time_unit="ns", time_zone="UTC", strict=False).cast(pl.Int64),
        )
        .drop_nulls()
        .unique("subject", keep="first", maintain_order=True)
    )
    return dict(ended.rows())


def _kernel(kernel: pl.DataFrame, ids: list[str], dies: list[int]) -> tuple[list[str], bool]:
    """Lines in which a kernel says that it killed a process of these containers when one died; whether others may mean it.

    A process that it names by number alone, or at no time, may be anybody's.
    """
    t = pl.col("timestamp").cast(pl.Int64)
    doubt = pl.col("clock_error_ns").fill_null(0) + KERNEL
    near = pl.any_horizontal(pl.lit(value=False), *((t - die).abs() <= doubt for die in dies))
    ours = pl.col("container_id").is_in(ids).fill_null(value=False)
    named = kernel.filter(ours & near).get_column("event_id").to_list()
    maybe = kernel.filter((ours | pl.col("container_id").is_null()) & (near | t.is_null()).fill_null(value=True))
    return named, maybe.height > len(named)
