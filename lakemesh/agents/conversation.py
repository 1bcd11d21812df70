"""Messages before the one that is to be answered, for agents whose caller keeps the conversation."""

from typing import Literal

from pydantic import BaseModel, Field

MAX_EARLIER = 1_000


class EarlierMessage(BaseModel):
    """What was said before, by whom."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=100_000)
