"""Databricks SQL as DuckDB's: a compiler that knows the Spark type of every expression.

What it does not know, it refuses by name; what it lets through means in DuckDB what it means in Spark.
"""
