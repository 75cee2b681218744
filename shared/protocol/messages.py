"""What agent and verifier say to each other: one frozen struct for each message, with its limits.

On the wire a message is a MessagePack array: type number, then the fields in the order below
(`shared.protocol.codec`). Later versions only append fields; extra elements are ignored and
missing ones take their defaults. The agent's messages come first, then the verifier's. Words used
throughout: a *position* counts output tokens of a stream (0 is the first one); a *channel* is the
short number of a stream on one connection, chosen by the agent, never used twice on it;
`stream_id` is the random 63-bit name that a stream keeps across connections.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.errors import ErrorCode as ErrorCode
from shared.protocol.board_health import BoardHealth
from shared.protocol.chat_turns import MAX_NAME_LENGTH as MAX_NAME_LENGTH
from shared.protocol.chat_turns import MAX_TEMPLATE_BYTES as MAX_TEMPLATE_BYTES
from shared.protocol.chat_turns import MAX_TOOL_CALLS as MAX_TOOL_CALLS
from shared.protocol.chat_turns import PLAIN_OUTPUT as PLAIN_OUTPUT
from shared.protocol.chat_turns import PLAIN_TEMPLATE as PLAIN_TEMPLATE
from shared.protocol.chat_turns import ChatMessage as ChatMessage
from shared.protocol.chat_turns import Name
from shared.protocol.chat_turns import OutputFormat as OutputFormat
from shared.protocol.chat_turns import TemplateOptions as TemplateOptions
from shared.protocol.chat_turns import ToolCall as ToolCall
from shared.protocol.fingerprint import Difference
from shared.protocol.grammar import Grammar
from shared.protocol.handed_drafts.draft_offers import MAX_ASSIGNED_DRAFTS as MAX_ASSIGNED_DRAFTS
from shared.protocol.handed_drafts.draft_offers import AssignedDraft as AssignedDraft
from shared.protocol.handed_drafts.draft_offers import Sha256
from shared.speculation.logit_processors import MAX_LOGPROBS, NO_PROCESSORS, LogitProcessors
from shared.speculation.model_defaults import ProcessorField
from shared.speculation.sampling import SamplingField, SamplingParameters

PROTOCOL_VERSION = 2

MAX_MESSAGE_BYTES = 256 * 1024
# A prompt that is longer than this travels in parts of about so many bytes (prompt_parts): what
# other streams say meanwhile waits for one of them, a quarter of a second at 1 Mbit/s.
PART_BYTES = 32 * 1024
MAX_DRAFT_TOKENS = 128  # in one Draft, and the largest window
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MAX_CHAT_MESSAGES = 1024
MAX_TOOLS = 512
MAX_TOOLS_BYTES = 512 * 1024  # of the tools that a client offers, as JSON
MAX_TURNS = 64
MAX_SENTENCE_LENGTH = 2000
MAX_POSITION = 1 << 24
MAX_63_BITS = (1 << 63) - 1  # msgspec checks bounds in int64

Channel = Annotated[int, Meta(ge=0, lt=1 << 32)]
StreamId = Annotated[int, Meta(ge=0, le=MAX_63_BITS)]
Seed = Annotated[int, Meta(ge=0, le=MAX_63_BITS)]
Position = Annotated[int, Meta(ge=0, le=MAX_POSITION)]
Sentence = Annotated[str, Meta(max_length=MAX_SENTENCE_LENGTH)]
DraftLength = Annotated[int, Meta(ge=0, le=MAX_DRAFT_TOKENS)]
Microseconds = Annotated[int, Meta(ge=0, lt=1 << 40)]
Count = Annotated[int, Meta(ge=0, le=MAX_63_BITS)]
Milliseconds = Annotated[int, Meta(ge=0, lt=1 << 32)]
# Of a draft model that a board holds, chosen by the board; 0: that of its Hello.
DraftNumber = Annotated[int, Meta(ge=0, lt=1 << 16)]
StopStrings = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=MAX_STOP_BYTES)], ...],
    Meta(max_length=MAX_STOP_STRINGS),
]
Tools = Annotated[bytes, Meta(max_length=MAX_TOOLS_BYTES)]
Packed = Annotated[bytes, Meta(max_length=MAX_MESSAGE_BYTES)]  # token ids or rows, see token_ids

# Of other tokens that are told with each output token, beside its own.
NumLogprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]

AcceptanceMode = Literal["rejection", "coupled"]
FinishReason = Literal["stop", "end", "length", "context", "cancelled"]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A message; the subclass says which."""


class Hello(Message, frozen=True, array_like=True, tag=1):
    """First message of a connection: who drafts, with which vocabulary and how fast."""

    protocol_version: int
    agent_version: Name = ""  # for the verifier's log
    draft_model: Name = ""
    vocab_size: Annotated[int, Meta(ge=0, lt=1 << 24)] = 0  # for the sentence of a refusal
    fingerprint: Packed = b""  # shared.protocol.fingerprint
    context_tokens: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    draft_microseconds: Microseconds = 0  # for one token, measured at start
    max_streams: Annotated[int, Meta(ge=1, le=4096)] = 1  # drafted for at once; for the log
    instance_id: Annotated[int, Meta(ge=0, le=MAX_63_BITS)] = 0  # random, of the process; 0: none
    takes_notices: bool = False  # or it is older than they are
    draft_bytes: Count = 0  # of the draft model's file; 0: there is none, or it is not told
    takes_drafts: bool = False  # that the verifier assigns: Assignment may be sent


class Open(Message, frozen=True, array_like=True, tag=2):
    """Start a stream, or take it up again with the tokens that were committed before.

    Taken up again, the first Verdict after Opened brings what was committed since, if the verifier
    still has the stream; if not, it begins anew behind these tokens.
    """

    channel: Channel
    stream_id: StreamId
    messages: Annotated[tuple[ChatMessage, ...], Meta(max_length=MAX_CHAT_MESSAGES)] = ()
    text: str = ""  # a plain prompt; used when there are no messages
    prompt: Packed = b""  # token ids; when given, neither messages nor text are read
    committed: Packed = b""  # output token ids that the agent already has
    sampling: SamplingParameters = SamplingParameters()
    seed: Seed | None = None
    stop: StopStrings = ()
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_POSITION)] | None = None
    acceptance_mode: AcceptanceMode | None = None  # None: the verifier chooses
    draft_length: DraftLength | None = None  # None: the policy chooses; 0: no speculation
    num_prompt_tokens: Count = 0  # of the whole prompt, where it is given by ids and in parts
    goes_on: bool = False  # the rest comes in OpenParts
    # Of `sampling`: what the client is silent about, so that the target's own defaults hold, which
    # `Opened.sampling` tells; one that does not know them takes the values above.
    left_open: Annotated[tuple[SamplingField, ...], Meta(max_length=3)] = ()
    template: TemplateOptions = TemplateOptions()
    processors: LogitProcessors = NO_PROCESSORS
    num_logprobs: NumLogprobs | None = None  # None: no log-probabilities in verdicts
    grammar: Grammar | None = None  # what the output must be
    tools: Tools = b""  # that the messages' template shows: a JSON list, in OpenAI's words
    must_call: Annotated[tuple[Name, ...], Meta(max_length=MAX_TOOLS)] = ()  # one of these of them
    # Of `processors`, as `left_open` of `sampling`; `Opened.processors` tells what is in force.
    processors_left_open: Annotated[tuple[ProcessorField, ...], Meta(max_length=2)] = ()
    num_prompt_logprobs: NumLogprobs | None = None  # None: no PromptLogprobs


class OpenPart(Message, frozen=True, array_like=True, tag=9):
    """What an Open goes on with, in order; on a connection one Open at a time goes on.

    A chat message of the role "" continues the one before it, in all that it holds.
    """

    channel: Channel
    number: Annotated[int, Meta(ge=1, lt=1 << 32)]  # of this part, from 1 on
    messages: Annotated[tuple[ChatMessage, ...], Meta(max_length=MAX_CHAT_MESSAGES)] = ()
    text: str = ""
    prompt: Packed = b""
    committed: Packed = b""
    goes_on: bool = False
    tools: Tools = b""


class Resume(Message, frozen=True, array_like=True, tag=8):
    """Take up a stream that the verifier keeps, from an output position on.

    For an agent that was restarted and knows nothing but the stream's name. Answered like Open,
    then by a Verdict with all that was committed since, or by an Error `unknown_stream`.
    """

    channel: Channel
    stream_id: StreamId
    position: Position = 0


class Ready(Message, frozen=True, array_like=True, tag=3):
    """The board's draft model has read the prompt; it can draft from now on."""

    channel: Channel
    draft: DraftNumber = 0  # which one


class Draft(Message, frozen=True, array_like=True, tag=4):
    """Draft tokens of the path that began at `base` (draft_path), `offset` tokens after that.

    In `rejection` it is one chunk: a row for every token, save a guess of the bonus token that may
    come first and has none; an empty one is a pass.
    """

    channel: Channel
    base: Position
    offset: Position
    tokens: Packed
    drafting_milliseconds: Milliseconds = 0
    rows: Packed = b""

    @property
    def position(self) -> int:
        """Of the first of these tokens."""
        return self.base + self.offset


class RatedDraft(Draft, frozen=True, array_like=True, tag=10):
    """A Draft without rows whose `tokens` are ids and, behind them, a byte of confidence for each.

    Sent where `Welcome.takes_confidence`; see shared.speculation.confidence. A type of its own,
    because another field would cost four bytes more.
    """


class Cancel(Message, frozen=True, array_like=True, tag=5):
    """End a stream; answered by a Verdict with finish reason `cancelled`."""

    channel: Channel


class Status(Message, frozen=True, array_like=True, tag=6):
    """How the board is doing."""

    draft_microseconds: Microseconds  # for one token; 0: not measured
    health: BoardHealth | None = None  # of its hardware


class DraftHeld(Message, frozen=True, array_like=True, tag=11):
    """The board holds a draft of an Assignment, and what it calls it; or it does not, and why."""

    sha256: Sha256
    number: DraftNumber = 0  # 0: it does not hold it
    draft_microseconds: Microseconds = 0  # for one token, measured once it was loaded
    because: Sentence = ""


class Goodbye(Message, frozen=True, array_like=True, tag=7):
    """The agent is about to leave on purpose; its streams end, those without a connection too."""


class Welcome(Message, frozen=True, array_like=True, tag=65):
    """Answer to Hello: the connection is open."""

    protocol_version: int  # another one than the agent's ends the handshake
    target_model: Name
    vocab_size: Annotated[int, Meta(ge=1, lt=1 << 24)]  # ids that the target has, padding too
    epoch: Count  # grows with every connection of a device, the older one ends; for the log
    context_tokens: Count  # of a stream, prompt and output; for the log
    max_streams: Count  # an agent opens no more at once
    special_ids: Packed = b""  # ranges of ids that make no text, see token_ids
    takes_confidence: bool = False  # whether the board may send RatedDraft in place of Draft
    keeps_texts: bool = False  # of its streams, in memory, to make drafts of


class Opened(Message, frozen=True, array_like=True, tag=66):
    """A stream runs; what the verifier decided about it, and after Resume what Open asked for.

    `sampling` is always what is in force.
    """

    channel: Channel
    prompt: Packed  # or its beginning; empty where Open gave the ids
    seed: Seed
    acceptance_mode: AcceptanceMode
    cached_prefix_tokens: Count = 0  # of a stream taken up; for a new one see Verdict
    sampling: SamplingParameters = SamplingParameters()
    stop: StopStrings = ()
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_POSITION)] | None = None
    draft_length: DraftLength | None = None
    num_prompt_tokens: Count = 0  # of the whole prompt, where the rest comes in PromptParts
    processors: LogitProcessors = NO_PROCESSORS  # in force; none of an older verifier
    num_logprobs: NumLogprobs | None = None  # likewise
    grammar: Grammar | None = None  # in force; its text after Resume and must_call
    output_format: OutputFormat = PLAIN_OUTPUT  # of a chat; said to its first Open alone
    num_prompt_logprobs: NumLogprobs | None = None  # in force; none of an older verifier


class PromptPart(Message, frozen=True, array_like=True, tag=70):
    """More of the prompt that Opened began to tell, in order; verdicts may come before it."""

    channel: Channel
    offset: Count  # of the first of these tokens in the prompt
    tokens: Packed


class PromptLogprobs(Message, frozen=True, array_like=True, tag=73):
    """Of the prompt's tokens but the first, in order and in parts, all before the first Verdict."""

    channel: Channel
    logprobs: Packed  # see logprobs


class Finish(msgspec.Struct, frozen=True, array_like=True):
    """Why a stream ended and how much of its text counts."""

    reason: FinishReason
    text_bytes: Count  # UTF-8 bytes of the output text to keep


class Verdict(Message, frozen=True, array_like=True, tag=67):
    """What the target committed: `num_accepted` tokens of the path, then its own `tokens`."""

    channel: Channel
    position: Position  # before this verdict
    num_accepted: DraftLength
    tokens: Packed
    window: DraftLength = 0  # tokens that may be drafted beyond the new position; 0: do not draft
    draft_length: DraftLength = 0  # tokens that one Draft should hold; 0: as the board likes
    finish: Finish | None = None
    cached_prefix_tokens: Count = 0  # of the prompt, found in the cache; said at position 0
    logprobs: Packed = b""  # of all tokens of the verdict where Open asked, see logprobs
    num_forced: DraftLength = 0  # the first so many of `tokens` are what a grammar forced
    # Draft nothing behind what survives less often, in 255ths; 0: as was said last, or no such word
    least_survival: Annotated[int, Meta(ge=0, le=255)] = 0
    # No drafts are wanted for a while: the board need not even read what is committed meanwhile. It
    # goes on with the first verdict that does not say so.
    rests: bool = False


class Error(Message, frozen=True, array_like=True, tag=68):
    """Something was refused; with a channel only that stream ends, without one the connection."""

    code: ErrorCode
    sentence: Sentence
    channel: Channel | None = None
    field: Name = ""  # REQUEST: the part of the request that is refused
    difference: Difference | None = None  # VOCABULARY: where the vocabularies differ
    # REQUEST: of a prompt that is too long, and how long it may be; 0: it is not
    prompt_tokens: Count = 0
    most_prompt_tokens: Count = 0


class GoingAway(Message, frozen=True, array_like=True, tag=69):
    """The verifier shuts down; come back after a while."""

    retry_after_seconds: Annotated[float, Meta(ge=0, le=3600)]


class Notice(Message, frozen=True, array_like=True, tag=71):
    """Why the streams of this device wait, for its people; sent to agents that take notices."""

    because: Sentence = ""  # nothing: they wait no more


class Assignment(Message, frozen=True, array_like=True, tag=72):
    """Drafts that the board should hold beside its own, and which of them new streams take.

    Sent to boards that take drafts; each one replaces the one before. A board without one uses its
    own draft.
    """

    drafts: Annotated[tuple[AssignedDraft, ...], Meta(max_length=MAX_ASSIGNED_DRAFTS)] = ()
    # Places in `drafts` from 1 on, 0 for the board's own: new streams take them in turn, over and
    # over. One that is not held yet is passed over.
    turns: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=MAX_ASSIGNED_DRAFTS)], ...], Meta(max_length=MAX_TURNS)
    ] = ()


_OfStream = Open | OpenPart | Resume | Ready | Draft | RatedDraft | Cancel
AgentMessage = Hello | _OfStream | Status | DraftHeld | Goodbye
_ToStream = Opened | PromptPart | PromptLogprobs | Verdict | Error
VerifierMessage = Welcome | _ToStream | GoingAway | Notice | Assignment
