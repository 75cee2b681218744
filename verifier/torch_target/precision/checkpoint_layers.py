"""The layers of a checkpoint of fewer bits: which keep their numbers, and their products.

Between the two a `CheckpointLinear` stands in the layer's place. It must never round a weight that
is kept, nor widen one without a word in the log.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import GenerationConfig

from shared.errors import ModelError
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.layers.checkpoint_weights import (
    CheckpointLinear,
    CheckpointWeight,
    beside,
    can_stand_beside,
    place_weights,
)
from verifier.torch_target.model_files.checkpoint_scheme import CheckpointScheme, read_scheme
from verifier.torch_target.precision.checkpoint_files import read_checkpoint
from verifier.torch_target.precision.checkpoint_products import obstacle, product_of
from verifier.torch_target.precision.quantisation import (
    layers_of_product,
    one_input_groups,
    quantisable,
)
from verifier.torch_target.precision.torch_device import dtype_name

logger = logging.getLogger(__name__)


class CheckpointLayers:
    """A checkpoint of fewer bits on its way into a model."""

    def __init__(
        self,
        directory: Path,
        scheme: CheckpointScheme,
        device: torch.device,
        dtype: torch.dtype,
        outline: Any,
        *,
        keeps: bool,
    ) -> None:
        """`keeps`: numbers stay as they are where the device has a product for them.

        `outline`, the model without weights, gets the sizes that the model will have.

        Raises:
            ModelError: a layer of the files is not what they say, or not the model's.
        """
        self._directory, self._scheme = directory, scheme
        self._device, self._dtype, self._keeps = device, dtype, keeps
        self._model_class = type(outline)
        self._sizes = {name: tuple(m.weight.shape) for name, m in quantisable(outline).items()}
        found = read_checkpoint(directory, scheme, only_sizes=True)
        for name, weight in found.weights.items():
            self._check_sizes(name, weight)
        kept, _ = self._sorted(found.weights)
        place_weights(outline, kept)

    def load(self, config: Any, **options: Any) -> Any:
        """What `from_pretrained` gives with these options.

        Raises:
            ModelError: as `__init__`.
            Exception: whatever transformers raises.
        """
        kept, tensors = self._read()
        config = copy.deepcopy(config)
        del config.quantization_config  # transformers would want its own package for it
        if (self._directory / "generation_config.json").is_file():
            options["generation_config"] = GenerationConfig.from_pretrained(self._directory)
        load: Any = _holding(self._model_class, kept).from_pretrained
        return load(None, config=config, state_dict=tensors, **options)

    def _read(self) -> tuple[dict[str, CheckpointWeight], dict[str, Tensor]]:
        """Weights that are kept, by their layers; all other tensors, with wide weights."""
        found = read_checkpoint(self._directory, self._scheme)
        kept, reasons = self._sorted(found.weights)
        tensors = dict(found.tensors)
        for name in reasons:
            tensors[f"{name}.weight"] = found.weights.pop(name).widened(self._dtype)
        self._log(kept, reasons)
        return kept, tensors

    def _sorted(
        self, weights: dict[str, CheckpointWeight]
    ) -> tuple[dict[str, CheckpointWeight], dict[str, str]]:
        """Those that are kept, and why the others are not."""
        reasons = {name: self._reason(name, weight) for name, weight in weights.items()}
        kept = {name: weights[name] for name, reason in reasons.items() if reason is None}
        return kept, {name: reason for name, reason in reasons.items() if reason is not None}

    def _reason(self, name: str, weight: CheckpointWeight) -> str | None:
        if not self._keeps:
            return "target.batch_invariant needs whole weights"
        if name not in self._sizes:
            return "experts and logits have no product of fewer bits"
        return obstacle(weight, self._device, self._dtype)

    def _check_sizes(self, name: str, weight: CheckpointWeight) -> None:
        shape = (weight.num_outputs, weight.num_inputs)
        expected = self._sizes.get(name, shape)
        if shape != expected:
            raise ModelError(
                f"cannot load {self._directory} as a target: its {name} has "
                f"{' × '.join(map(str, shape))} weights, and what it says of itself needs "
                f"{' × '.join(map(str, expected))}"
            )

    def _log(self, kept: dict[str, CheckpointWeight], reasons: dict[str, str]) -> None:
        why = "; ".join(
            f"{number} widened to {dtype_name(self._dtype)}, as {reason}"
            for reason, number in Counter(reasons.values()).most_common()
        )
        scales = {weight.scales.dtype for weight in kept.values()} - {self._dtype, torch.float32}
        rounded = "".join(
            f", {dtype_name(dtype)} scales rounded to {dtype_name(self._dtype)}" for dtype in scales
        )
        logger.info(
            "%d linear layers keep the numbers of the files (%s%s)%s",
            *(len(kept), self._scheme, rounded, why and f"; {why}"),
        )


def checkpoint_layers(
    path: Path,
    config: Any,
    outline: Any,
    settings: TargetSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> CheckpointLayers | None:
    """The layers of a checkpoint of fewer bits; None: it is none, or transformers widens it.

    Raises:
        ModelError: its kind is not known, its layers are not what they should be, or the settings
            want to quantise it again.
    """
    said = getattr(config, "quantization_config", None)
    scheme = read_scheme(said, path)
    if scheme is None:
        if said is not None:
            config.quantization_config = {**said, "dequantize": True}
        return None
    if settings.quantisation != "none":
        raise ModelError(
            f"target.quantisation is {settings.quantisation}, but the weights of {path} have fewer "
            f"bits already ({scheme}); set target.quantisation = none"
        )
    if not path.is_dir():  # a name on the hub
        path = Path(snapshot_download(str(path), allow_patterns=["*.safetensors", "*.json"]))
    return CheckpointLayers(
        path, scheme, device, dtype, outline, keeps=not settings.batch_invariant
    )


def _holding(model_class: type[Any], kept: dict[str, CheckpointWeight]) -> type[Any]:
    """The model's class, whose layers hold these weights before any tensor is read."""

    class Holding(model_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            place_weights(self, kept)

    Holding.__name__, Holding.__qualname__ = model_class.__name__, model_class.__qualname__
    Holding.__module__ = model_class.__module__  # where its functions are looked up
    return Holding


def use_own_products(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Put the device's products in the places of a model's `CheckpointLinear`.

    On a GPU those of one input become one.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, CheckpointLinear)}

    def can_merge(names: Sequence[str]) -> bool:
        chosen = [layers[name] for name in names]
        has_bias = {layer.bias is not None for layer in chosen}
        return (
            device.type == "cuda"
            and len(has_bias) == 1
            and can_stand_beside([layer.quantised for layer in chosen])
        )

    like = torch.empty(0, dtype=dtype, device=device)
    for names in one_input_groups(layers, can_merge):
        chosen = [layers[name] for name in names]
        weight = beside([layer.quantised for layer in chosen])
        biases = [layer.bias for layer in chosen if layer.bias is not None]
        bias = torch.cat([bias.detach().to(dtype) for bias in biases]) if biases else None
        product = product_of(weight, bias, device, dtype)
        sizes = [layer.out_features for layer in chosen]
        replacements = layers_of_product(product, weight.num_inputs, sizes, like)
        for name, replacement in zip(names, replacements, strict=True):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, replacement)
            del layers[name].quantised
