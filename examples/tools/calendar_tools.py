"""Functions that are tools."""

from datetime import date, timedelta


def add_days(day: date, days: int = 1) -> date:
    """The day that many days after another.

    days: how many, negative for days before
    """
    return day + timedelta(days)
