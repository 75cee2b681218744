"""A conversation as the terminal chat keeps it: pure, in memory alone."""

from __future__ import annotations

from edge_agent.generation.chat_messages import ChatFinished


class Conversation:
    """What was said so far, and the settings that every question carries."""

    def __init__(self, system: str | None, settings: dict[str, object]) -> None:
        self._opening = [_turn("system", system)] if system else []
        self._settings = settings
        self.last_finished: ChatFinished | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all turns; the system prompt stays."""
        self._turns: list[dict[str, str]] = []
        self.num_answers = 0
        self.num_tokens = 0

    def request(self, question: str) -> dict[str, object]:
        """The fields of a chat request with the question as the last turn."""
        messages = [*self._opening, *self._turns, _turn("user", question)]
        return {"messages": messages, **self._settings}

    def add(self, question: str, answer: str, finished: ChatFinished) -> None:
        """Keep a turn, a stopped one as far as it came."""
        self._turns += [_turn("user", question), _turn("assistant", answer)]
        self.last_finished = finished
        self.num_answers += 1
        self.num_tokens += finished.timings.output_tokens if finished.timings else 0


def _turn(role: str, content: str) -> dict[str, str]:
    """A message; bytes that a keyboard or an argument brought and that are no UTF-8 become `?`."""
    return {"role": role, "content": content.encode(errors="replace").decode()}
