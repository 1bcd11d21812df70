"""Durable invocations: executions that are in PostgreSQL before anybody is told that they were accepted, that end
exactly once whatever dies in between, and that a client can leave and come back to, on any replica."""

from lakemesh.invocations.schemas import Invocation, InvocationEvent, NewInvocation
from lakemesh.invocations.service import Invocations

__all__ = ["Invocation", "InvocationEvent", "Invocations", "NewInvocation"]
