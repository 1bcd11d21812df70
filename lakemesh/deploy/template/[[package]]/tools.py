"""Functions that models may use. The signature becomes the tool's schema, the docstring its description."""

from datetime import date

CLOSED = frozenset({6})
"""Sundays."""


def opening_hours(day: date) -> str:
    """When the shop is open on a day.

    day: the day in question, such as 2026-03-01
    """
    return "closed" if day.weekday() in CLOSED else "09:00 to 18:00"
