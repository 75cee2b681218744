"""Turns become the token ids of a prompt: rendered in the sandbox, encoded so that none is forged.

This module must never trust a template, nor the text of a message or an argument. Roles it trusts:
the agent knows four.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from shared.errors import RequestRefused
from shared.protocol.messages import TemplateOptions
from verifier.chat_template.marks import (
    Marks,
    broken,
    broken_everywhere,
    broken_value,
    names_pattern,
    unused_marks,
)
from verifier.chat_template.sandbox_process import Rendered, SandboxProcess

# What a template gets from elsewhere.
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message")

_MAX_DEPTH = 64  # of lists and objects in each other

Turns = Sequence[tuple[str, str]]


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
        self._special = names_pattern(names.special)
        self._special_or_written = names_pattern(names.special | written)
        self._fixed_texts = (
            template.text,
            json.dumps(template.arguments, ensure_ascii=False),
            *template.special_tokens.values(),
        )

    def encode(self, turns: Turns, options: TemplateOptions) -> list[int]:
        """Token ids of the whole prompt.

        A name of a special token in a turn or an argument is text. So is one that prints, where
        the template writes it itself, save in a turn of the assistant, who said it as a token.
        All other text has the ids that transformers gives it.

        Raises:
            RequestRefused: the template or an argument does not fit; the sentence says why.
        """
        arguments = _arguments(options)
        given = json.dumps(arguments, ensure_ascii=False)
        for marks in unused_marks([*self._fixed_texts, given, *(text for _, text in turns)]):
            chat = _Chat(turns, arguments, options, marks)
            token_ids = self._encode_marked(chat)
            if token_ids is not None:
                return token_ids
        raise RequestRefused(
            "the target's tokenizer cannot tell the messages' text from control tokens", "messages"
        )

    def _encode_marked(self, chat: _Chat) -> list[int] | None:
        """None: with these marks the tokens cannot be told apart."""
        mark = chat.marks.mark
        whole = [(role, broken(text, self._pattern(role), mark)) for role, text in chat.turns]
        neutral = [(role, "x" if text.strip() else text) for role, text in chat.turns]
        rendered, plain = self._render(chat, [whole, neutral])
        token_ids = self._encode(chat, rendered, whole[-1][1])
        if token_ids is None or self._control(token_ids) == self._control_of(chat, plain):
            return token_ids
        # The template chooses by what a message says, or makes control tokens of its parts: where
        # no two characters are joined, only the template's own are left.
        apart = [(role, broken_everywhere(text, mark)) for role, text in chat.turns]
        (rendered,) = self._render(chat, [apart])
        apart_ids = self._encode(chat, rendered, apart[-1][1])
        if apart_ids is None or self._control(token_ids) != self._control(apart_ids):
            return apart_ids
        return token_ids

    def _render(self, chat: _Chat, renders: Iterable[Turns]) -> list[Rendered]:
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
            self._template.text, [{**fixed, "messages": chat.messages(turns)} for turns in renders]
        )

    def _encode(self, chat: _Chat, rendered: Rendered, last_text: str) -> list[int] | None:
        if rendered.reason is not None:
            sentence = f"the chat template refuses it: {rendered.reason}"
            raise RequestRefused(sentence, "messages")
        text = chat.cut(rendered.text)
        if text is None or (chat.is_continued and last_text.strip() not in text):
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

    def _pattern(self, role: str) -> re.Pattern[str] | None:
        return self._special if role == "assistant" else self._special_or_written


class _Chat(msgspec.Struct, frozen=True):
    """What one prompt is made of."""

    turns: Turns
    arguments: dict[str, object]
    options: TemplateOptions
    marks: Marks

    @property
    def is_continued(self) -> bool:
        return self.options.continue_final_message

    def messages(self, turns: Turns) -> list[dict[str, str]]:
        """As templates know them, with a mark where the last one is to go on."""
        messages = [{"role": role, "content": content} for role, content in turns]
        if self.is_continued:
            # The space behind it tells whether the template trims.
            messages[-1]["content"] += f"{self.marks.end} "
        return messages

    def cut(self, text: str) -> str | None:
        """The prompt up to where it goes on; None: the template leaves that out."""
        if not self.is_continued:
            return text
        before, mark, after = text.rpartition(self.marks.end)
        if not mark:
            return None
        return before if after.startswith(" ") else before.rstrip()


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
    if (depth := _depth(options.arguments)) > _MAX_DEPTH:
        raise RequestRefused(f"{field} of depth {depth} exceed {_MAX_DEPTH}", field)
    for name in arguments:
        if name in _RESERVED or name.endswith("_token"):
            raise RequestRefused(f"{field}.{name} is not a client's to give", f"{field}.{name}")
    return arguments


def _depth(json_text: str) -> int:
    """How deep lists and objects stand in each other; more, if texts hold brackets."""
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", json_text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
