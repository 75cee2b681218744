"""The interfaces of a target model and of its tokenizer.

The planner makes a `Round`, an engine thread gives it to a `TargetModel`, the planner settles the
outcome. This wing must never import torch, so that planner, simulator and tests run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from shared.errors import ModelError
from shared.protocol.messages import PLAIN_TEMPLATE, ChatMessage, OutputFormat, TemplateOptions
from verifier.target.round import Round, RoundOutcome


class OutOfMemory(ModelError):
    """There is no memory for a round of this size."""


class DeviceLost(ModelError):
    """The device that the target runs on does not work any more."""


class TargetLost(ModelError):
    """The worker that held the target is gone with its cache; the round may run at another one."""


class TargetModel(Protocol):
    """The target behind one interface. One thread uses it."""

    @property
    def model_name(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context_tokens(self) -> int:
        """The longest sequence that the model can read."""
        ...

    @property
    def num_blocks(self) -> int:
        """Blocks in the key/value cache."""
        ...

    @property
    def block_tokens(self) -> int:
        """Tokens that one block holds."""
        ...

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; blocks of the tables are written, nothing is kept about streams.

        Raises:
            DeviceLost: no round will ever run again.
            TargetLost: the same, but what it was to run is not to blame, as far as is known.
            OutOfMemory: a smaller round may run.
            Exception: any other, of some item; parts of the round may be run again.
        """
        ...


@runtime_checkable
class SentTarget(Protocol):
    """A target whose rounds begin elsewhere, once they are packed and sent."""

    when_begun: Callable[[], None]  # called with every round as it begins, in the thread of `run`

    def send_ahead(self, round_: Round) -> bool:
        """Send the round that `run` is given next, as far as it goes at once; whether that is all.

        For the thread that has made it: it may be left out.
        """
        ...


class Tokenizer(Protocol):
    """The target's tokenizer and chat template; only the verifier has one."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The literal bytes of every id; special tokens too."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that print nothing."""
        ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end an output."""
        ...

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        """Token ids of a plain prompt; `adds_special`: with what is set around a whole one.

        A name of a special token in it becomes that token: who asks for a completion writes what
        a template would write.
        """
        ...

    @property
    def output_format(self) -> OutputFormat:
        """How the target writes calls and thoughts, before a prompt opens any."""
        ...

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions = PLAIN_TEMPLATE,
        tools: bytes = b"",
    ) -> list[int]:
        """Token ids of a chat, as the options say, with these tools, a JSON list, on offer.

        No text of a message or a tool becomes a control token.

        Raises:
            RequestRefused: the model has no chat template, or the template refuses the turns.
        """
        ...
