"""The REST door and what serves it."""
