"""occorr: attributes every WebSocket close of an OpenClaw gateway to its cause, with evidence.

import occorr
result = occorr.analyze(["sample_logs/oom"])
result.closes  # a polars DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occorr.analysis import Analysis, analyze

__all__ = ["Analysis", "__version__", "analyze"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # `occorr --help` must not pay for polars
    if name in ("Analysis", "analyze"):
        from occorr import analysis  # noqa: PLC0415

        return getattr(analysis, name)
    raise AttributeError(f"module 'occorr' has no attribute {name!r}")
