"""The A2A door: agents as skills of one A2A server. Imported only where `a2a.enabled` is on."""
