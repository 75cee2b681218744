"""The terminal chat with injected streams, against a real agent API on loopback."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from edge_agent.chat import client
from edge_agent.chat.client import ChatClient
from edge_agent.chat.conversation import Conversation
from edge_agent.chat.display import ChatDisplay
from edge_agent.chat.session import answer_once, converse
from edge_agent.commands.chat import chat
from edge_agent.generation.chat_messages import MAX_CLIENT_MESSAGE_BYTES, ChatFinished, Text
from edge_agent.generation.generation import TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator, Step
from edge_agent.link import backoff
from shared.errors import LinkError, LinkLost, ModelError, RequestRefused, VerifierAway
from shared.protocol.messages import ChatMessage
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_proxy import ChaosProxy, local

HEADLINE = "scripted-target at {} · /help shows commands, Ctrl-D leaves\n"
FIGURES = "40.0 tok/s · 3.0 tok/round · accepted 50 % · 12.0 B/token · first token 0.20 s\n\n"
Typed = str | type[BaseException]


def typing(lines: Sequence[Typed]) -> Callable[[], Awaitable[str]]:
    """A keyboard: lines, and exceptions for Ctrl-C; Ctrl-D at the end."""
    remaining = iter(lines)

    async def read_line() -> str:
        line = next(remaining, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read_line


@contextmanager
def never_interrupted() -> Iterator[asyncio.Event]:
    yield asyncio.Event()


def shown_after(
    lines: Sequence[Typed],
    generator: ScriptedGenerator | None = None,
    *,
    interruptible: Callable[[], AbstractContextManager[asyncio.Event]] = never_interrupted,
    system: str | None = None,
    is_styled: bool = False,
) -> str:
    """What a terminal shows below the headline."""

    async def scenario() -> str:
        screen = io.StringIO()
        async with (
            serving(generator or ScriptedGenerator(HELLO)) as url,
            aiohttp.ClientSession() as http,
        ):
            client = ChatClient(http, url)
            display = ChatDisplay(screen, is_styled=is_styled, width=lambda: 200)
            conversation = Conversation(system, {"seed": 7})
            await converse(client, conversation, display, typing(lines), interruptible)
            headline = HEADLINE.format(client.address)
        shown = screen.getvalue()
        return shown if is_styled else shown.removeprefix(headline)

    return asyncio.run(scenario())


def test_a_question_is_answered_with_figures_below() -> None:
    assert "Hello wide world\n" + FIGURES == shown_after(["hi"])


def test_the_targets_own_text_is_underlined_on_a_terminal() -> None:
    shown = shown_after(["hi"], is_styled=True)
    assert "\x1b[4mHello\x1b[24m wide \x1b[4mworld\x1b[24m\n\x1b[2m40.0 tok/s" in shown


def test_control_characters_of_a_model_do_not_reach_the_terminal() -> None:
    script = [TextPiece("a\x1b]0;title\x07b\x9bc\r\td\n", "accepted")]
    assert "a]0;titlebc\td\n" in shown_after(["hi"], ScriptedGenerator(script))


def test_a_conversation_carries_its_turns_and_the_system_prompt() -> None:
    generator = ScriptedGenerator(HELLO)
    shown_after(["one", "two"], generator, system="be brief")
    expected = (
        ChatMessage("system", "be brief"),
        ChatMessage("user", "one"),
        ChatMessage("assistant", "Hello wide world"),
        ChatMessage("user", "two"),
    )
    assert expected == generator.requests[1].messages
    assert 7 == generator.requests[1].seed


def test_reset_forgets_the_turns_but_not_the_system_prompt() -> None:
    generator = ScriptedGenerator(HELLO)
    shown_after(["one", "/reset", "two"], generator, system="be brief")
    expected = (ChatMessage("system", "be brief"), ChatMessage("user", "two"))
    assert expected == generator.requests[1].messages


def test_stats_show_the_last_answer() -> None:
    assert "no answer yet\n" == shown_after(["/stats"])
    shown = shown_after(["hi", "/stats"])
    assert "last answer    3 tokens in 0.25 s (40.0 tok/s after the first)\n" in shown
    assert "mode           rejection, seed 7\n" in shown
    assert "conversation   3 tokens, answers: 1\n" in shown


def test_the_last_question_is_asked_once_more_in_place_of_its_answer() -> None:
    generator = ScriptedGenerator(HELLO)
    shown_after(["one", "two", "/retry", "/set seed 9", "/retry"], generator)
    asked = [[turn.content for turn in request.messages] for request in generator.requests]
    assert ["one", "Hello wide world", "two"] == asked[1] == asked[2] == asked[3]
    assert [7, 7, 7, 9] == [request.seed for request in generator.requests]
    assert "there is no question to ask again\n\n" == shown_after(["/retry"])


def test_a_question_that_failed_can_be_asked_again() -> None:
    generator = ScriptedGenerator([VerifierAway("away")])
    shown = shown_after(["one", "/retry"], generator)
    assert "away\n\naway\n\n" == shown
    assert ["one", "one"] == [request.messages[-1].content for request in generator.requests]


def test_the_system_prompt_holds_from_the_next_question_on() -> None:
    generator = ScriptedGenerator(HELLO)
    shown = shown_after(["/system", "/system Be brief.", "/system", "one"], generator)
    assert shown.startswith("there is no system prompt\nthe next question has it\nBe brief.\n")
    assert ChatMessage("system", "Be brief.") == generator.requests[0].messages[0]


def test_files_go_with_the_next_question_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a")
    (tmp_path / "b.txt").write_text("from b")
    generator = ScriptedGenerator(HELLO)
    lines = [f"/file {tmp_path}/a.txt", f"compare with @{tmp_path}/b.txt, please", "@nobody?"]
    shown = shown_after(lines, generator)
    first, second = (request.messages[-1].content for request in generator.requests)
    assert first.index("compare") < first.index("from a") < first.index("from b")
    assert "@nobody?" == second
    assert "@nobody? names no file here, and goes as text\n" in shown


def test_a_conversation_goes_on_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    generator = ScriptedGenerator(HELLO)
    shown_after(["/system Be.", "one", f"/save {path}"], generator)
    shown = shown_after([f"/load {path}", "two"], generator)
    assert shown.startswith("questions and answers: 1, the last: one\n")
    contents = [turn.content for turn in generator.requests[-1].messages]
    assert ["Be.", "one", "Hello wide world", "two"] == contents


def test_help_shows_the_commands_and_unknown_ones_say_so() -> None:
    shown = shown_after(["/help", "/quit"])
    assert "/reset          forget the conversation\n" in shown
    assert "unknown command /quit, /help shows all\n" in shown


def test_empty_lines_ask_nothing_and_ctrl_c_at_the_prompt_does_not_leave() -> None:
    generator = ScriptedGenerator(HELLO)
    shown = shown_after(["", "  ", KeyboardInterrupt, "hi"], generator)
    told = "Ctrl-D leaves, the arrow up brings back what was typed\n"
    assert told + "Hello wide world\n" + FIGURES == shown
    assert 1 == len(generator.requests)


def test_ctrl_c_stops_the_answer_and_keeps_the_session() -> None:
    @contextmanager
    def interrupted() -> Iterator[asyncio.Event]:
        stop = asyncio.Event()
        stop.set()
        yield stop

    generator = ScriptedGenerator([TextPiece("Hel", "target"), asyncio.Event()])
    shown = shown_after(["hi", "/stats"], generator, interruptible=interrupted)
    assert "stopped\n" in shown
    assert "last answer    stopped, no figures\n" in shown
    assert 0 == generator.num_running


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([VerifierAway("the verifier is away")], "the verifier is away"),
        ([TextPiece("Hel", "target"), VerifierAway("it left")], "Hel\nit left"),
        ([RequestRefused("too long", "messages")], "too long"),
    ],
)
def test_a_failed_answer_is_one_sentence_and_is_forgotten(
    script: Sequence[Step], sentence: str
) -> None:
    generator = ScriptedGenerator(script)
    shown = shown_after(["one", "two"], generator)
    assert f"{sentence}\n\n" * 2 == shown
    assert (ChatMessage("user", "two"),) == generator.requests[1].messages


def test_a_conversation_too_long_for_the_socket_is_refused() -> None:
    sentence = f"the conversation exceeds {MAX_CLIENT_MESSAGE_BYTES} bytes\n\n"
    assert sentence == shown_after(["x" * MAX_CLIENT_MESSAGE_BYTES])


def test_a_pipe_gets_the_text_alone() -> None:
    async def scenario() -> str:
        out = io.StringIO()
        async with (
            serving(ScriptedGenerator(HELLO)) as url,
            aiohttp.ClientSession() as http,
        ):
            await answer_once(ChatClient(http, url), Conversation(None, {}), "hi", out)
        return out.getvalue()

    assert "Hello wide world\n" == asyncio.run(scenario())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_prompt_from_a_pipe_drives_no_terminal_by_its_answer() -> None:
    said = TextPiece("a\x1b]52;c;cm0gLXJm\x07\u202eb\n", "target")

    async def answer_to(out: io.StringIO) -> str:
        async with (
            serving(ScriptedGenerator([said])) as url,
            aiohttp.ClientSession() as http,
        ):
            await answer_once(ChatClient(http, url), Conversation(None, {}), "hi", out)
        return out.getvalue()

    assert "a]52;c;cm0gLXJmb\n" == asyncio.run(answer_to(Terminal()))
    assert said.text == asyncio.run(answer_to(io.StringIO()))


def test_neither_a_models_name_nor_an_error_drives_the_terminal() -> None:
    named = ScriptedGenerator(HELLO, target_model="m\x1b[2J\x9b")
    assert "m[2J at 127" in shown_after(["hi"], named)
    failing = ScriptedGenerator([ModelError("no\x1b[2J way")])
    assert "no[2J way" in shown_after(["hi"], failing)


@contextmanager
def serving_in_a_thread(generator: ScriptedGenerator, **options: object) -> Iterator[str]:
    """The API beside a command that runs an event loop of its own."""
    urls: list[str] = []
    is_up, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(generator, **options) as url:
            urls.append(url)
            is_up.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    is_up.wait(5)
    try:
        yield urls[0]
    finally:
        stop.set()
        thread.join(5)


def run_command(arguments: Sequence[str], prompt: str | bytes = "hi") -> Result:
    return CliRunner().invoke(chat, list(arguments), input=prompt)


def test_the_command_answers_standard_input() -> None:
    generator = ScriptedGenerator(HELLO)
    arguments = ["--temperature=0", "--seed=3", "--max-tokens=2", "--mode=coupled"]
    with serving_in_a_thread(generator) as url:
        result = run_command(
            ["--url", url, "--system", "be brief", *arguments, "--draft-length=0"], "two\nlines\n"
        )
    assert ("Hello wide\n", 0) == (result.output, result.exit_code)
    (request,) = generator.requests
    assert (0, 3, 2, "coupled", 0) == (
        request.sampling.temperature,
        request.seed,
        request.max_tokens,
        request.acceptance_mode,
        request.draft_length,
    )
    expected = (ChatMessage("system", "be brief"), ChatMessage("user", "two\nlines\n"))
    assert expected == request.messages


def test_bytes_that_are_no_text_are_no_reason_to_fail() -> None:
    generator = ScriptedGenerator(HELLO)
    with serving_in_a_thread(generator) as url:
        assert 0 == run_command(["--url", url], b"caf\xe9").exit_code
    assert "caf\ufffd" == generator.requests[0].messages[0].content


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_in_a_thread(ScriptedGenerator(HELLO), api_token="secret") as url:
        refused = run_command(["--url", url])
        monkeypatch.setenv("GOODSPEED_API_TOKEN", "secret")
        answered = run_command(["--url", url])
    assert (2, 0) == (refused.exit_code, answered.exit_code)
    assert "wants another API token" in refused.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--url", "http://127.0.0.1:1"],
            "no agent answers at http://127.0.0.1:1: connection refused",
        ),
        (["--api-token", "two\nlines"], "must be one word of ASCII characters"),
        (["--url", "127.0.0.1:8090"], "is not of the form http://host:port"),
        (["--url", "http://[::1"], "is not of the form http://host:port"),
    ],
)
def test_an_agent_that_is_away_is_one_sentence(arguments: list[str], sentence: str) -> None:
    result = run_command(arguments)
    assert 2 == result.exit_code
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_failed_answer_is_one_sentence_in_a_pipe() -> None:
    with serving_in_a_thread(ScriptedGenerator([VerifierAway("the verifier is away")])) as url:
        result = run_command(["--url", url])
    assert ("Error: the verifier is away\n", 2) == (result.output, result.exit_code)


def test_no_prompt_at_all_is_said() -> None:
    result = run_command([], " \n")
    assert ("Error: there is no prompt on standard input\n", 2) == (result.output, result.exit_code)


def test_another_server_is_recognised_as_none_of_ours() -> None:
    async def scenario() -> None:
        async def hello(_request: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/v1/models", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as http:
            client = ChatClient(http, f"http://127.0.0.1:{runner.addresses[0][1]}")
            with pytest.raises(Exception, match="is no agent"):
                await client.fetch_model()
            with pytest.raises(Exception, match="is no agent"):
                await anext(client.answer({}, asyncio.Event()))
        await runner.cleanup()

    asyncio.run(scenario())


def test_help_teaches_with_examples() -> None:
    result = run_command(["--help"])
    assert 'echo "Write a haiku about rain" | goodspeed-agent chat' in result.output


# --- an agent that breaks off ---------------------------------------------------------------------

SENTENCE = (
    TextPiece("Once upon", "target"),
    TextPiece(" a tïme", "accepted"),
    TextPiece(" there", "target"),
)
WHOLE = "".join(piece.text for piece in SENTENCE)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "MAX_DELAY_SECONDS", 0.02)


class Interrupted:
    """An answer through a proxy that a test can reset."""

    def __init__(self, client: ChatClient, proxy: ChaosProxy, generator: ScriptedGenerator) -> None:
        self.client = client
        self.proxy = proxy
        self.generator = generator
        self.stop = asyncio.Event()
        self.text = ""

    async def read(self) -> ChatFinished:
        async with aclosing(self.client.answer({"messages": HI}, self.stop)) as said:
            async for message in said:
                if isinstance(message, ChatFinished):
                    return message
                self.text += message.text
        raise AssertionError("the answer has no end")

    async def said(self, text: str) -> None:
        await eventually(lambda: self.text == text)


HI = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def interrupted(script: Sequence[Step]) -> AsyncIterator[Interrupted]:
    generator = ScriptedGenerator(script)
    async with serving(generator) as url:
        port = int(url.rpartition(":")[2])
        async with ChaosProxy(local(port)) as proxy, aiohttp.ClientSession() as http:
            client = ChatClient(http, f"http://{proxy.address}")
            yield Interrupted(client, proxy, generator)


@pytest.mark.usefixtures("short_pauses")
def test_an_answer_goes_on_in_place_when_the_socket_breaks() -> None:
    async def scenario() -> None:
        gates = [asyncio.Event() for _ in SENTENCE]
        script = [step for pair in zip(SENTENCE, gates, strict=True) for step in pair]
        async with interrupted(script) as chat_:
            reading = asyncio.create_task(chat_.read())
            known = ""
            for piece, gate in zip(SENTENCE, gates, strict=True):
                known += piece.text
                await chat_.said(known)
                chat_.proxy.reset()
                gate.set()
            assert "end" == (await reading).reason
            assert WHOLE == chat_.text
            assert 1 == len(chat_.generator.requests)

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_pauses")
def test_an_answer_goes_on_when_the_agent_was_killed_and_started_again() -> None:
    async def scenario() -> None:
        async with interrupted([SENTENCE[0], asyncio.Event()]) as chat_:
            reading = asyncio.create_task(chat_.read())
            await chat_.said(SENTENCE[0].text)
            restarted = ScriptedGenerator(SENTENCE)
            async with serving(restarted) as url:
                chat_.proxy.target = local(int(url.rpartition(":")[2]))
                chat_.proxy.reset()
                finished = await reading
            assert (WHOLE, "end", None) == (chat_.text, finished.reason, finished.timings)
            (request,) = chat_.generator.requests
            assert [request.stream_id] == restarted.resumed

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_pauses")
def test_an_agent_that_does_not_come_back_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESUME_SECONDS", 0.1)

    async def scenario() -> None:
        async with interrupted([SENTENCE[0], asyncio.Event()]) as chat_:
            reading = asyncio.create_task(chat_.read())
            await chat_.said(SENTENCE[0].text)
            chat_.proxy.target = local(1)  # nobody listens there
            chat_.proxy.reset()
            with pytest.raises(LinkLost, match="no agent answers at"):
                await reading

    asyncio.run(scenario())


def test_ctrl_c_stops_an_answer_that_is_cut_off() -> None:
    async def scenario() -> None:
        async with interrupted([SENTENCE[0], asyncio.Event()]) as chat_:
            reading = asyncio.create_task(chat_.read())
            await chat_.said(SENTENCE[0].text)
            chat_.proxy.target = local(1)
            chat_.proxy.reset()
            chat_.stop.set()
            assert "cancelled" == (await reading).reason

    asyncio.run(scenario())


def test_an_agent_that_stops_is_not_waited_for() -> None:
    async def scenario() -> None:
        generator = ScriptedGenerator([SENTENCE[0], asyncio.Event()])
        async with aiohttp.ClientSession() as http:
            async with serving(generator) as url:
                answer = ChatClient(http, url).answer({"messages": HI}, asyncio.Event())
                assert Text(SENTENCE[0].text, SENTENCE[0].origin) == await anext(answer)
            with pytest.raises(LinkError, match="left in mid-answer"):
                await anext(answer)

    asyncio.run(scenario())
