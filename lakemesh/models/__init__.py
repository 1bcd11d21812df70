"""Model calls: routes over endpoints, with retries, fallbacks, streaming, tools and structured output."""

from lakemesh.models.answers import ChatAnswer, ChatChunk, Message, ToolCall
from lakemesh.models.client import ModelClient
from lakemesh.models.embedding import Embedded

__all__ = ["ChatAnswer", "ChatChunk", "Embedded", "Message", "ModelClient", "ToolCall"]
