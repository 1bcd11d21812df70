"""Agents in Model Serving: what an agent's model is made of, how it is logged with MLflow, deployed, and run there."""
