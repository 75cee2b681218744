"""The grammar of one stream, between the event loop, the round's thread and those that make masks.

At any time one of them has the matcher: the round, from when it is planned until the next is; but a
job from when that is started until its masks are there. While a job is late its stream has no part
in a round. The event loop does as little as it can, because rounds wait for it. This module must
never wait on the event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

import msgspec
import numpy as np

from verifier.grammar.mask_threads import MaskThreads
from verifier.grammar.matcher_state import MatcherState
from verifier.target.token_masks import PackedMasks, TokenMasks

logger = logging.getLogger(__name__)

# Of a job that made a round go on without it: processor time of a mask beyond which the stream's
# masks are made first from now on, and then its rounds.
SLOW_SECONDS = 0.01
# A stream whose masks take longer than this ends: limits of the library should not let it happen.
MOST_JOB_SECONDS = 5.0

_NO_ROWS: PackedMasks = np.zeros((0, 0), np.uint32)


class _Made(msgspec.Struct, frozen=True):
    """Masks behind a number of output tokens and behind each of these drafts."""

    position: int
    draft_token_ids: tuple[int, ...]
    rows: PackedMasks

    def shared_with(self, position: int, draft_token_ids: Sequence[int]) -> PackedMasks:
        """Those that hold for other drafts too; none where the output has gone on."""
        if position != self.position:
            return _NO_ROWS
        num_equal = 0
        for ours, theirs in zip(self.draft_token_ids, draft_token_ids, strict=False):
            if ours != theirs:
                break
            num_equal += 1
        return self.rows[: num_equal + 1]


class StreamGrammarInThreads:
    """Implements `verifier.target.token_masks.StreamGrammar`.

    `wake` is called, in any thread, when masks are ready that a round did not wait for.
    """

    def __init__(self, state: MatcherState, threads: MaskThreads, wake: Callable[[], None]) -> None:
        self._state = state
        self._threads = threads
        self._wake = wake
        self._job: Future[_Made | None] | None = None
        self._job_started_at = 0.0
        self._made: _Made | None = None
        self._is_broken = False
        self._is_slow = False

    def begin_behind(self, token_ids: Sequence[int]) -> bool:
        """Stand behind output that was committed before; False: it is not of this grammar.

        In the caller's thread, with the first mask: where that takes long, no round waits for it.
        """
        if not self._state.consume(token_ids):
            return False
        self._made = _Made(len(token_ids), (), self._state.masks(()))
        self._is_broken = self._state.is_broken
        self._is_slow = self._state.most_mask_seconds > SLOW_SECONDS
        return True

    @property
    def is_quick(self) -> bool:
        """See `StreamGrammar.is_quick`."""
        return self._job is None and not self._is_slow

    def masks(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> TokenMasks:
        """See `StreamGrammar.masks`; the job starts with the round, in its thread."""
        if self._job is not None:
            self._collect()
        drafts = tuple(draft_token_ids)
        if self._job is not None or self._has_made(len(output_ids)) or self._is_broken:
            return _Masks(self, len(output_ids), drafts, None)
        return _Masks(self, len(output_ids), drafts, self._new_ids(output_ids))

    def is_ready(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> bool:
        """See `StreamGrammar.is_ready`."""
        self._collect()
        if self._job is not None:
            self._threads.wake()  # its round may never have asked for it
            self._tell_when_done()
            return False
        if not self._is_slow or self._is_broken or self._has_made(len(output_ids)):
            return True
        self.start(self._new_ids(output_ids), len(output_ids), tuple(draft_token_ids))
        self._tell_when_done()
        return False

    def start(
        self, new_ids: tuple[int, ...], position: int, draft_token_ids: tuple[int, ...]
    ) -> None:
        """Let masks be made behind output that goes on with these tokens and behind drafts."""
        self._made = None
        self._job_started_at = time.monotonic()
        self._job = self._threads.start(
            lambda: self._make(new_ids, position, draft_token_ids), is_slow=self._is_slow
        )
        self._threads.wake()

    def made_by(self, deadline: float) -> _Made | None:
        """What the latest job has made; None: the grammar is beyond its limits.

        Raises:
            TimeoutError: the job is late.
        """
        if self._job is None:
            return self._made
        self._threads.wake()
        try:
            self._job.result(max(deadline - time.monotonic(), 0.0))
        except (TimeoutError, CancelledError) as error:
            self._threads.wake_another()
            self._tell_when_done()
            raise TimeoutError from error
        self._collect()
        return self._made

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        """See `TokenMasks.advance`."""
        return () if self._job is not None else self._state.advance(token_ids, seconds)

    def _has_made(self, position: int) -> bool:
        return self._made is not None and self._made.position == position

    def _new_ids(self, output_ids: Sequence[int]) -> tuple[int, ...]:
        """What a round has not gone on with already."""
        return tuple(output_ids[self._state.num_consumed :])

    def _make(
        self, new_ids: tuple[int, ...], position: int, draft_token_ids: tuple[int, ...]
    ) -> _Made | None:
        """In a thread; None: the grammar is beyond its limits."""
        try:
            if new_ids and not self._state.consume(new_ids):
                return None
            rows = self._state.masks(draft_token_ids)
        except Exception:
            logger.exception("masks of a grammar could not be made")
            return None
        return None if self._state.is_broken else _Made(position, draft_token_ids, rows)

    def _tell_when_done(self) -> None:
        assert self._job is not None, "there is nothing to wait for"
        self._job.add_done_callback(lambda _: self._wake())

    def _collect(self) -> None:
        """Take in what a job came to; it may have been cancelled, if the verifier stops."""
        if self._job is None:
            return
        if not self._job.done():
            if time.monotonic() - self._job_started_at > MOST_JOB_SECONDS:
                self._is_broken, self._job = True, None
            return
        self._made = None if self._job.cancelled() else self._job.result()
        self._is_broken = self._made is None
        self._is_slow = self._state.most_mask_seconds > SLOW_SECONDS
        self._job = None


class _Masks:
    """Implements `verifier.target.token_masks.TokenMasks`."""

    def __init__(
        self,
        grammar: StreamGrammarInThreads,
        position: int,
        draft_token_ids: tuple[int, ...],
        new_ids: tuple[int, ...] | None,
    ) -> None:
        """`new_ids`: see `StreamGrammarInThreads.start`; None: no job need be started."""
        self._grammar = grammar
        self._position = position
        self._draft_token_ids = draft_token_ids
        self._new_ids = new_ids

    def begin(self) -> None:
        new_ids, self._new_ids = self._new_ids, None
        if new_ids is not None:
            self._grammar.start(new_ids, self._position, self._draft_token_ids)

    def wait(self, deadline: float) -> PackedMasks | None:
        self.begin()
        try:
            made = self._grammar.made_by(deadline)
        except TimeoutError:
            return _NO_ROWS
        if made is None:
            return None
        return made.shared_with(self._position, self._draft_token_ids)

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        return self._grammar.advance(token_ids, seconds)
