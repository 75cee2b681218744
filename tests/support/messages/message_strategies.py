"""Hypothesis strategies for every message, within all limits of the wire."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from shared.errors import ErrorCode
from shared.protocol.board_health import BoardHealth
from shared.protocol.fingerprint import Difference
from shared.protocol.grammar import Grammar, GrammarKind
from shared.protocol.messages import (
    MAX_ASSIGNED_DRAFTS,
    MAX_DRAFT_TOKENS,
    MAX_NAME_LENGTH,
    MAX_POSITION,
    MAX_SENTENCE_LENGTH,
    MAX_STOP_STRINGS,
    MAX_TURNS,
    AssignedDraft,
    Assignment,
    Cancel,
    ChatMessage,
    Draft,
    DraftHeld,
    Error,
    Finish,
    GoingAway,
    Goodbye,
    Hello,
    Message,
    Notice,
    Open,
    Opened,
    OpenPart,
    OutputFormat,
    PromptLogprobs,
    PromptPart,
    RatedDraft,
    Ready,
    Resume,
    Status,
    TemplateOptions,
    ToolCall,
    Verdict,
    Welcome,
)
from shared.speculation.sampling import SamplingParameters
from tests.support.models.processed_rows import legal_processors

packed = st.binary(max_size=40)
wire_integers = st.integers(-(1 << 63), (1 << 64) - 1)  # all that MessagePack has
names = st.text(max_size=20) | st.just("n" * MAX_NAME_LENGTH)
channels = st.integers(0, (1 << 32) - 1)
positions = st.integers(0, MAX_POSITION)
draft_lengths = st.integers(0, MAX_DRAFT_TOKENS)
numbers_of_63_bits = st.integers(0, (1 << 63) - 1)
_perhaps = st.none() | st.booleans()
microseconds = st.integers(0, (1 << 40) - 1)
modes = st.sampled_from(["rejection", "coupled"])
samplings = st.builds(
    SamplingParameters,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 1 << 24),
    top_p=st.floats(0, 1, exclude_min=True),
)
tool_calls = st.builds(ToolCall, call_id=names, name=names, arguments=st.text(max_size=30))
chat_messages = st.builds(
    ChatMessage,
    role=st.text(max_size=32),
    content=st.text(max_size=30),
    reasoning=st.text(max_size=30),
    tool_calls=st.lists(tool_calls, max_size=3).map(tuple),
    tool_call_id=names,
    name=names,
)
stop_strings = st.lists(st.text(min_size=1, max_size=20), max_size=MAX_STOP_STRINGS).map(tuple)
grammars = st.builds(
    Grammar,
    kind=st.sampled_from(get_args(GrammarKind)),
    text=st.text(max_size=30),
    field=st.text(max_size=20),
)
finishes = st.builds(
    Finish,
    reason=st.sampled_from(["stop", "end", "length", "context", "cancelled"]),
    text_bytes=st.integers(0, 1 << 30),
)
differences = st.builds(
    Difference,
    block=st.integers(0, 1000),
    token_bytes=st.lists(packed, max_size=4).map(tuple),
)
draft_numbers = st.integers(0, (1 << 16) - 1)
checksums = st.binary(min_size=32, max_size=32)
assigned_drafts = st.builds(
    AssignedDraft,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    num_bytes=st.integers(1, 1 << 40),
    sha256=checksums,
)

MESSAGE_STRATEGIES: dict[type[Message], st.SearchStrategy[Any]] = {
    Hello: st.builds(
        Hello,
        protocol_version=wire_integers,
        agent_version=names,
        draft_model=names,
        vocab_size=st.integers(0, (1 << 24) - 1),
        fingerprint=packed,
        context_tokens=st.integers(0, (1 << 32) - 1),
        draft_microseconds=microseconds,
        max_streams=st.integers(1, 4096),
        draft_bytes=numbers_of_63_bits,
        takes_drafts=st.booleans(),
    ),
    Open: st.builds(
        Open,
        channel=channels,
        stream_id=numbers_of_63_bits,
        messages=st.lists(chat_messages, max_size=3).map(tuple),
        text=st.text(max_size=30),
        prompt=packed,
        committed=packed,
        sampling=samplings | st.just(SamplingParameters()),
        seed=st.none() | numbers_of_63_bits,
        stop=stop_strings,
        max_tokens=st.none() | st.integers(1, MAX_POSITION),
        acceptance_mode=st.none() | modes,
        draft_length=st.none() | draft_lengths,
        num_prompt_tokens=numbers_of_63_bits,
        goes_on=st.booleans(),
        template=st.builds(
            TemplateOptions,
            arguments=st.text(max_size=30),
            add_generation_prompt=st.booleans(),
            continue_final_message=st.booleans(),
        ),
        processors=legal_processors,
        num_logprobs=st.none() | st.integers(0, 20),
        num_prompt_logprobs=st.none() | st.integers(0, 20),
        grammar=st.none() | grammars,
        tools=packed,
        must_call=st.lists(names, max_size=3).map(tuple),
    ),
    OpenPart: st.builds(
        OpenPart,
        channel=channels,
        number=st.integers(1, (1 << 32) - 1),
        messages=st.lists(chat_messages, max_size=3).map(tuple),
        text=st.text(max_size=30),
        prompt=packed,
        committed=packed,
        goes_on=st.booleans(),
        tools=packed,
    ),
    Resume: st.builds(Resume, channel=channels, stream_id=numbers_of_63_bits, position=positions),
    Ready: st.builds(Ready, channel=channels, draft=draft_numbers),
    Draft: st.builds(
        Draft,
        channel=channels,
        base=positions,
        offset=positions,
        tokens=packed,
        drafting_milliseconds=st.integers(0, (1 << 32) - 1),
        rows=packed,
    ),
    RatedDraft: st.builds(
        RatedDraft,
        channel=channels,
        base=positions,
        offset=positions,
        tokens=packed,
        drafting_milliseconds=st.integers(0, (1 << 32) - 1),
    ),
    Cancel: st.builds(Cancel, channel=channels),
    Status: st.builds(
        Status,
        draft_microseconds=microseconds,
        health=st.none()
        | st.builds(
            BoardHealth,
            celsius=st.none() | st.integers(-100, 300),
            free_megabytes=st.none() | st.integers(0, 1 << 31),
            is_undervolted=_perhaps,
            is_slowed=_perhaps,
            was_undervolted=_perhaps,
            was_slowed=_perhaps,
        ),
    ),
    DraftHeld: st.builds(
        DraftHeld,
        sha256=checksums,
        number=draft_numbers,
        draft_microseconds=microseconds,
        because=st.text(max_size=60),
    ),
    Goodbye: st.builds(Goodbye),
    Welcome: st.builds(
        Welcome,
        protocol_version=wire_integers,
        target_model=names,
        vocab_size=st.integers(1, (1 << 24) - 1),
        epoch=st.integers(0, 1 << 40),
        context_tokens=st.integers(0, 1 << 32),
        max_streams=st.integers(1, 4096),
        special_ids=packed,
        takes_confidence=st.booleans(),
        keeps_texts=st.booleans(),
    ),
    Opened: st.builds(
        Opened,
        channel=channels,
        prompt=packed,
        seed=numbers_of_63_bits,
        acceptance_mode=modes,
        cached_prefix_tokens=st.integers(0, 1 << 24),
        sampling=samplings | st.just(SamplingParameters()),
        stop=stop_strings,
        max_tokens=st.none() | st.integers(1, MAX_POSITION),
        draft_length=st.none() | draft_lengths,
        num_prompt_tokens=numbers_of_63_bits,
        processors=legal_processors,
        num_logprobs=st.none() | st.integers(0, 20),
        num_prompt_logprobs=st.none() | st.integers(0, 20),
        grammar=st.none() | grammars,
        output_format=st.builds(OutputFormat, tools=names, reasoning=names, opening=names),
    ),
    PromptLogprobs: st.builds(PromptLogprobs, channel=channels, logprobs=packed),
    PromptPart: st.builds(PromptPart, channel=channels, offset=numbers_of_63_bits, tokens=packed),
    Verdict: st.builds(
        Verdict,
        channel=channels,
        position=positions,
        num_accepted=draft_lengths,
        tokens=packed,
        window=draft_lengths,
        draft_length=draft_lengths,
        finish=st.none() | finishes,
        cached_prefix_tokens=st.integers(0, 1 << 24),
        logprobs=packed,
        num_forced=draft_lengths,
        least_survival=st.integers(0, 255),
    ),
    Error: st.builds(
        Error,
        code=st.sampled_from(ErrorCode),
        sentence=st.text(max_size=60) | st.just("s" * MAX_SENTENCE_LENGTH),
        channel=st.none() | channels,
        field=names,
        difference=st.none() | differences,
    ),
    GoingAway: st.builds(GoingAway, retry_after_seconds=st.floats(0, 3600)),
    Notice: st.builds(Notice, because=st.text(max_size=60)),
    Assignment: st.builds(
        Assignment,
        drafts=st.lists(assigned_drafts, max_size=MAX_ASSIGNED_DRAFTS).map(tuple),
        turns=st.lists(st.integers(0, MAX_ASSIGNED_DRAFTS), max_size=MAX_TURNS).map(tuple),
    ),
}

messages = st.one_of(*MESSAGE_STRATEGIES.values())
