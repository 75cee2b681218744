"""How much of the prompts a round may read while others wait for their next token in it.

All devices with prompts have an equal part of that, and what one does not need is for the others:
no device's first token waits for the prompts that another device opens one after the other. Nor do
the prompts of one device, or of two, lengthen the rounds of others by more than a little, but for
turns (`verifier.rounds.prefill_turns`); the more devices have prompts, the more all may together.
What one or two have in a round beside prompts counts too (`verifier.rounds.joint_limit`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.largest_within import largest_within
from verifier.cost_curve.look_back import Chunk
from verifier.rounds.joint_limit import DraftRoom, longest_seconds
from verifier.streams.stream import Stream

# A prompt beside devices that lengthen rounds gets on, if only a quarter of a block at a time.
_FEWER = 4
# Of prompts whose own log-probabilities are asked, a round has so many rows of logits at most: as
# float32 of 151,936 ids they take 78 MB.
MOST_SCORED_TOKENS = 128


class PrefillLimits(NamedTuple):
    """The settings that bound the prompt tokens of a round."""

    chunk_tokens: int
    """At most, whatever streams are there."""
    least_tokens: int
    """At least, so that a prompt gets on; less only if `chunk_tokens` is less."""
    slowdown_limit: float
    """By how much prompts may lengthen the round for streams that are past theirs."""
    device_slowdown_limit: float
    """By how much those of one device, or of two, may lengthen it for other devices, with all else
    that these have in it."""

    def slowdown_of(self, num_devices: int) -> float:
        """By how much prompts of so many devices may lengthen the round for other devices.

        One of them may be the helper of another, so two have no more than one.
        """
        num_limits = max(num_devices - 1, 1)
        return min(self.slowdown_limit, num_limits * self.device_slowdown_limit)

    @property
    def few_tokens(self) -> int:
        """At least, beside devices that lengthen the round already."""
        return max(min(self.least_tokens // _FEWER, self.chunk_tokens), 1)


class PromptRoom(NamedTuple):
    """The prompt tokens that a round may hold."""

    num_tokens: int  # of all devices, in equal parts
    num_more_tokens: int = 0  # behind those
    of_devices: frozenset[str] = frozenset()  # whose these are, in equal parts
    turns: frozenset[str] = frozenset()  # devices that take a turn with that


def prompt_room(
    streams: Sequence[Stream],
    drafts: DraftRoom,
    curve: CostCurve,
    limits: PrefillLimits,
    without_turn: Collection[str] = (),
    scored_token_seconds: float = 0.0,
) -> PromptRoom:
    """How many prompt tokens the next round of these streams may hold.

    T(with prompts) <= (1 + limit) * T(without), T without being the round of all that are past
    their prompts, with their drafts unless these are counted. The further a prompt has been read,
    the fewer: each of its tokens looks back on all that, and one that is to be scored takes
    `scored_token_seconds` more. The limit is that of the devices with prompts, and
    `slowdown_limit` for one that delays none but itself, or whose turn it is.
    """
    unread = _Unread([stream for stream in streams if stream.reads_prompt])
    others = [stream for stream in streams if not stream.reads_prompt]
    if not unread.of_devices or not others:
        return PromptRoom(limits.chunk_tokens)
    delayed = {stream.device for stream in others}
    # A device that alone waits for tokens is delayed by its own prompts as it likes.
    own = delayed if len(delayed) == 1 else set()
    rounds = _Rounds(others, drafts, unread, curve, scored_token_seconds)
    slowdown = limits.slowdown_of(len(unread.of_devices.keys() - own))
    least = min(limits.least_tokens, limits.chunk_tokens)
    num_tokens = rounds.most(least, limits.chunk_tokens, slowdown, PromptRoom)
    strangers = unread.of_devices.keys() - own
    longest = rounds.longest_beside(strangers, slowdown) if strangers else None
    if longest is not None:
        num_tokens = rounds.most_within(limits.few_tokens, num_tokens, longest, PromptRoom)
    left = unread.left(PromptRoom(num_tokens))
    favoured = frozenset(d for d in left if d in own or d not in without_turn)
    if slowdown >= limits.slowdown_limit or not favoured:
        return PromptRoom(num_tokens)
    end = min(limits.chunk_tokens - num_tokens, sum([left[device] for device in favoured]))

    def with_more(num_more_tokens: int) -> PromptRoom:
        return PromptRoom(num_tokens, num_more_tokens, favoured, favoured - own)

    room = with_more(rounds.most(0, end, limits.slowdown_limit, with_more))
    return room if room.num_more_tokens else PromptRoom(num_tokens)


def prompt_shares(streams: Sequence[Stream], room: PromptRoom) -> dict[int, int]:
    """How much of the room each prompt has, by the stream's number.

    Within a device first come, first served.
    """
    prompts = [stream for stream in streams if stream.reads_prompt]
    shares = _Unread(prompts).shares(room)
    return dict(zip([stream.number for stream in prompts], shares, strict=True))


class _Unread:
    """What prompts have left to read, looked up once for all rooms that a search tries."""

    def __init__(self, prompts: Sequence[Stream]) -> None:
        self._parts = [(s.device, s.num_pending_tokens, s.num_cached_tokens) for s in prompts]
        # There is more of the prompt to read than the newest token, whatever the cache holds.
        self._is_scored = [s.most_cached_tokens < s.num_tokens - 1 for s in prompts]
        if any(self._is_scored):
            self._limit_scored()
        self.of_devices: dict[str, int] = {}
        for device, num_pending, _ in self._parts:
            self.of_devices[device] = self.of_devices.get(device, 0) + num_pending

    def left(self, room: PromptRoom) -> dict[str, int]:
        """What is left of devices that do not read all in this room."""
        parts = self._of_each_device(room)
        left = {device: number - parts[device] for device, number in self.of_devices.items()}
        return {device: number for device, number in left.items() if number}

    def shares(self, room: PromptRoom) -> list[int]:
        """What is read of each prompt."""
        left_to = self._of_each_device(room)
        shares = []
        for device, num_pending, _ in self._parts:
            share = min(num_pending, left_to[device])
            left_to[device] -= share
            shares.append(share)
        return shares

    def chunks(self, shares: Sequence[int]) -> list[Chunk]:
        """The parts that are read of prompts with these shares."""
        parts = zip(self._parts, shares, strict=True)
        return [Chunk(share, num_cached) for (_, _, num_cached), share in parts if share]

    def num_scored(self, shares: Sequence[int]) -> int:
        """Tokens that are read of prompts with these shares, and scored."""
        pairs = zip(shares, self._is_scored, strict=True)
        return sum([share for share, is_scored in pairs if is_scored])

    def _limit_scored(self) -> None:
        """No more than a round may score are there to be read: an equal part of each device."""
        wishes: dict[str, int] = {}
        for (device, num_pending, _), is_scored in zip(self._parts, self._is_scored, strict=True):
            if is_scored:
                wishes[device] = wishes.get(device, 0) + num_pending
        left_to = _equal_parts(wishes, MOST_SCORED_TOKENS)
        for i, (device, num_pending, num_cached) in enumerate(self._parts):
            if self._is_scored[i]:
                num_readable = min(num_pending, left_to[device])
                left_to[device] -= num_readable
                self._parts[i] = (device, num_readable, num_cached)

    def _of_each_device(self, room: PromptRoom) -> dict[str, int]:
        parts = _equal_parts(self.of_devices, room.num_tokens)
        if room.num_more_tokens:
            left = {device: self.of_devices[device] - parts[device] for device in room.of_devices}
            unread = {device: number for device, number in left.items() if number}
            for device, more in _equal_parts(unread, room.num_more_tokens).items():
                parts[device] += more
        return parts


class _Rounds:
    """Rounds of some streams that differ in what they hold of prompts."""

    def __init__(
        self,
        others: Sequence[Stream],
        drafts: DraftRoom,
        unread: _Unread,
        curve: CostCurve,
        scored_token_seconds: float,
    ) -> None:
        num_live = sum([len(stream.path.live) for stream in others])
        self._others, self._num_drafts = others, min(num_live, drafts.num_tokens)
        self._num_counted = self._num_drafts if drafts.are_counted else 0
        self._num_tokens = len(others) + self._num_drafts
        self._context_tokens = sum([stream.num_tokens for stream in others])
        self._unread = unread
        self._curve = curve
        self._scored_token_seconds = scored_token_seconds

    def most(
        self, least: int, end: int, slowdown: float, room_of: Callable[[int], PromptRoom]
    ) -> int:
        """The largest number up to `end` whose room keeps to the limit, but the least at least."""
        num_tokens = self._num_tokens - self._num_counted
        seconds_without = self._curve.round_seconds(num_tokens, self._context_tokens)
        return self.most_within(least, end, (1.0 + slowdown) * seconds_without, room_of)

    def longest_beside(self, prompt_devices: Collection[str], slowdown: float) -> float | None:
        """See `longest_seconds`."""
        known = self._others, self._num_drafts, prompt_devices, self._curve
        return longest_seconds(*known, slowdown, self._num_counted)

    def most_within(
        self, least: int, end: int, max_seconds: float, room_of: Callable[[int], PromptRoom]
    ) -> int:
        """The largest number up to `end` whose round is no longer, but the least at least."""

        def round_seconds(number: int) -> float:
            room = room_of(number)
            shares = self._unread.shares(room)
            chunks = self._unread.chunks(shares)
            num_tokens = self._num_tokens + room.num_tokens + room.num_more_tokens
            context_tokens = self._context_tokens + sum([sum(chunk) for chunk in chunks])
            scoring_seconds = self._unread.num_scored(shares) * self._scored_token_seconds
            return self._curve.round_seconds(num_tokens, context_tokens, chunks) + scoring_seconds

        return largest_within(least, end, max_seconds, round_seconds)


def _equal_parts(wishes: Mapping[str, int], num_tokens: int) -> dict[str, int]:
    """An equal part for each device, but no more than it wishes.

    Where there is not a token for each, the first ones get one: those that were longest unserved.
    """
    parts = dict.fromkeys(wishes, 0)
    by_wish = sorted(list(wishes)[:num_tokens], key=wishes.__getitem__)
    for i, device in enumerate(by_wish):
        parts[device] = min(wishes[device], -(-num_tokens // (len(by_wish) - i)))
        num_tokens -= parts[device]
    return parts
