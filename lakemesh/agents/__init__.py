"""Agents and the engine that runs them."""
