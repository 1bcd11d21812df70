"""Versioned prompts from a volume."""
