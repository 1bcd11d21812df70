"""The composition root: the only rooms where concrete parts are put together."""
