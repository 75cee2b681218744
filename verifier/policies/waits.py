"""What waiting for a draft takes, in rounds: numbers that policies and the planner reckon with."""

from __future__ import annotations

# Rounds in the cycle of a stream that waits: the rest of the one that is running when its draft
# arrives (half of it on average), then its own.
WAITING_ROUNDS = 1.5

# Of a round, that it may be held for drafts which come when they should; where one is late it
# starts after half of a round and a little.
LARGEST_HELD_PART = 1 / 3
