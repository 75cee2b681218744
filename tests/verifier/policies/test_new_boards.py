"""A board that is hardly known is taken for a good one."""

from __future__ import annotations

import numpy as np

from verifier.policies.new_boards import OPTIMISTIC_POSITIONS, OPTIMISTIC_RATE, believed_rates


def test_only_what_is_hardly_known_is_believed_to_be_better_than_it_looks() -> None:
    rates = np.array([0.3, 0.95, 0.3, 0.95])
    observed = np.array([0, OPTIMISTIC_POSITIONS - 1, OPTIMISTIC_POSITIONS, 99])
    assert [OPTIMISTIC_RATE, 0.95, 0.3, 0.95] == believed_rates(rates, observed).tolist()
