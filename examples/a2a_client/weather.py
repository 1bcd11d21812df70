"""A function that is an agent, and a skill."""

DEGREES = {"Paris": 18, "Oslo": 9}


def forecast(city: str) -> dict[str, object]:
    """Tells tomorrow's weather.

    city: where
    """
    return {"city": city, "degrees": DEGREES.get(city, 15)}
