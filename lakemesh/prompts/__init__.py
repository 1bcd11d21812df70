"""Versioned prompts from a volume."""

from lakemesh.prompts.store import PromptStore, RenderedPrompt

__all__ = ["PromptStore", "RenderedPrompt"]
