"""Offline jobs."""
