"""Speaks to a Docker engine: who is there, what their logs hold, what happened. The only package that knows the SDK.

The SDK finds the engine (DOCKER_HOST, the context of the docker CLI, TLS, SSH) and speaks HTTP; its streams are not
used, since they end silently when the engine dies, split long lines and cut stamps to seconds. Nothing that leaves this
package holds a secret that `redact` or `scrub` know: environment values, labels, command lines and log lines come out
with fingerprints.

    engine = connect(Redactor(key))
    for container in containers(engine, projects=["claw"]):
        with logs(engine, container, since_ns=..., follow=True) as lines:
            for line in lines:          # Line(time_ns, stamp, stream, text)
                ...
    with events(engine, since_ns=...) as found:
        for event in found:             # Event(time_ns, kind, action, container_id, attributes, wire)
            ...

`logs` and `events` return a `Stream`: an iterator that another thread may `close()`, after which it ends. A stream that
the engine broke off raises `EngineLostError`, so that the reader can `connect` again and go on from its last stamp.
"""

from occorr.engine.connection import Engine, EngineLostError, Stream, connect
from occorr.engine.containers import (
    Container,
    about,
    archive,
    containers,
    detailed,
    from_inspect,
    image,
    inspect,
    network,
    now_ns,
)
from occorr.engine.events import KEPT, Event, events, parse_event
from occorr.engine.logs import Line, logs
from occorr.engine.reach import EngineError
from occorr.engine.stamps import stamp_ns

__all__ = [
    "KEPT",
    "Container",
    "Engine",
    "EngineError",
    "EngineLostError",
    "Event",
    "Line",
    "Stream",
    "about",
    "archive",
    "connect",
    "containers",
    "detailed",
    "events",
    "from_inspect",
    "image",
    "inspect",
    "logs",
    "network",
    "now_ns",
    "parse_event",
    "stamp_ns",
]
