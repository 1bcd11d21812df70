"""The steps of the tables' schema, each run once."""
