"""A tool of the server."""


def order_status(order: str) -> str:
    """Where an order is."""
    return f"{order} is on its way"
