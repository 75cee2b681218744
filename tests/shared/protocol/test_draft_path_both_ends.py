"""Two ends that hear of each other late always end up with the same path.

Both ends are modelled in the simplest way: a hidden text stands for the target's own choices, two
first-in-first-out queues for the link.  Whatever is delayed, repeated, cut or overtaken: the
committed text is the target's, an honest agent never breaks the protocol, and as soon as nothing is
on its way both ends hold the same path.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.protocol.draft_path import DraftPath, DraftToken, Extension
from shared.speculation.sparse_row import SparseRow

NUM_TOKEN_IDS = 3
TEXT_LENGTH = 400
MAX_WINDOW = 8
ROW = SparseRow(np.array([0], dtype=np.uint32), np.array([1], dtype=np.uint16))

windows = st.integers(0, MAX_WINDOW)
# How far a draft token is from the target's: mostly not at all.
mistakes = st.sampled_from([0, 0, 0, 1, 2])


class Verdict(NamedTuple):
    position: int
    num_accepted: int
    token_ids: tuple[int, ...]
    window: int


class Agent:
    """Drafts, sends, and believes verdicts."""

    def __init__(self, restarts: bool) -> None:
        self.restarts = restarts
        self.path = DraftPath()  # of what was sent
        self.committed: list[int] = []
        self.unsent: list[DraftToken] = []
        self.window = 0
        self.limit = 0
        self.has_passed = False

    @property
    def sent_end(self) -> int:
        """Position of the first unsent token."""
        return max(self.path.end, self.path.position)

    @property
    def next_position(self) -> int:
        return self.sent_end + len(self.unsent)

    def send(self, num_tokens: int) -> Extension:
        sent, self.unsent = self.unsent[:num_tokens], self.unsent[num_tokens:]
        draft = Extension(self.path.base, self.sent_end, tuple(sent))
        # A window may have shrunk since these were drafted: only the verifier knows all grants.
        self.path = self.path.extend(draft, self.committed, self.sent_end + len(sent))
        return draft

    def receive(self, verdict: Verdict) -> None:
        if verdict.position < len(self.committed):
            return  # repeated
        assert len(self.committed) == verdict.position
        accepted = [token.token_id for token in self.path.live[: verdict.num_accepted]]
        assert verdict.num_accepted == len(accepted)
        before, first_unsent = self.path, self.sent_end
        self.committed += [*accepted, *verdict.token_ids]
        self.path = before.commit([*accepted, *verdict.token_ids])
        overtaken = self.committed[first_unsent:]
        unsent_ids = [token.token_id for token in self.unsent]
        if self.path.base > before.base or unsent_ids[: len(overtaken)] != overtaken:
            self.unsent = []
        self.unsent = self.unsent[len(overtaken) :]
        if self.restarts and self.window > 0 and verdict.window == 0:
            self.path, self.unsent = self.path.restart(), []
        self.window = verdict.window
        self.limit = len(self.committed) + verdict.window
        self.has_passed = False


class Verifier:
    """Knows the target's text and commits it piece by piece."""

    def __init__(self, text: list[int], restarts: bool) -> None:
        self.text = text
        self.restarts = restarts
        self.path = DraftPath()
        self.committed: list[int] = []
        self.window = 0
        self.limit = 0

    @property
    def position(self) -> int:
        return len(self.committed)

    def receive(self, draft: Extension) -> None:
        self.path = self.path.extend(draft, self.committed, self.limit)

    def verify(self, tested: tuple[DraftToken, ...], draws_bonus: bool, window: int) -> Verdict:
        """Commit what the target makes of these live tokens."""
        position, own = self.position, self.text[self.position :]
        accepted = 0
        while accepted < len(tested) and tested[accepted].token_id == own[accepted]:
            accepted += 1
        num_own = 1 if draws_bonus or accepted < len(tested) else 0
        return self.commit(
            Verdict(position, accepted, tuple(own[accepted : accepted + num_own]), window)
        )

    def commit(self, verdict: Verdict) -> Verdict:
        tokens = self.text[self.position : self.position + verdict.num_accepted]
        self.committed += [*tokens, *verdict.token_ids]
        self.path = self.path.commit([*tokens, *verdict.token_ids])
        if self.restarts and self.window > 0 and verdict.window == 0:
            self.path = self.path.restart()
        self.window = verdict.window
        self.limit = max(self.limit, self.position + verdict.window)
        return verdict


class BothEnds(RuleBasedStateMachine):
    """An agent, a verifier, and two queues that deliver whenever they like."""

    restarts = False

    def __init__(self) -> None:
        super().__init__()
        self.drafts: deque[Extension] = deque()
        self.verdicts: deque[Verdict] = deque()
        self.last_draft: Extension | None = None
        self.last_verdict: Verdict | None = None

    @initialize(seed=st.integers(0, 1 << 16))
    def start(self, seed: int) -> None:
        generator = random.Random(seed)
        text = [generator.randrange(NUM_TOKEN_IDS) for _ in range(TEXT_LENGTH)]
        self.agent, self.verifier = Agent(self.restarts), Verifier(text, self.restarts)

    def drafted(self, position: int, mistake: int) -> int:
        """The target's token there, or another one."""
        return (self.verifier.text[position] + mistake) % NUM_TOKEN_IDS

    def send(self, draft: Extension) -> None:
        self.last_draft = draft
        self.drafts.append(draft)

    def answer(self, verdict: Verdict) -> None:
        self.last_verdict = verdict
        self.verdicts.append(verdict)

    @precondition(lambda self: self.drafts)
    @rule()
    def a_draft_arrives(self) -> None:
        self.verifier.receive(self.drafts.popleft())

    @precondition(lambda self: self.verdicts)
    @rule()
    def a_verdict_arrives(self) -> None:
        self.agent.receive(self.verdicts.popleft())

    @precondition(lambda self: self.last_draft)
    @rule()
    def the_last_draft_is_repeated(self) -> None:
        assert self.last_draft is not None
        self.drafts.append(self.last_draft)

    @precondition(lambda self: self.last_verdict)
    @rule()
    def the_last_verdict_is_repeated(self) -> None:
        assert self.last_verdict is not None
        self.verdicts.append(self.last_verdict)

    @rule()
    def everything_arrives_and_both_ends_agree(self) -> None:
        while self.drafts:
            self.a_draft_arrives()
        while self.verdicts:
            self.a_verdict_arrives()
        ours, theirs = self.agent.path, self.verifier.path
        assert self.verifier.committed == self.agent.committed
        assert (theirs.base, theirs.position, theirs.live) == (ours.base, ours.position, ours.live)
        assert theirs.end == ours.end

    @invariant()
    def committed_text_is_the_targets(self) -> None:
        for end in (self.agent, self.verifier):
            assert self.verifier.text[: len(end.committed)] == end.committed
            assert len(end.committed) == end.path.position

    @invariant()
    def live_tokens_reach_to_the_end_of_the_path(self) -> None:
        for path in (self.agent.path, self.verifier.path):
            assert path.base <= path.end
            assert not path.live or path.end == path.position + len(path.live)

    def teardown(self) -> None:
        if hasattr(self, "agent"):
            self.everything_arrives_and_both_ends_agree()


class GreedyEnds(BothEnds):
    """Greedy and coupled: the verifier never waits, late drafts are struck off."""

    @precondition(lambda self: self.agent.next_position < self.agent.limit)
    @rule(mistakes=st.lists(mistakes, min_size=1, max_size=MAX_WINDOW))
    def the_agent_drafts(self, mistakes: list[int]) -> None:
        for mistake in mistakes[: self.agent.limit - self.agent.next_position]:
            token_id = self.drafted(self.agent.next_position, mistake)
            self.agent.unsent.append(DraftToken(token_id))

    @precondition(lambda self: self.agent.unsent)
    @rule(num_tokens=st.integers(1, MAX_WINDOW))
    def the_agent_sends(self, num_tokens: int) -> None:
        self.send(self.agent.send(num_tokens))

    @precondition(lambda self: self.verifier.position < TEXT_LENGTH - 3 * MAX_WINDOW)
    @rule(num_tested=st.integers(0, MAX_WINDOW), window=windows)
    def a_round_ends(self, num_tested: int, window: int) -> None:
        """With 0 the target decodes alone, whatever is live."""
        tested = self.verifier.path.live[:num_tested]
        self.answer(self.verifier.verify(tested, draws_bonus=True, window=window))


class RejectionEnds(BothEnds):
    """Rejection: the verifier waits for a chunk or a pass, and tests chunks whole or cut."""

    restarts = True

    @property
    def waits(self) -> bool:
        path = self.verifier.path
        return self.verifier.window > 0 and not path.live and not path.has_passed

    @property
    def room(self) -> int:
        """Tokens that the agent may put into a chunk now, the guess before it left out."""
        is_free = self.agent.window > 0 and not self.agent.has_passed
        return self.agent.limit - self.agent.sent_end - bool(self.agent.path.live) if is_free else 0

    @precondition(lambda self: self.room > 0)
    @rule(guess=mistakes, mistakes=st.lists(mistakes, min_size=1, max_size=MAX_WINDOW))
    def the_agent_sends_a_chunk(self, guess: int, mistakes: list[int]) -> None:
        chunk = mistakes[: self.room]
        if self.agent.path.live:
            token_id = self.drafted(self.agent.next_position, guess)
            self.agent.unsent.append(DraftToken(token_id))
        for i, mistake in enumerate(chunk):
            token_id = self.drafted(self.agent.next_position, mistake)
            self.agent.unsent.append(DraftToken(token_id, ROW, ends_chunk=i == len(chunk) - 1))
        self.send(self.agent.send(len(self.agent.unsent)))

    @precondition(lambda self: self.room > 0 and not self.agent.path.live)
    @rule()
    def the_agent_passes(self) -> None:
        self.agent.has_passed = True
        self.send(self.agent.send(0))

    @precondition(
        lambda self: not self.waits and self.verifier.position < TEXT_LENGTH - 3 * MAX_WINDOW
    )
    @rule(most=st.integers(1, MAX_WINDOW), window=windows)
    def a_round_ends(self, most: int, window: int) -> None:
        live = self.verifier.path.live
        chunk_length = next((i + 1 for i, token in enumerate(live) if token.ends_chunk), 0)
        chunk = live[:chunk_length]
        assert all(token.row is not None for token in chunk), "a guess was about to be tested"
        tested = chunk[:most]
        self.answer(self.verifier.verify(tested, len(tested) == len(chunk), window))

    @precondition(lambda self: self.waits)
    @rule(commits_alone=st.booleans())
    def the_verifier_gives_up_waiting(self, commits_alone: bool) -> None:
        """The window is withdrawn, with or without a token that the target decoded alone."""
        if commits_alone:
            self.answer(self.verifier.verify((), draws_bonus=True, window=0))
        else:
            self.answer(self.verifier.commit(Verdict(self.verifier.position, 0, (), window=0)))

    @rule()
    def a_waiting_verifier_is_not_forgotten(self) -> None:
        """Once nothing is on its way, the agent can answer whatever the verifier waits for."""
        self.everything_arrives_and_both_ends_agree()
        assert not self.waits or self.room > 0


MANY = settings(max_examples=300, stateful_step_count=40, deadline=None)

TestGreedyEnds = GreedyEnds.TestCase
TestGreedyEnds.settings = MANY
TestRejectionEnds = RejectionEnds.TestCase
TestRejectionEnds.settings = MANY
