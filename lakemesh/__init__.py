"""lakemesh: an agent server that lives on a lakehouse.

Importing the package loads nothing heavy; each room is imported by whoever needs it.
"""

__version__ = "0.1.0"
