"""Turns become the token ids of a prompt: rendered in the sandbox, encoded so that none is forged.

This module must never trust a template, nor the text of a message, a tool or an argument. Roles it
trusts: the agent knows five.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shared.errors import RequestRefused
from shared.protocol.messages import ChatMessage, OutputFormat, TemplateOptions
from verifier.chat_template.marks import (
    Marks,
    broken,
    broken_everywhere,
    broken_value,
    names_pattern,
    unused_marks,
)
from verifier.chat_template.output_family import knows_tools, output_format
from verifier.chat_template.sandbox_process import Rendered, SandboxProcess
from verifier.chat_template.template_values import (
    MAX_DEPTH,
    ChatShape,
    Rewrite,
    json_depth,
    read_tools,
    template_messages,
    template_tools,
)
from verifier.chat_template.tool_fallback import with_tools_told, without_tool_turns

# What a template gets from elsewhere.
_RESERVED = (
    *("messages", "tools", "xml_tools", "documents"),
    *("add_generation_prompt", "continue_final_message"),
)


class PromptTokenizer(Protocol):
    """What encoding needs of the target's tokenizer."""

    @property
    def forgeable_ids(self) -> frozenset[int]:
        """Ids of tokens that only a template may make."""
        ...

    def encode_marked(self, text: str, mark: str) -> list[int] | None:
        """Ids of a rendered prompt without those of its marks; None: they cannot be told apart."""
        ...


class ControlNames(msgspec.Struct, frozen=True):
    """Names of added tokens: `special` print nothing, `visible` do (Qwen's `<think>`)."""

    special: frozenset[str]
    visible: frozenset[str] = frozenset()


class ChatTemplate(msgspec.Struct, frozen=True):
    """A template with what it gets beside the turns."""

    text: str
    arguments: Mapping[str, object] = {}  # of the operator; a client's stand above them
    special_tokens: Mapping[str, str] = {}  # `bos_token` and the like


class ChatEncoder:
    """Encodes the chats of one target; may be used by many threads."""

    def __init__(
        self, template: ChatTemplate, names: ControlNames, tokenizer: PromptTokenizer
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._sandbox = SandboxProcess()
        # What a template writes itself is a control token there, even if it prints.
        written = {name for name in names.visible if name in template.text and not name.isspace()}
        self._knows_tools = knows_tools(template.text)
        self.output_format: OutputFormat = output_format(
            template.text, names.special | names.visible
        )
        self._has_short_ids = self.output_format.tools == "mistral"
        self._special = names_pattern(names.special)
        self._special_or_written = names_pattern(names.special | written)
        self._fixed_texts = (
            template.text,
            json.dumps(template.arguments, ensure_ascii=False),
            *template.special_tokens.values(),
        )

    def encode(
        self, messages: Sequence[ChatMessage], options: TemplateOptions, tools: bytes = b""
    ) -> list[int]:
        """Token ids of the whole prompt.

        A name of a special token in a message, a tool or an argument is text. So is one that
        prints, where the template writes it itself, save in a turn of the assistant, who said it
        as a token. All other text has the ids that transformers gives it. Where the template knows
        no tools they are told in words, and so are calls (`tool_fallback`).

        Raises:
            RequestRefused: the template or an argument does not fit; the sentence says why.
        """
        arguments, offered = _arguments(options), read_tools(tools)
        if self._knows_tools:
            return self._encode_told(messages, options, arguments, offered)
        messages = without_tool_turns(messages)
        if not offered:
            return self._encode_told(messages, options, arguments, [])
        by_system, by_user = (
            with_tools_told(messages, offered, by_system=by_system) for by_system in (True, False)
        )
        try:
            return self._encode_told(by_system, options, arguments, [])
        except RequestRefused:  # it may have no place for a system message
            return self._encode_told(by_user, options, arguments, [])

    def _encode_told(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions,
        arguments: dict[str, object],
        tools: list[Any],
    ) -> list[int]:
        given = json.dumps([arguments, tools], ensure_ascii=False)
        for marks in unused_marks([*self._fixed_texts, given, *_texts(messages)]):
            chat = _Chat(messages, tools, arguments, options, marks)
            token_ids = self._encode_marked(chat)
            if token_ids is not None:
                return token_ids
        raise RequestRefused(
            "the target's tokenizer cannot tell the messages' text from control tokens", "messages"
        )

    def _encode_marked(self, chat: _Chat) -> list[int] | None:
        """None: with these marks the tokens cannot be told apart."""
        shape = ChatShape(has_short_ids=self._has_short_ids)
        rendered, plain = self._render(chat, [self._whole(chat), _neutral], shape)
        if rendered.reason is not None and any(turn.tool_calls for turn in chat.messages):
            # Some templates join the arguments of a call to a text (DeepSeek-V3).
            shape = ChatShape(has_text_arguments=True, has_short_ids=self._has_short_ids)
            again = self._render(chat, [self._whole(chat), _neutral], shape)
            if again[0].reason is None:
                rendered, plain = again
        token_ids = self._encode(chat, rendered, self._whole(chat))
        if token_ids is None or self._control(token_ids) == self._control_of(chat, plain):
            return token_ids
        # The template chooses by what a message says, or makes control tokens of its parts: where
        # no two characters are joined, only the template's own are left.
        (rendered,) = self._render(chat, [chat.apart], shape)
        apart_ids = self._encode(chat, rendered, chat.apart)
        if apart_ids is None or self._control(token_ids) != self._control(apart_ids):
            return apart_ids
        return token_ids

    def _whole(self, chat: _Chat) -> Rewrite:
        """All of a text, its control names broken."""
        mark = chat.marks.mark
        return lambda role, text: broken(
            text, self._special if role == "assistant" else self._special_or_written, mark
        )

    def _render(self, chat: _Chat, rewrites: Iterable[Rewrite], shape: ChatShape) -> list[Rendered]:
        arguments = broken_value(chat.arguments, self._special_or_written, chat.marks.mark)
        assert isinstance(arguments, dict)
        fixed = {
            "tools": None,
            "documents": None,
            **self._template.special_tokens,
            **self._template.arguments,
            **arguments,
            "add_generation_prompt": chat.options.add_generation_prompt,
        }
        return self._sandbox.render(
            self._template.text,
            [
                {**fixed, **chat.tools_told(rewrite), "messages": chat.told(rewrite, shape)}
                for rewrite in rewrites
            ],
        )

    def _encode(self, chat: _Chat, rendered: Rendered, rewrite: Rewrite) -> list[int] | None:
        if rendered.reason is not None:
            sentence = f"the chat template refuses it: {rendered.reason}"
            raise RequestRefused(sentence, "messages")
        text = chat.cut(rendered.text)
        if text is None or (chat.is_continued and chat.last_text(rewrite).strip() not in text):
            raise RequestRefused(
                "the chat template does not show the last message as it is; it cannot be continued",
                "continue_final_message",
            )
        return self._tokenizer.encode_marked(text, chat.marks.mark)

    def _control_of(self, chat: _Chat, rendered: Rendered) -> Counter[int] | None:
        text = None if rendered.reason is not None else chat.cut(rendered.text)
        if text is None:
            return None
        token_ids = self._tokenizer.encode_marked(text, chat.marks.mark)
        return None if token_ids is None else self._control(token_ids)

    def _control(self, token_ids: Iterable[int]) -> Counter[int]:
        forgeable = self._tokenizer.forgeable_ids
        return Counter(token_id for token_id in token_ids if token_id in forgeable)


class _Chat(msgspec.Struct, frozen=True):
    """What one prompt is made of."""

    messages: Sequence[ChatMessage]
    tools: list[Any]
    arguments: dict[str, object]
    options: TemplateOptions
    marks: Marks

    @property
    def is_continued(self) -> bool:
        return self.options.continue_final_message

    def apart(self, role: str, text: str) -> str:
        """A text whose characters are joined to nothing."""
        return broken_everywhere(text, self.marks.mark)

    def last_text(self, rewrite: Rewrite) -> str:
        return rewrite(self.messages[-1].role, self.messages[-1].content)

    def told(self, rewrite: Rewrite, shape: ChatShape) -> list[dict[str, Any]]:
        """As templates know them, with a mark where the last one is to go on."""
        messages = template_messages(self.messages, rewrite, shape)
        if self.is_continued:
            # The space behind it tells whether the template trims.
            messages[-1]["content"] += f"{self.marks.end} "
        return messages

    def tools_told(self, rewrite: Rewrite) -> dict[str, Any]:
        """Under the names by which templates know them; SmolLM3's is the second."""
        if not self.tools:
            return {}
        tools = template_tools(self.tools, rewrite)
        return {"tools": tools, "xml_tools": tools}

    def cut(self, text: str) -> str | None:
        """The prompt up to where it goes on; None: the template leaves that out."""
        if not self.is_continued:
            return text
        before, mark, after = text.rpartition(self.marks.end)
        if not mark:
            return None
        return before if after.startswith(" ") else before.rstrip()


def _neutral(_role: str, text: str) -> str:
    """A text that says nothing."""
    return "x" if text.strip() else text


def _texts(messages: Iterable[ChatMessage]) -> Iterator[str]:
    for message in messages:
        yield from (message.content, message.reasoning, message.name, message.tool_call_id)
        for call in message.tool_calls:
            yield from (call.call_id, call.name, call.arguments)


def _arguments(options: TemplateOptions) -> dict[str, object]:
    """The client's arguments.

    Raises:
        RequestRefused: they are none, or one of them is not a client's to give.
    """
    field = "chat_template_kwargs"
    if not options.arguments:
        return {}
    try:
        arguments: dict[str, object] = msgspec.json.decode(
            options.arguments, type=dict[str, object]
        )
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestRefused(f"{field} are no JSON object: {error}", field) from error
    if (depth := json_depth(options.arguments)) > MAX_DEPTH:
        raise RequestRefused(f"{field} of depth {depth} exceed {MAX_DEPTH}", field)
    for name in arguments:
        if name in _RESERVED or name.endswith("_token"):
            raise RequestRefused(f"{field}.{name} is not a client's to give", f"{field}.{name}")
    return arguments
