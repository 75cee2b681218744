"""What a request does to the rows that a board draws from: biases, penalties, min_p. Pure.

For acceptance alone: the target's own rows are changed by the verifier, whatever a board does. In
`rejection` the changed row is the one that is drawn from and sent, so the text stays exact. Ends
that are ruled out are left to the verifier: only it knows which they are. What is done to a row is
in `changed_row`: a board without a model has none, and no numpy for it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors


class RowChange(msgspec.Struct, frozen=True, eq=False):
    """What is done to one row; `written` are output and draft before it."""

    changes: RowChanges
    written: tuple[int, ...]


class RowChanges:
    """Of one stream; its prompt is looked at once."""

    def __init__(self, processors: LogitProcessors = NO_PROCESSORS) -> None:
        self.processors = processors
        self.seen_prompt = array("q")  # distinct, in their order
        self.is_any = bool(processors.has_penalties or processors.logit_bias or processors.min_p)

    def behind(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], drafted_ids: Sequence[int]
    ) -> RowChange | None:
        """What is done to the row behind these; None: nothing. The prompt is ever the same."""
        if not self.is_any:
            return None
        if not self.processors.has_penalties:
            return RowChange(self, ())
        if self.processors.repetition_penalty != 1 and not len(self.seen_prompt):
            self.seen_prompt = array("q", sorted(set(prompt_ids)))
        return RowChange(self, (*output_ids, *drafted_ids))
