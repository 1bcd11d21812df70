"""LangGraph on lakemesh's sessions: a checkpointer and a store that belong to one user and one agent, in PostgreSQL.

Imported by agents that use LangGraph, which is theirs to install (`langgraph`, or `langgraph-checkpoint` alone)."""

from lakemesh.sessions.langgraph.checkpointer import Checkpointer
from lakemesh.sessions.langgraph.store import GraphStore

__all__ = ["Checkpointer", "GraphStore"]
