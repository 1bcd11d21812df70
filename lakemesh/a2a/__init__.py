"""The A2A door: other agents call ours, ours call other agents."""
