"""What agents remember."""

from lakemesh.memory.store import Memory, MemoryMatch

__all__ = ["Memory", "MemoryMatch"]
