"""Conversations: the messages of a session, for the agents that go on with it."""

from lakemesh.sessions.base import Conversation, KeptSession, Sessions
from lakemesh.sessions.in_memory import InMemorySessions

__all__ = ["Conversation", "InMemorySessions", "KeptSession", "Sessions"]
