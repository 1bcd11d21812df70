"""How often each fault is tried: twice by default, as often as `LAKEMESH_CHAOS_ROUNDS` says (30 before a release)."""

import os

ROUNDS = int(os.environ.get("LAKEMESH_CHAOS_ROUNDS", "2"))
