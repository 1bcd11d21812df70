"""What every section of the configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Strict on purpose: an unknown key or a value of the wrong type is a fault, not something to guess about."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
