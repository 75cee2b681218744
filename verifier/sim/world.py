"""One verifier and many boards, played through a scenario: a pure function of that and its seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from shared.protocol.codec import encode
from shared.protocol.messages import Draft, Opened, Ready, Verdict
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import pack_token_ids
from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES, VERIFIER_FRAME_HEADER_BYTES
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import scripted_token_bytes
from verifier.configured_rounds import configured_policy, round_settings
from verifier.engine.verdicts import verdict_of
from verifier.policies import DraftPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.operators_terms import set_device_terms
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.sim.board import CONTEXT_TOKENS, SimBoard
from verifier.sim.clock import Clock, HeapClock
from verifier.sim.fleet import FleetBoard, acceptance_of, fleet_of, slos_of
from verifier.sim.known_acceptance import KnownAcceptance
from verifier.sim.link import Lane
from verifier.sim.record import RunRecord
from verifier.sim.round_model import RoundModel, planner_curve
from verifier.sim.scenario import Scenario
from verifier.sim.text import END_ID, PROMPT_ID, VOCAB_SIZE, StreamText
from verifier.sim.verifier_end import VerifierEnd
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest

BLOCK_TOKENS = 16  # as `target.block_tokens`: prompts get on by a block at least
# Output of a stream that never ends; a position of the protocol goes further.
ENDLESS_TOKENS = 1 << 19
_TOKEN_BYTES = scripted_token_bytes(VOCAB_SIZE)
# How often a run says how far it is.
NUM_TICKS = 100


class World:
    """Mutable state of one run."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        *,
        policy: DraftPolicy | None = None,
        drafts: bool = True,
        knows_acceptance: bool = False,
        make_end: Callable[..., VerifierEnd] = VerifierEnd,
    ) -> None:
        """`policy`: in place of the scenario's; not `drafts`: the target alone.

        `knows_acceptance`: estimates are the truth from the start, as an oracle's.
        """
        self.scenario = scenario
        self.boards = fleet_of(scenario)
        self.record = RunRecord(len(self.boards), scenario.run.seconds, scenario.run.bin_seconds)
        self._clock = clock
        self._drafts = drafts
        self._knows_acceptance = knows_acceptance
        self.num_opened = 0
        self._verifier = make_end(
            clock,
            make_planner(scenario, policy or configured_policy(scenario.rounds)),
            RoundModel(scenario, self._load),
            self.deliver,
            lambda round_, seconds: self.record.count_round(clock.now, round_.num_tokens, seconds),
        )
        self._devices = [
            SimDevice(self, number, board, clock) for number, board in enumerate(self.boards)
        ]
        self._device_of: dict[int, SimDevice] = {}  # by stream

    @property
    def planner(self) -> RoundPlanner:
        return self._verifier.planner

    def _load(self) -> tuple[float, float]:
        return self._clock.now, sum([device.computed_seconds for device in self._devices])

    def new_stream(self, device: SimDevice) -> None:
        """A stream of this device opens."""
        number = self.num_opened = self.num_opened + 1
        board = device.board
        text = StreamText(number, acceptance_of(self.scenario, board, device.num_opened))
        stream = self._make_stream(number, device)
        self._device_of[number] = device
        device.begin(stream, text)
        self._verifier.open(stream, text)

    def receive(self, stream: Stream, message: Ready | Draft) -> None:
        """A board's message arrived at the verifier."""
        self._verifier.receive(stream, message)

    def close(self, stream: Stream) -> None:
        """A board left with this stream, which a running round may still hold."""
        del self._device_of[stream.number]
        self._verifier.close(stream)

    def end(self) -> None:
        """The time is over: streams that are open were open up to now."""
        for device in self._devices:
            device.count_open()

    def deliver(self, results: list[StreamResult]) -> None:
        """A round is over: what it did for its streams is told to their boards."""
        now, record = self._clock.now, self.record
        for result in results:
            stream, settled = result.stream, result.settled
            device = self._device_of.get(stream.number)
            if device is None:
                continue
            counts = settled.num_tokens, settled.num_tested, settled.num_accepted
            record.count_verdict(now, device.number, *counts)
            device.send_down(verdict_of(stream.number, result))
            if stream.finish is not None:
                del self._device_of[stream.number]
                del self._verifier.texts[stream.number]
                device.finish(stream)

    def _make_stream(self, number: int, device: SimDevice) -> Stream:
        group = device.board.group
        greedy_mode = group.mode == "coupled"
        request = StreamRequest(
            prompt_ids=(PROMPT_ID,) * group.prompt_tokens,
            sampling=GREEDY if greedy_mode else SamplingParameters(),
            mode=group.mode,
            seed=number,
            max_output_tokens=group.output_tokens or ENDLESS_TOKENS,
            ends_at_context=False,
            end_ids=frozenset({END_ID}),
            draft_length=None if self._drafts else 0,
            draft_context_tokens=CONTEXT_TOKENS,
        )
        estimates = device.estimates.open_stream()
        if self._knows_acceptance:
            estimates.acceptance = KnownAcceptance(device.board.acceptance)
        return Stream(
            number=number,
            device=device.board.name,
            opened_at=self._clock.now,
            request=request,
            text=ByteAssembler(_TOKEN_BYTES, frozenset({END_ID})),
            device_estimates=device.estimates,
            estimates=estimates,
        )


class SimDevice:
    """One board at both ends: its streams there, its link, its streams here."""

    def __init__(self, world: World, number: int, board: FleetBoard, clock: Clock) -> None:
        self.number = number
        self.board = board
        self.estimates = DeviceEstimates()
        self.num_opened = 0
        self._world = world
        self._clock = clock
        self._random = Random(f"{world.scenario.run.seed}-{board.name}-times")
        self._up, self._down = Lane(board.link, self._random), Lane(board.link, self._random)
        self._end = SimBoard(clock, board.spec, self._send_up)
        self._streams: dict[int, tuple[Stream, float]] = {}  # open ones, with since when
        self._verdict_at: dict[int, float] = {}  # when the latest one came
        self._is_gone = False
        # As in its Hello.
        self.estimates.speed.observe_drafting(1, board.spec.token_seconds)
        for _ in range(board.group.streams):
            clock.call_at(board.joins_at, self._open)
        if board.group.leaves_at_seconds is not None:
            clock.call_at(board.group.leaves_at_seconds, self._leave)

    @property
    def computed_seconds(self) -> float:
        """For how long its draft model has computed so far."""
        return self._end.computed_seconds

    def begin(self, stream: Stream, text: StreamText) -> None:
        """A stream of this board has opened."""
        self.num_opened += 1
        self._streams[stream.number] = (stream, self._clock.now)
        request = stream.request
        drafts = request.draft_length != 0
        self._end.open(stream.number, text, request.sampling, drafts=drafts)
        prompt = pack_token_ids(request.prompt_ids)
        self.send_down(
            Opened(stream.number, prompt, request.seed, request.mode, sampling=request.sampling)
        )

    def finish(self, stream: Stream) -> None:
        """The verifier has ended a stream; another one follows after a while."""
        _, since = self._streams.pop(stream.number)
        self._world.record.count_open(self.number, since, self._clock.now)
        pause = self.board.group.think_seconds * self._random.uniform(0.5, 1.5)
        self._clock.call_at(self._clock.now + pause, self._open)

    def count_open(self) -> None:
        """The time is over."""
        for _, since in self._streams.values():
            self._world.record.count_open(self.number, since, self._clock.now)
        self._streams.clear()

    def send_down(self, message: Opened | Verdict) -> None:
        """A message is on its way to the board."""
        at = self._down.arrival(self._clock.now, self._size(message, VERIFIER_FRAME_HEADER_BYTES))
        self._clock.call_at(at, self._arrive, message)

    def _send_up(self, message: Ready | Draft) -> None:
        stream, _ = self._streams.get(message.channel, (None, 0.0))
        if stream is not None:
            at = self._up.arrival(self._clock.now, self._size(message, BOARD_FRAME_HEADER_BYTES))
            self._clock.call_at(at, self._arrive_up, stream, message)

    def _size(self, message: Ready | Draft | Opened | Verdict, num_header_bytes: int) -> int:
        """Counted only where it matters: it takes as long as all else that a message does."""
        limited = self.board.link.bytes_per_second
        return len(encode(message)) + num_header_bytes if limited else 0

    def _arrive_up(self, stream: Stream, message: Ready | Draft) -> None:
        if not self._is_gone:
            self._world.receive(stream, message)

    def _arrive(self, message: Opened | Verdict) -> None:
        if self._is_gone:
            return
        if isinstance(message, Verdict):
            self._note_verdict(message)
        self._end.receive(message)

    def _note_verdict(self, message: Verdict) -> None:
        now, record = self._clock.now, self._world.record
        before = self._verdict_at.get(message.channel)
        if before is not None:
            record.pauses[self.number].append(now - before)
        elif message.channel in self._streams:
            opened_at = self._streams[message.channel][1]
            record.first_token_seconds[self.number].append(now - opened_at)
        self._verdict_at[message.channel] = now
        if message.finish is not None:
            del self._verdict_at[message.channel]

    def _open(self) -> None:
        if not self._is_gone:
            self._world.new_stream(self)

    def _leave(self) -> None:
        self._is_gone = True
        self._end.leave()
        for stream, since in self._streams.values():
            self._world.record.count_open(self.number, since, self._clock.now)
            self._world.close(stream)
        self._streams.clear()


def make_planner(scenario: Scenario, policy: DraftPolicy) -> RoundPlanner:
    """The real planner, with room for all streams of the scenario."""
    rounds = scenario.rounds
    num_blocks = 16
    fastest = 1e-3 * scenario.target.fixed_milliseconds
    for group in scenario.boards.values():
        num_rounds = scenario.run.seconds / fastest + 1
        most_output = min(group.output_tokens or ENDLESS_TOKENS, int(2 + num_rounds * 17))
        num_tokens = group.prompt_tokens + most_output + rounds.reserved_output_tokens
        num_blocks += group.count * group.streams * -(-num_tokens // BLOCK_TOKENS)
    least = max(
        -(-(group.prompt_tokens + (group.output_tokens or ENDLESS_TOKENS)) // BLOCK_TOKENS)
        for group in scenario.boards.values()
    )
    blocks = BlockPool(max(num_blocks, least + 1), BLOCK_TOKENS)
    curve = planner_curve(scenario, rounds.max_round_tokens)
    planner = RoundPlanner(round_settings(rounds), policy, curve, blocks)
    set_device_terms(planner, frozenset(), {}, {}, slos_of(scenario))
    return planner


def play(
    scenario: Scenario,
    *,
    policy: DraftPolicy | None = None,
    drafts: bool = True,
    knows_acceptance: bool = False,
    advance: Callable[[float], None] = lambda part: None,
) -> World:
    """Play a scenario to its end; `advance` gets the part that is done, now and then."""
    clock = HeapClock()
    world = World(scenario, clock, policy=policy, drafts=drafts, knows_acceptance=knows_acceptance)
    for tick in range(1, NUM_TICKS + 1):
        clock.run(scenario.run.seconds * tick / NUM_TICKS)
        advance(tick / NUM_TICKS)
    world.end()
    return world
