"""The shared uplink of a cell: path loss, rates, and shares of its bandwidth.

The noise is a power, whatever the bandwidth (as in the paper's set-up), so a user's rate is its
bandwidth times e_k = log2(1 + P g_k / noise).
"""

from __future__ import annotations

import numpy as np

from shared.speculation.goodput import FloatArray


def path_loss_decibels(distances_metres: FloatArray) -> FloatArray:
    """Of a macro cell at 2 GHz (3GPP TR 36.814): 128.1 + 37.6 log10(kilometres)."""
    losses: FloatArray = 128.1 + 37.6 * np.log10(distances_metres / 1000.0)
    return losses


def bits_per_hertz(losses_decibels: FloatArray, power_watts: float, noise_dbm: float) -> FloatArray:
    """e_k of each user [num_users], in bit/s per Hz."""
    power_dbm = 10.0 * np.log10(1000.0 * power_watts)
    ratios = 10.0 ** ((power_dbm - losses_decibels - noise_dbm) / 10.0)
    efficiencies: FloatArray = np.log2(1.0 + ratios)
    return efficiencies


def best_shares(prompt_bits: FloatArray, efficiencies: FloatArray) -> FloatArray:
    """Parts of the bandwidth with which the last upload ends earliest [num_users].

    All end at once: were one earlier, it could lend some of its bandwidth to the last. So B_k is in
    proportion to D_k / e_k, and the uploads take sum_j D_j / e_j over B.
    """
    wanted = prompt_bits / efficiencies
    shares: FloatArray = wanted / wanted.sum()
    return shares


def equal_shares(num_users: int) -> FloatArray:
    """The paper's baseline."""
    return np.full(num_users, 1.0 / num_users)


def upload_seconds(
    prompt_bits: FloatArray, efficiencies: FloatArray, shares: FloatArray, bandwidth_hertz: float
) -> float:
    """When the last upload has ended."""
    return float((prompt_bits / (efficiencies * shares * bandwidth_hertz)).max())
