"""Batches on disk, between a part of the server and where its batches go.

SQLite in WAL mode with `synchronous=FULL`: once `put` returns an id, the batch survives a crash of the process and of
the machine. That id is the batch's version in Delta's application transactions, which makes delivery exactly once.

Several readers may take from one spool, each by a cursor of its own: a cursor has one position for each target, and a
batch goes when all cursors have passed it. So neither a slow reader nor a damaged target holds up another.
"""

from lakemesh.spool.folder import SpoolFolder
from lakemesh.spool.spool import DeadLetter, Spool, SpooledBatch, SpoolUnavailable, Synchronous

__all__ = ["DeadLetter", "Spool", "SpoolFolder", "SpoolUnavailable", "SpooledBatch", "Synchronous"]
