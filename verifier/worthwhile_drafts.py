"""How many draft tokens a round should hold for everybody's sake.

A draft token is free for its own stream as long as rounds cost the same; but it lengthens the round
of all streams, and what each of many gladly takes for itself can slow all of them down.  This
module must never say which stream gets the tokens: the policy does.
"""

from __future__ import annotations

import numpy as np

from verifier.goodput import FloatArray, IntArray, expected_tokens


def worthwhile_drafts(rates: FloatArray, max_lengths: IntArray, round_seconds: FloatArray) -> int:
    """Return the number of draft tokens with the largest sum of log tokens per second.

    That is proportional fairness in time: sum_i log(mu_i(S_i) / T), over all streams of the round,
    also those that do not draft. Of k tokens the most useful ones are taken: a token more in
    stream i gains log(mu_i(s+1) / mu_i(s)), which falls with s, and costs each stream the growth
    of log T.

    Args:
        rates: acceptance rates [num_streams].
        max_lengths: the longest draft of each stream [num_streams].
        round_seconds: T of the round with 0, 1, 2, ... draft tokens; ends the search.
    """
    if not max_lengths.any():
        return 0
    lengths = np.arange(int(max_lengths.max()) + 1)
    logs = np.log(expected_tokens(rates[:, None], lengths[None, :]))
    gains = np.diff(logs, axis=1)[lengths[None, 1:] <= max_lengths[:, None]]
    most_useful = np.sort(gains)[::-1][: len(round_seconds) - 1]
    gained = np.concatenate([[0.0], np.cumsum(most_useful)])
    lost = len(rates) * np.log(round_seconds[: len(gained)] / round_seconds[0])
    return int(np.argmax(gained - lost))
