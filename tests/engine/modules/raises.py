"""A module whose code fails."""

raise ValueError("no such thing")
