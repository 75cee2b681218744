"""How the demo looks while it runs: a live picture on a terminal, plain lines in a pipe.

It must never let a model's output steer the terminal: control characters are dropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text as RichText

from edge_agent.generation.chat_messages import Text
from edge_agent.generation.figures import summarise
from edge_agent.generation.generation import Timings
from tests.demo.chats import MAX_TOKENS, Prompt
from tests.demo.figures import Scrape, speed
from tests.demo.fleet import Board

REFRESHES_PER_SECOND = 8.0
SPEED_SCRAPES = 5  # live speeds are over the last so many
MAX_TAIL_PIECES = 200  # of an answer that is being written; a line of a terminal holds fewer
BAR_CELLS = 12
TAIL_INDENT = 2


@dataclass(slots=True)
class _BoardView:
    """What is on show of one board."""

    name: str
    draft: str
    num_prompts: int
    domain: str = ""
    num_answers: int = 0
    tail: deque[Text] = field(default_factory=lambda: deque(maxlen=MAX_TAIL_PIECES))
    tokens_at_question: float | None = None


class Screen:
    """One pass on show; use it as a context."""

    def __init__(
        self, console: Console, title: str, boards: Sequence[Board], num_prompts: int
    ) -> None:
        self._console = console
        self._title = title
        self._views = {b.name: _BoardView(b.name, b.draft, num_prompts) for b in boards}
        self._scrapes: deque[Scrape] = deque(maxlen=SPEED_SCRAPES)
        self._started_at = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._picture,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()
        else:
            self._console.print(self._title)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            if error is None:
                seconds = time.monotonic() - self._started_at
                self._console.print(f"[green]✓[/green] {self._title} ({seconds:.0f} s)")

    # --- what happens --------------------------------------------------------------------------

    def asks(self, board: str, prompt: Prompt) -> None:
        view = self._views[board]
        view.domain = prompt.domain
        view.tail.clear()
        view.tokens_at_question = None

    def hears(self, board: str, piece: Text) -> None:
        self._views[board].tail.append(piece)

    def has_answer(self, board: str, prompt: Prompt, timings: Timings) -> None:
        view = self._views[board]
        view.num_answers += 1
        if self._live is None:
            self._console.print(
                f"  {board} {view.draft} {prompt.domain} ({prompt.id}): "
                f"{timings.output_tokens} tokens, {summarise(timings)}",
                soft_wrap=True,
            )

    def sees(self, scrape: Scrape) -> None:
        self._scrapes.append(scrape)
        for view in self._views.values():
            if view.tokens_at_question is None:
                view.tokens_at_question = scrape.output_tokens.get(view.name, 0.0)

    # --- the picture ---------------------------------------------------------------------------

    def _picture(self) -> Group:
        seconds = time.monotonic() - self._started_at
        head = Table.grid(expand=True)
        head.add_column()
        head.add_column(justify="right", style="dim")
        head.add_row(Spinner("dots", RichText(self._title)), f"{seconds:.0f} s")
        lines = [line for view in self._views.values() for line in self._board_lines(view)]
        return Group(head, *lines)

    def _board_lines(self, view: _BoardView) -> tuple[Table, RichText]:
        grid = Table.grid(padding=(0, 1))
        for width in (7, 4, 10, BAR_CELLS, 3):
            grid.add_column(width=width, no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(
            RichText(view.name, "bold"),
            view.draft,
            view.domain,
            ProgressBar(total=view.num_prompts, completed=self._progress(view), width=BAR_CELLS),
            f"{view.num_answers}/{view.num_prompts}",
            "done" if view.num_answers == view.num_prompts else self._figures(view.name),
        )
        return grid, self._tail(view)

    def _progress(self, view: _BoardView) -> float:
        tokens = self._scrapes[-1].output_tokens.get(view.name, 0.0) if self._scrapes else 0.0
        begun = tokens - view.tokens_at_question if view.tokens_at_question is not None else 0.0
        return min(view.num_answers + min(begun / MAX_TOKENS, 1.0), view.num_prompts)

    def _figures(self, board: str) -> str:
        if not self._scrapes:
            return ""
        latest = self._scrapes[-1]
        figures = [f"{speed(self._scrapes[0], latest, board):5.1f} tok/s"]
        draft_length = latest.draft_lengths.get(board, 0.0)
        if draft_length:
            figures.append(f"drafts {draft_length:.0f}")
            figures.append(f"α {latest.acceptance_estimates.get(board, 0.0):.2f}")
        return "  ".join(figures)

    def _tail(self, view: _BoardView) -> RichText:
        """The last words of the answer in one line; underlined what was not drafted."""
        room = self._console.width - TAIL_INDENT - 1
        newest_first: list[tuple[str, str]] = []
        for piece in reversed(view.tail):
            style = "dim underline" if piece.origin == "target" else "dim"
            for character in reversed(piece.text):
                shown = character if character.isprintable() else " "
                room -= cell_len(shown)
                if room >= 0:
                    newest_first.append((shown, style))
            if room <= 0:
                break
        line = RichText(" " * TAIL_INDENT, no_wrap=True, overflow="crop")
        for shown, style in reversed(newest_first):
            line.append(shown, style)
        return line
