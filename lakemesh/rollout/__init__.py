"""Rollouts: which version of an agent answers whom, how they compare, and when the new one is taken back; flags."""
