"""An answer in markdown, in pieces as the rounds of a made-up board would bring it."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator

from edge_agent.generation.generation import OwnReason, TextPiece, Timings

ANSWER = """\
## Why the sky is blue

Sunlight holds *all* colours. Air scatters the **short waves** far more than the long ones: the \
strength grows with the fourth power of the frequency, so blue is scattered about `4.4` times as \
much as red ([Rayleigh, 1871](https://en.wikipedia.org/wiki/Rayleigh_scattering)).

| Colour | Wavelength | Relative scattering |
|:-------|-----------:|:-------------------:|
| blue   | 450 nm     | 4.4 |
| green  | 530 nm     | 2.3 |
| red    | 650 nm     | 1.0 |

1. Look away from the sun: what you see was scattered, so it is **blue**.
2. Look at a sunset: blue has been scattered away.
   - the path through the air is some 40 times as long
   - what is left is red

```python
def scattering(wavelength_nm: float, reference_nm: float = 650.0) -> float:
    \"\"\"Relative to red.\"\"\"
    return (reference_nm / wavelength_nm) ** 4
```

> Violet is scattered even more, but our eyes see it less, and the sun sends less of it.

That is all: <b>no tag</b> of mine is more than text.
"""


def rounds_of(texts: Iterable[str], seed: int = 4, drafts: int = 5) -> Iterator[TextPiece]:
    """The texts as a board with drafts of this length would bring them, with figures."""
    chance = random.Random(seed)
    rest = iter(texts)
    tokens = accepted = survived = rejections = drafted = 0
    for num_rounds in itertools.count(1):
        length = drafts if num_rounds > 1 and chance.random() < 0.9 else 0
        num_good = next((i for i in range(length) if chance.random() > 0.78), length)
        texts_now = list(itertools.islice(rest, num_good + 1))
        if not texts_now:
            return
        num_accepted = len(texts_now) - 1
        tokens, accepted, drafted = (
            tokens + len(texts_now),
            accepted + num_accepted,
            drafted + length,
        )
        survived, rejections = survived + num_accepted, rejections + (num_good < length)
        yield from (TextPiece(text, "accepted") for text in texts_now[:-1])
        reason: OwnReason = "alone"
        if length:
            reason = "bonus" if num_good == length else "rejection"
        timings = Timings(
            prompt_tokens=12,
            cached_prefix_tokens=0,
            output_tokens=tokens,
            drafted_tokens=drafted,
            accepted_tokens=accepted,
            rejected_tokens=rejections,
            num_verdicts=num_rounds,
            num_drafting_verdicts=num_rounds,
            seconds_to_first_token=0.21,
            total_seconds=0.21 + num_rounds * 0.06,
            wire_bytes=tokens * 12,
            survived_tokens=survived,
            rejections=rejections,
            round_trip_seconds=0.024,
        )
        yield TextPiece(texts_now[-1], "target", reason, timings)


def tokens_of(text: str) -> list[str]:
    """Pieces as small as a vocabulary's: a short word with the space before it, or a sign."""
    return re.findall(r"\s?\w{1,6}|\s?[^\w\s]|\s", text)


def long_answer(num_tokens: int) -> str:
    """Markdown of about so many tokens: paragraphs, lists and code."""
    paragraph = "The **draft** goes on ahead, and the `target` checks it: " * 6
    code = "```python\nfor i in range(3):\n    go(i)\n```"
    part = f"{paragraph}\n\n- one *point*\n- another\n\n{code}\n\n"
    count = len(tokens_of(part))
    return part * (num_tokens // count + 1)
