"""When the gateway wrote anything, and under which host name."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from occorr.episodes.table import BACK_UP

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME: Final = 20_000_000  # stamps of one message in two logs of a process, ns


@dataclass(frozen=True, slots=True)
class Spoken:
    """When the gateway wrote anything, and under which host name: sorted, for looking up by bisection."""

    times: NDArray[np.int64]
    host_times: list[int]
    hosts: list[str]
    by_turns: bool  # a host name comes back after another one: two gateways on one log
    containers: list[
        NDArray[np.int64]
    ]  # when lines were written into each container's log: an engine keeps one a container

    @classmethod
    def of(cls, log: pl.DataFrame) -> Spoken:
        """What a gateway's placed lines tell of it."""
        lines = log.select(pl.col("timestamp").cast(pl.Int64).alias("t"), "host_name").sort("t")
        named = lines.filter(pl.col("host_name").is_not_null())
        # only where the name changes, and the last line before and after it
        edges = named.filter(
            (pl.col("host_name") != pl.col("host_name").shift(1)).fill_null(value=True)
            | (pl.col("host_name") != pl.col("host_name").shift(-1)).fill_null(value=True)
        )
        # what Compose joins and prefixes may be several containers of one name
        alone = pl.col("container_id").is_not_null() | ((pl.col("part") == "") & pl.col("compose_service").is_null())
        logs = (
            log.filter((pl.col("observed_clock_id") == "engine") & alone)
            .group_by("log_file_path", "container_id")
            .agg(pl.col("timestamp").cast(pl.Int64).sort())
            .sort("log_file_path", "container_id")
        )
        changed = (pl.col("host_name") != pl.col("host_name").shift(1)).fill_null(value=True)
        order = edges.filter(changed).get_column("host_name")
        return cls(
            lines.get_column("t").to_numpy(),
            edges.get_column("t").to_list(),
            edges.get_column("host_name").to_list(),
            order.len() > order.n_unique(),
            [times.to_numpy() for times in logs.get_column("timestamp")],
        )

    def first(self, begin: int) -> int:
        """When a process that says at `begin` that it starts wrote its first line: a new container writes under a new host name."""
        host = self.host(begin, after=True)
        if host is None or host == self.hosts[0]:
            return begin
        first = self.host_times[self.hosts.index(host)]
        return first if 0 < begin - first <= BACK_UP else begin

    def followed(self, earlier: str, later: str) -> bool:
        """Whether one host name took another one's place; two that write by turns are two gateways on one log."""
        last = len(self.hosts) - 1 - self.hosts[::-1].index(earlier)
        return earlier != later and self.host_times[last] < self.host_times[self.hosts.index(later)]

    def stayed(self, earlier: int, later: int) -> bool:
        """Whether one container wrote at both moments: a container that takes another's place has a log of its own."""

        def wrote(times: NDArray[np.int64], moment: int) -> bool:
            return bool((np.abs(times - moment) <= SAME).any())

        return not self.by_turns and any(wrote(own, earlier) and wrote(own, later) for own in self.containers)

    def last(self, before: int | None, limit: int | None) -> int | None:
        """The last line from `before` on and up to `limit`."""
        at = int(np.searchsorted(self.times, limit, side="right")) - 1 if limit is not None else len(self.times) - 1
        return int(self.times[at]) if at >= 0 and (before is None or self.times[at] >= before) else None

    def host(self, moment: int, *, after: bool) -> str | None:
        """The host name of the nearest named line at or after (or at or before) a moment."""
        at = bisect_left(self.host_times, moment) if after else bisect_right(self.host_times, moment) - 1
        return self.hosts[at] if 0 <= at < len(self.hosts) else None
