"""Boards whose requests are dear to read, or take all that a device may have at once."""

from __future__ import annotations

import itertools
import json
from random import Random

from shared.protocol.grammar import Grammar
from shared.protocol.messages import MAX_TOOLS, AgentMessage, Cancel, ChatMessage, Open
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import Verifier
from tests.system.attackers.flooding import NUM_STREAMS, as_many_streams_as_may_be, flood

CONTEXT_TOKENS = 2048


async def grammars(verifier: Verifier, device: str) -> None:
    """Grammars that are hard to read, no two alike, whose masks are wide."""

    def asked(channel: int) -> Open:
        rules = " | ".join(f'"{channel:x}" s "{i:x}" s' for i in range(40))
        grammar = Grammar("lark", f"start: s\ns: {rules} | /[a-z]+/ | s s")
        return Open(channel, channel, text="x", sampling=GREEDY, grammar=grammar, max_tokens=20)

    await as_many_streams_as_may_be(verifier, device, asked)


async def forced_calls(verifier: Verifier, device: str) -> None:
    """Many tools, one of which must be called."""
    names = tuple(f"f{i}" for i in range(MAX_TOOLS // 2))
    parameters = {"type": "object", "description": "[" * 100}
    functions = [{"name": name, "parameters": parameters} for name in names]
    tools = json.dumps([{"type": "function", "function": one} for one in functions]).encode()

    def opened(channel: int) -> list[AgentMessage]:
        messages = (ChatMessage("user", "x"),)
        asked = Open(channel, channel, messages=messages, tools=tools, must_call=names)
        return [asked, Cancel(channel)]

    await flood(verifier, device, (opened(channel) for channel in itertools.count()), 1)


async def everything(verifier: Verifier, device: str) -> None:
    """Streams that stay with rows that take long to sample, and one long prompt after the other."""
    random = Random(3)

    def asked(channel: int) -> Open:
        if channel < NUM_STREAMS - 2:
            sampling = SamplingParameters(100.0 if channel == 0 else 0.8, 0, 0.99999)
            return Open(channel, channel, text="x", sampling=sampling, max_tokens=CONTEXT_TOKENS)
        prompt = pack_token_ids(random.choices(range(1, 60), k=CONTEXT_TOKENS - 2))
        return Open(channel, channel, prompt=prompt, sampling=GREEDY, max_tokens=1)

    await as_many_streams_as_may_be(verifier, device, asked)
