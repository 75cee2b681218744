"""The draft models that a board holds, each with its own drafting loop, and whose turn it is.

One is the board's own, by its settings; the others came from the verifier. A stream keeps the draft
that it began with. Pure but for the loops that it hands streams to. This module must never load or
close a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.speculation.draft_choice import OWN


@dataclass(slots=True, eq=False)
class HeldDraft:
    """One of them."""

    sha256: bytes
    drafter: SharedVocabulary
    settings: DraftSettings
    loop: DraftingLoop
    streams: set[AgentStream] = field(default_factory=set)
    is_stopped: bool = False  # no new stream gets it


class HeldDrafts:
    """Those that may be used, by checksum."""

    def __init__(self, own: HeldDraft) -> None:
        self.own = own
        self._held: dict[bytes, HeldDraft] = {OWN: own}
        self._turns: tuple[bytes, ...] = ()
        self._num_begun = 0
        self._next_number = 1

    def __iter__(self) -> Iterator[HeldDraft]:
        return iter(tuple(self._held.values()))

    @property
    def assigned(self) -> Mapping[bytes, HeldDraft]:
        """All but its own."""
        return {sha256: held for sha256, held in self._held.items() if sha256 != OWN}

    @property
    def computing_since(self) -> float | None:
        """When the loop that computes longest began, by time.monotonic(); None: all wait."""
        times = [held.loop.computing_since for held in self]
        return min([since for since in times if since is not None], default=None)

    def hold(self, sha256: bytes, drafter: SharedVocabulary, loop: DraftingLoop) -> HeldDraft:
        """Streams may have this draft from now on."""
        settings = self.own.settings.for_model(drafter.context_tokens)
        loop.draft_number = self._next_number
        self._next_number += 1
        held = HeldDraft(sha256, drafter, settings, loop)
        self._held[sha256] = held
        return held

    def let_go(self, sha256: bytes) -> None:
        """No stream may have it any more; it has none."""
        assert not self._held[sha256].streams, "a stream keeps its draft"
        del self._held[sha256]

    def take_turns(self, turns: tuple[bytes, ...]) -> None:
        """New streams take drafts in this order, over and over; none: the board's own."""
        if turns != self._turns:
            self._turns, self._num_begun = turns, 0

    def next(self) -> HeldDraft:
        """The draft whose turn it is; what is not held is passed over."""
        held = [self._held[sha256] for sha256 in self._turns if sha256 in self._held]
        turns = [one for one in held if not one.is_stopped]
        return turns[self._num_begun % len(turns)] if turns else self.own

    def begin(self, held: HeldDraft, stream: AgentStream) -> None:
        """A stream begins with this draft; before it is opened."""
        if stream.drafts:
            self._num_begun += 1
            held.streams.add(stream)
            held.loop.add(stream)

    def end(self, stream: AgentStream) -> HeldDraft | None:
        """A stream is over; the draft that it had, if it had one."""
        for held in self:
            if stream in held.streams:
                held.streams.remove(stream)
                held.loop.remove(stream)
                return held
        return None

    def learn_vocabulary(self) -> None:
        """The verifier and the board's own draft have agreed what ids mean."""
        token_bytes = self.own.drafter.token_bytes
        for held in self:
            if held.drafter.token_bytes is not token_bytes:
                held.drafter.take_vocabulary(token_bytes)

    def wake(self) -> None:
        """A stream heard from the verifier."""
        for held in self:
            if held.streams:
                held.loop.wake()
