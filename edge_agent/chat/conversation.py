"""A conversation as the terminal chat keeps it: pure, in memory alone."""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.generation.chat_messages import ChatFinished


class Exchange(NamedTuple):
    """A question and what was answered, a stopped answer as far as it came."""

    question: str
    answer: str


class Conversation:
    """What was said so far, and the settings that every question carries."""

    def __init__(self, system: str | None, settings: dict[str, object]) -> None:
        self.system = system or ""
        self.settings = settings
        self.last_finished: ChatFinished | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all turns; the system prompt stays."""
        self.replace(())

    def replace(self, exchanges: tuple[Exchange, ...]) -> None:
        """Go on with other turns than those until now."""
        self.exchanges = list(exchanges)
        self.unanswered: str | None = None  # a question whose answer failed
        self._set_aside: Exchange | None = None
        self.is_saved = True  # whether a file has all of it
        self.num_answers = 0
        self.num_tokens = 0

    def request(self, question: str) -> dict[str, object]:
        """The fields of a chat request with the question as the last turn."""
        messages = [_turn("system", self.system)] if self.system else []
        for exchange in self.exchanges:
            messages.append(_turn("user", exchange.question))
            messages.append(_turn("assistant", exchange.answer))
        return {"messages": [*messages, _turn("user", question)], **self.settings}

    def begin(self, question: str) -> None:
        """The question is asked; it stays for another try until there is an answer."""
        self.unanswered = question

    def begin_again(self) -> str | None:
        """The last question, once more; its answer is set aside until there is another one."""
        if self.unanswered is None and self.exchanges:
            self._set_aside = self.exchanges.pop()
            return self._set_aside.question
        return self.unanswered

    def add(self, question: str, answer: str, finished: ChatFinished) -> None:
        """Keep a turn; where nothing was said before the stop, what was set aside."""
        if not answer and finished.reason == "cancelled" and self._set_aside is not None:
            self.fail()
            return
        self.exchanges.append(Exchange(question, answer))
        self.unanswered = self._set_aside = None
        self.is_saved = False
        self.last_finished = finished
        self.num_answers += 1
        self.num_tokens += finished.timings.output_tokens if finished.timings else 0

    def fail(self) -> None:
        """There was no answer: what was set aside holds again."""
        if self._set_aside is not None:
            self.exchanges.append(self._set_aside)
            self.unanswered = self._set_aside = None


def _turn(role: str, content: str) -> dict[str, str]:
    """A message; bytes that a keyboard or an argument brought and that are no UTF-8 become `?`."""
    return {"role": role, "content": content.encode(errors="replace").decode()}
