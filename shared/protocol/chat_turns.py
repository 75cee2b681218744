"""The turns of a conversation, how a template is to write them, and how a target writes its own.

Parts of messages (`shared.protocol.messages`), as they travel.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MAX_NAME_LENGTH = 200
MAX_TEMPLATE_BYTES = 16 * 1024  # of a client's arguments for the chat template
MAX_TOOL_CALLS = 256  # in one chat message

Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A function that the assistant called; without a name, more of the arguments before."""

    call_id: Name
    name: Name
    arguments: str  # JSON, or what a model took for it


class ChatMessage(msgspec.Struct, frozen=True, array_like=True):
    """One turn of a conversation."""

    role: Annotated[str, Meta(max_length=32)]
    content: str
    reasoning: str = ""  # what the assistant thought before it
    tool_calls: Annotated[tuple[ToolCall, ...], Meta(max_length=MAX_TOOL_CALLS)] = ()
    tool_call_id: Name = ""  # of a tool's turn: the call that it answers
    name: Name = ""  # of a tool's turn: the function


class OutputFormat(msgspec.Struct, frozen=True, array_like=True):
    """How the target writes what is no plain text; the families' names are the parsers'.

    Names that an agent does not know it takes for "".
    """

    tools: Name = ""  # the family of its calls; "": no tools were shown to it
    reasoning: Name = ""  # the family of its thoughts; "": none are told apart
    opening: Name = ""  # with what of the answer's form the prompt ends, such as `<think>`


PLAIN_OUTPUT = OutputFormat()


class TemplateOptions(msgspec.Struct, frozen=True, array_like=True):
    """How the chat template is to render the messages of an Open."""

    arguments: Annotated[str, Meta(max_length=MAX_TEMPLATE_BYTES)] = ""  # a JSON object, or nothing
    add_generation_prompt: bool = True  # open the assistant's next turn
    continue_final_message: bool = False  # the answer goes on where the last message ends


PLAIN_TEMPLATE = TemplateOptions()
