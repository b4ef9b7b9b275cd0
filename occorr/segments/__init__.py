"""A rolling record of what an engine delivered: appended line by line, sealed into Parquet segments, read back by `read`.

A line goes to the open journal at once, a plain text file; nothing that arrived waits in memory. A journal that is full
or old is closed, and once its reader is through it becomes a Parquet segment, written beside its place and renamed. So
the journal is also the queue between those who follow the engine and those who judge: a slow reader costs disk, never a
line. After a crash the journals are still there; only the line that was being written may be torn, and is left out.
"""

from occorr.segments.journal import Source, digest, parse
from occorr.segments.reading import Stored, is_record, sentence, stored
from occorr.segments.sealing import Limits
from occorr.segments.writing import Record

__all__ = ["Limits", "Record", "Source", "Stored", "digest", "is_record", "parse", "sentence", "stored"]
