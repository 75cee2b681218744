"""Training AWC's network: absolute error, AdamW, 100 epochs, as the paper; all in numpy.

Width, step size, batch and decay are not known from the paper; ours stand here. This module must
never play a simulation.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.policies.awc import MAX_WINDOW, MIN_WINDOW, AwcWeights, network_windows
from verifier.reproduction.dsd.situations import Examples

WIDTH = 12
NUM_BLOCKS = 2
NUM_EPOCHS = 100
BATCH = 64
STEP_SIZE = 3e-3
DECAY = 1e-3
MEMORY = (0.9, 0.999)
HELD_OUT_PART = 0.2
# The network begins in the middle of its windows.
FIRST_OUTPUT = 4.0

Parameters = dict[str, FloatArray]


class Trained(msgspec.Struct, frozen=True):
    """A network, and how well it does on situations that it has not seen."""

    weights: AwcWeights
    held_out_error: float
    """Mean absolute error of the clamped window."""
    middle_error: float
    """Of saying the training set's median always."""
    num_held_out: int
    fused_part: float
    """Of all labels."""


def train(
    examples: Examples, seed: int, advance: Callable[[float], None], num_epochs: int = NUM_EPOCHS
) -> Trained:
    """Whole situations are held out: a fifth, drawn by the seed."""
    random = np.random.default_rng([seed, 7])
    situations = np.unique(examples.situations)
    held = random.permutation(situations)[: max(int(HELD_OUT_PART * len(situations)), 1)]
    is_held = np.isin(examples.situations, held)
    inputs, labels = examples.inputs[~is_held], examples.labels[~is_held]
    parameters = _first(random, inputs.shape[1])
    means = {name: np.zeros_like(value) for name, value in parameters.items()}
    squares = {name: np.zeros_like(value) for name, value in parameters.items()}
    num_steps = 0
    for epoch in range(num_epochs):
        order = random.permutation(len(labels))
        step_size = STEP_SIZE * 0.5 * (1.0 + np.cos(np.pi * epoch / num_epochs))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            num_steps += 1
            slopes = gradients(parameters, inputs[rows], labels[rows])
            _step(parameters, slopes, means, squares, num_steps, float(step_size))
        advance((epoch + 1) / num_epochs)
    weights = _weights(parameters)
    said = np.clip(network_windows(weights, examples.inputs[is_held]), MIN_WINDOW, MAX_WINDOW)
    truth = np.maximum(examples.labels[is_held], MIN_WINDOW)
    middle = max(float(np.median(labels)), MIN_WINDOW)
    return Trained(
        weights=weights,
        held_out_error=float(np.abs(said - truth).mean()),
        middle_error=float(np.abs(middle - truth).mean()),
        num_held_out=len(truth),
        fused_part=float((examples.labels <= MIN_WINDOW).mean()),
    )


def loss(parameters: Parameters, inputs: FloatArray, labels: FloatArray) -> float:
    """Mean absolute error, not clamped."""
    return float(np.abs(network_windows(_weights(parameters), inputs) - labels).mean())


def gradients(parameters: Parameters, inputs: FloatArray, labels: FloatArray) -> Parameters:
    """Of the loss, by the chain rule backwards through the blocks."""
    hidden = [inputs @ parameters["into"] + parameters["into_bias"]]
    inner = []
    for block in range(NUM_BLOCKS):
        before = hidden[-1] @ parameters[f"first{block}"] + parameters[f"first_bias{block}"]
        gates = 1.0 / (1.0 + np.exp(-before))
        inner.append((before, gates))
        after = (before * gates) @ parameters[f"second{block}"] + parameters[f"second_bias{block}"]
        hidden.append(hidden[-1] + after)
    raw = hidden[-1] @ parameters["out"] + parameters["out_bias"][0]
    of_raw = np.sign(raw - labels) / len(labels)
    slopes: Parameters = {
        "out": hidden[-1].T @ of_raw,
        "out_bias": np.array([of_raw.sum()]),
    }
    of_hidden = of_raw[:, None] * parameters["out"]
    for block in reversed(range(NUM_BLOCKS)):
        before, gates = inner[block]
        slopes[f"second{block}"] = (before * gates).T @ of_hidden
        slopes[f"second_bias{block}"] = of_hidden.sum(axis=0)
        of_silu = of_hidden @ parameters[f"second{block}"].T
        of_before = of_silu * gates * (1.0 + before * (1.0 - gates))
        slopes[f"first{block}"] = hidden[block].T @ of_before
        slopes[f"first_bias{block}"] = of_before.sum(axis=0)
        of_hidden = of_hidden + of_before @ parameters[f"first{block}"].T
    slopes["into"] = inputs.T @ of_hidden
    slopes["into_bias"] = of_hidden.sum(axis=0)
    return slopes


def _step(
    parameters: Parameters,
    slopes: Parameters,
    means: Parameters,
    squares: Parameters,
    num_steps: int,
    step_size: float,
) -> None:
    """AdamW (Loshchilov and Hutter 2019): the decay is not part of the slope."""
    first, second = MEMORY
    for name, slope in slopes.items():
        means[name] = first * means[name] + (1.0 - first) * slope
        squares[name] = second * squares[name] + (1.0 - second) * slope**2
        mean = means[name] / (1.0 - first**num_steps)
        square = squares[name] / (1.0 - second**num_steps)
        decay = 0.0 if "bias" in name else DECAY
        parameters[name] = (
            parameters[name]
            - step_size * mean / (np.sqrt(square) + 1e-8)
            - step_size * decay * parameters[name]
        )


def _first(random: np.random.Generator, num_inputs: int) -> Parameters:
    def drawn(*shape: int) -> FloatArray:
        values: FloatArray = random.standard_normal(shape) / np.sqrt(shape[0])
        return values

    parameters = {
        "into": drawn(num_inputs, WIDTH),
        "into_bias": np.zeros(WIDTH),
        "out": drawn(WIDTH),
        "out_bias": np.array([FIRST_OUTPUT]),
    }
    for block in range(NUM_BLOCKS):
        parameters[f"first{block}"] = drawn(WIDTH, WIDTH)
        parameters[f"first_bias{block}"] = np.zeros(WIDTH)
        parameters[f"second{block}"] = 0.5 * drawn(WIDTH, WIDTH)
        parameters[f"second_bias{block}"] = np.zeros(WIDTH)
    return parameters


def _weights(parameters: Parameters) -> AwcWeights:
    blocks = tuple(
        (
            parameters[f"first{block}"],
            parameters[f"first_bias{block}"],
            parameters[f"second{block}"],
            parameters[f"second_bias{block}"],
        )
        for block in range(NUM_BLOCKS)
    )
    return AwcWeights(
        parameters["into"],
        parameters["into_bias"],
        blocks,
        parameters["out"],
        float(parameters["out_bias"][0]),
    )


def num_weights(weights: AwcWeights) -> int:
    """Numbers in a network."""
    blocks: list[FloatArray | IntArray] = [part for block in weights.blocks for part in block]
    parts = [weights.into, weights.into_bias, weights.out, *blocks]
    return sum(part.size for part in parts) + 1
