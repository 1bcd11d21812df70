"""What runs in Spark's own environment (`make spark`), which has neither lakemesh nor its dependencies."""
