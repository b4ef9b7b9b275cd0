"""Takes evidence from an engine into a bundle: what it still keeps, and with a duration what happens from now on."""

from occorr.collect.taking import collect
from occorr.collect.work import Wanted

__all__ = ["Wanted", "collect"]
