"""Model calls: routes over endpoints, with retries, fallbacks, streaming, tools and structured output."""

from lakemesh.models.answers import ChatAnswer, ChatChunk, ToolCall
from lakemesh.models.client import ModelClient

__all__ = ["ChatAnswer", "ChatChunk", "ModelClient", "ToolCall"]
