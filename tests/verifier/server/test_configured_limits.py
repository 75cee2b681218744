"""What devices may consume changes under a running verifier, and its boards stay."""

from __future__ import annotations

import asyncio

from shared.protocol.messages import ErrorCode, Open
from tests.support.ends.loopback import running_verifier
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import scripted_service
from verifier.config import LimitsSection
from verifier.startup import replace_limits


def test_a_connected_board_gets_no_more_than_the_limits_that_were_read_again() -> None:
    async def scene() -> tuple[str, str]:
        service = scripted_service(max_streams_per_device=4, delay_seconds=lambda _: 0.01)
        async with running_verifier(service) as verifier, raw_board(verifier, "board") as board:
            await board.open(0)
            limits = LimitsSection(max_streams_per_device=1, max_messages_per_second=10)
            replace_limits(service, verifier.server, limits)
            await board.send(Open(1, 1, text="a prompt", max_tokens=10))
            refused = await board.error(channel=1)
            assert ErrorCode.LIMIT == refused.code
            replace_limits(service, verifier.server, LimitsSection(max_prompt_tokens=8))
            assert 2 == (await board.open(2)).channel
            await board.send(Open(3, 3, text="a prompt!"))
            return refused.sentence, (await board.error(channel=3)).sentence

    first, second = asyncio.run(scene())
    assert "the device has 1 streams already" == first
    assert "limits.max_prompt_tokens" in second
