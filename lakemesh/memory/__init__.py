"""What agents remember: acknowledged in a journal, kept in Delta, found by meaning in an index derived from it."""

from lakemesh.memory.pages import MemoryPage
from lakemesh.memory.records import MemoryMatch
from lakemesh.memory.store import Memory

__all__ = ["Memory", "MemoryMatch", "MemoryPage"]
