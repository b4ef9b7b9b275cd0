"""Follows an engine: its events and its containers' logs, over restarts of both, each line and each event once.

`EventReader` and `LogReader` go on from the last stamp whenever the engine breaks off or a container starts again, and
drop what comes twice; `collect` and the `Follower` of `watch` both read through them.
"""

from occorr.follow.events import EventReader
from occorr.follow.follower import EVENTS, MANIFEST, NOTES, Follower, Scope
from occorr.follow.logs import LogReader
from occorr.follow.threads import Threads

__all__ = ["EVENTS", "MANIFEST", "NOTES", "EventReader", "Follower", "LogReader", "Scope", "Threads"]
