"""Shipped tools: the lakehouse, functions of Unity Catalog, Python functions."""
