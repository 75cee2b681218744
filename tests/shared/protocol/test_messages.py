"""The wire's numbers and field orders never change; a later version only appends."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from shared.errors import ErrorCode
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    MAX_DRAFT_TOKENS,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    AgentMessage,
    ChatMessage,
    Draft,
    Finish,
    Message,
    OutputFormat,
    ToolCall,
    Verdict,
    VerifierMessage,
)
from shared.protocol.transport import MAX_ROW_ENTRIES
from shared.speculation.sampling import SamplingParameters

FIELDS_OF_VERSION_2 = {
    1: (
        "Hello",
        "protocol_version agent_version draft_model vocab_size fingerprint context_tokens"
        " draft_microseconds max_streams instance_id takes_notices"
        " draft_bytes takes_drafts",
    ),
    2: (
        "Open",
        "channel stream_id messages text prompt committed sampling seed stop max_tokens"
        " acceptance_mode draft_length num_prompt_tokens goes_on left_open template processors"
        " num_logprobs grammar tools must_call processors_left_open num_prompt_logprobs",
    ),
    9: ("OpenPart", "channel number messages text prompt committed goes_on tools"),
    8: ("Resume", "channel stream_id position"),
    3: ("Ready", "channel draft"),
    4: ("Draft", "channel base offset tokens drafting_milliseconds rows"),
    10: ("RatedDraft", "channel base offset tokens drafting_milliseconds rows"),
    5: ("Cancel", "channel"),
    6: ("Status", "draft_microseconds health"),
    11: ("DraftHeld", "sha256 number draft_microseconds because"),
    7: ("Goodbye", ""),
    65: (
        "Welcome",
        "protocol_version target_model vocab_size epoch context_tokens max_streams special_ids"
        " takes_confidence keeps_texts",
    ),
    66: (
        "Opened",
        "channel prompt seed acceptance_mode cached_prefix_tokens sampling stop max_tokens"
        " draft_length num_prompt_tokens processors num_logprobs grammar output_format"
        " num_prompt_logprobs",
    ),
    67: (
        "Verdict",
        "channel position num_accepted tokens window draft_length finish cached_prefix_tokens"
        " logprobs num_forced least_survival rests",
    ),
    70: ("PromptPart", "channel offset tokens"),
    73: ("PromptLogprobs", "channel logprobs"),
    68: (
        "Error",
        "code sentence channel field difference prompt_tokens most_prompt_tokens",
    ),
    69: ("GoingAway", "retry_after_seconds"),
    71: ("Notice", "because"),
    72: ("Assignment", "drafts turns"),
}
PARTS_OF_VERSION_1 = {
    ChatMessage: "role content reasoning tool_calls tool_call_id name",
    ToolCall: "call_id name arguments",
    OutputFormat: "tools reasoning opening",
    SamplingParameters: "temperature top_k top_p",
    Finish: "reason text_bytes",
    Grammar: "kind text field",
}

AGENT_TYPES: tuple[type[Message], ...] = get_args(AgentMessage)
VERIFIER_TYPES: tuple[type[Message], ...] = get_args(VerifierMessage)


def test_types_and_field_orders_are_those_of_version_2() -> None:
    assert 2 == PROTOCOL_VERSION
    assert FIELDS_OF_VERSION_2 == {
        message_type.__struct_config__.tag: (
            message_type.__name__,
            " ".join(message_type.__struct_fields__),
        )
        for message_type in AGENT_TYPES + VERIFIER_TYPES
    }


@pytest.mark.parametrize(("part", "fields"), PARTS_OF_VERSION_1.items())
def test_parts_of_messages_keep_their_field_order(part: type[msgspec.Struct], fields: str) -> None:
    assert fields == " ".join(part.__struct_fields__)


def test_a_type_number_says_who_sends_it() -> None:
    assert all(message_type.__struct_config__.tag < 64 for message_type in AGENT_TYPES)
    assert all(message_type.__struct_config__.tag > 64 for message_type in VERIFIER_TYPES)


@pytest.mark.parametrize("message_type", AGENT_TYPES + VERIFIER_TYPES)
def test_a_message_is_a_frozen_array(message_type: type[Message]) -> None:
    assert message_type.__struct_config__.frozen
    assert message_type.__struct_config__.array_like


def test_a_received_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Draft(channel=1, base=0, offset=0, tokens=b"").offset = 1


def test_a_verdict_without_a_window_grants_nothing() -> None:
    verdict = Verdict(channel=1, position=0, num_accepted=0, tokens=b"")
    assert (0, 0, None) == (verdict.draft_length, verdict.window, verdict.finish)


def test_the_largest_draft_fits_into_a_message() -> None:
    bytes_of_a_token = 3 + 1 + 5 * MAX_ROW_ENTRIES  # id, entry count, entries of wide ids
    assert MAX_DRAFT_TOKENS * bytes_of_a_token + 100 < MAX_MESSAGE_BYTES


def test_the_codes_of_an_error_keep_their_words() -> None:
    words = "protocol version vocabulary request limit model replaced token_in_use revoked "
    words += "unknown_stream paused other"
    assert words.split() == [code.value for code in ErrorCode]
