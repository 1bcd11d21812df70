"""Configuration as a typed contract: process settings, the YAML schema, and the loader that keeps the last
good version."""
