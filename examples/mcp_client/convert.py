"""A function that is a tool."""


def to_euro(dollars: float) -> dict[str, float]:
    """Converts US dollars to euros at the day's fixed rate.

    dollars: the sum
    """
    return {"euros": round(dollars * 0.92, 2)}
