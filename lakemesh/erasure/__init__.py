"""The complete erasure of a user: from the database, the tables, the indexes and this machine's files, with a
certificate of what was searched and found before and after."""

from lakemesh.erasure.certificate import Certificate
from lakemesh.erasure.erasure import Erasure

__all__ = ["Certificate", "Erasure"]
