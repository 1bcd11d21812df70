"""What every request passes before a door: its source, its caller, its size, and whose trace it may continue."""

from lakemesh.edge.caller import identity_of, is_operator, reauthenticated, trace_in, trace_of
from lakemesh.edge.edge import Edge

__all__ = ["Edge", "identity_of", "is_operator", "reauthenticated", "trace_in", "trace_of"]
