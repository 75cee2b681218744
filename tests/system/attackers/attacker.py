"""One attacker in a process of its own: `python -m tests.system.attackers.attacker NAME DEVICE`.

Reads how to reach the verifier from standard input, and comes back whenever it is let go.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import msgspec
import uvloop

from tests.system.attackers.boards import BOARDS
from tests.system.attackers.flooding import LET_GO
from tests.system.attackers.parent import end_with_parent
from tests.system.attackers.strangers import STRANGERS
from tests.system.attackers.verifier import Access

ATTACKERS = {**BOARDS, **STRANGERS}
PAUSE_SECONDS = 0.05


async def attack(name: str, device: str, access: Access) -> None:
    """For ever."""
    verifier = access.verifier()
    while True:
        with suppress(*LET_GO):
            await ATTACKERS[name](verifier, device)
        await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        access = msgspec.json.decode(sys.stdin.buffer.readline(), type=Access)
        end_with_parent()
        runner.run(attack(sys.argv[1], sys.argv[2], access))
