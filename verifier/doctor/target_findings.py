"""Whether the target can run on this machine, and what is known of its speed. Pure."""

from __future__ import annotations

from pathlib import Path

from shared.daemon.resources.main_memory import gib
from shared.doctor.findings import Finding, ok, problem, warning
from verifier.target.target_need import TargetNeed

_SMALLER = "set target.dtype = bfloat16, a smaller target.model, or fewer target.kv_cache_tokens"
_SMALLER_ON_GPU = (
    "set target.quantisation = int8, a smaller target.model, another target.device, or split it "
    "over several GPUs (workers.gpus_per_worker), whose memory is not examined here"
)
# Below it, prompts of a few boards fill the cache.
_STREAMS_AT_LEAST = 4
# Libraries, compiled code and what rounds take beside weights and cache (`bench_memory`).
_PROGRAM_BYTES = 600_000_000


def target_finding(need: TargetNeed) -> Finding:
    """Its files are whole, and the device is there."""
    return ok("target", f"{need.model_name} in {need.dtype} on {need.hardware}")


def broken_target_finding(sentence: str) -> Finding:
    """It cannot be loaded."""
    return problem("target", sentence, "set target.model or target.device, or get the file again")


def gpu_finding(need: TargetNeed, has_driver: bool) -> Finding:
    """A GPU that is there and is not used is worth a sentence."""
    if need.is_on_gpu:
        return ok("gpu", need.hardware)
    if has_driver:
        return warning(
            "gpu",
            f"this machine has an NVIDIA driver, but the target runs on {need.hardware}",
            "set target.device = auto, and see with nvidia-smi and `python -c 'import torch; "
            "print(torch.cuda.is_available())'` why torch has no GPU",
        )
    return ok("gpu", "none; the target runs on the processor")


def memory_finding(need: TargetNeed, context_tokens: int, memory_fraction: float) -> Finding:
    """Weights, one round and the key/value cache against what is free."""
    place = "of the GPU" if need.is_on_gpu else "of main memory"
    smaller = _SMALLER_ON_GPU if need.is_on_gpu else _SMALLER
    if need.free_bytes is None:
        return ok("memory", f"weights {gib(need.weight_bytes)}; what is free cannot be told")
    free = f"{gib(need.free_bytes)} {place} free"
    if need.cache_tokens is None:
        left = need.free_bytes - need.weight_bytes - need.round_bytes
        num_tokens = max(0, int(memory_fraction * left)) // need.cached_token_bytes
    else:
        num_tokens = need.cache_tokens
    cache_bytes = num_tokens * need.cached_token_bytes
    program = "" if need.is_on_gpu else f" + program {gib(_PROGRAM_BYTES)}"
    sentence = (
        f"weights {gib(need.weight_bytes)} + a cache of {num_tokens} tokens {gib(cache_bytes)}"
        f"{program}, {free}"
    )
    if need.weight_bytes + cache_bytes > need.free_bytes or num_tokens < context_tokens:
        return problem("memory", f"too little: {sentence}", smaller)
    if need.weight_bytes + cache_bytes + need.round_bytes > need.free_bytes:
        return warning("memory", f"no room to spare for large rounds: {sentence}", smaller)
    if num_tokens < _STREAMS_AT_LEAST * context_tokens:
        return warning(
            "memory",
            f"{sentence}: {num_tokens // context_tokens} streams of {context_tokens} tokens",
            smaller,
        )
    return ok("memory", sentence)


def curve_finding(path: Path | None, fault: str | None, is_there: bool) -> Finding:
    """Whether `run` knows how long rounds take. `path`: where it looks; None: nowhere."""
    if path is None:
        return warning(
            "curve",
            "without state.directory the speed of rounds is measured at every start, and shortly",
            "set state.directory = /var/lib/goodspeed",
        )
    profile = "goodspeed-verifier profile"
    if not is_there:
        return warning(
            "curve", f"no cost curve at {path}: every start measures a few rounds", profile
        )
    if fault is not None:
        return warning("curve", f"{path}: {fault}; it will be measured again", profile)
    return ok("curve", f"{path} is that of this target")


def load_finding(seconds: float) -> Finding:
    """How long the target took to load."""
    return ok("load", f"loaded in {seconds:.1f} s")
