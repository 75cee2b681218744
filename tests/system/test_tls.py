"""Both ends over TLS: texts come through, certificates change while streams go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from edge_agent.link.verifier_trust import VerifierTrust, client_context
from shared.daemon.tls.server_tls import read_server_tls
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import DRAFT_SETTINGS, Verifier, chat, generate, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.network.certificates import Authority

REQUEST = GenerationRequest(messages=chat("hello"), sampling=GREEDY, max_tokens=40)


def agent_of(verifier: Verifier, trust: VerifierTrust) -> Agent:
    return Agent(
        board(),
        DRAFT_SETTINGS,
        url=f"wss://localhost:{verifier.port}",
        token=verifier.tokens["board"],
        tls=client_context(trust),
    )


def test_an_answer_over_tls_is_the_one_in_plain_text(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = read_server_tls(*authority.write(), authority.file)
    assert tls is not None
    own = authority.write("board", ("kitchen",), is_client=True)

    async def answer_of(agent: Agent) -> str:
        running = asyncio.create_task(agent.run())
        try:
            await eventually(lambda: agent.target_model is not None)
            return (await generate(agent, REQUEST))[0]
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def scene() -> tuple[str, str]:
        async with running_verifier(scripted_service(), tls=tls) as verifier:
            secret = await answer_of(agent_of(verifier, VerifierTrust(authority.file, None, *own)))
        async with running_verifier(scripted_service()) as verifier:
            token = verifier.tokens["board"]
            plain = await answer_of(Agent(board(), DRAFT_SETTINGS, url=verifier.url, token=token))
        return secret, plain

    secret, plain = asyncio.run(scene())
    assert secret == plain != ""


def test_a_board_that_trusts_the_new_authority_comes_back_at_once(tmp_path: Path) -> None:
    """Its next attempt by itself would be up to 30 s away."""
    old, new = Authority(tmp_path), Authority(tmp_path, "successor")

    async def scene() -> str:
        tls = read_server_tls(*new.write())
        assert tls is not None
        async with running_verifier(scripted_service(), tls=tls) as verifier:
            agent = agent_of(verifier, VerifierTrust(old.file))
            running = asyncio.create_task(agent.run())
            try:
                await eventually(lambda: "set verifier.ca_file" in agent.status)
                token = verifier.tokens["board"]
                agent.replace_access(token, client_context(VerifierTrust(new.file)))
                await eventually(lambda: agent.target_model is not None)
                return (await generate(agent, REQUEST))[0]
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    assert asyncio.run(scene())
