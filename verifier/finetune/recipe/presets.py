"""Drafts that were made and measured, by name: what `finetune` was told for each.

devices/drafts/README.md says how good they are. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Names and values are those of the command's options.
Preset = Mapping[str, object]

# Kinds of talk that boards are asked for, and that SmolLM2 seldom asks itself for.
_BEGUN = (
    *("Translate", "Translate the following sentence from German to English:"),
    *("Summarize", "Summarize this news article:", "Read the passage and answer the question."),
    *("Write a Python function that", "Complete this code:", "Solve step by step:"),
    *("Who", "When", "Imagine you are", "Explain"),
)
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "smollm2-18m": {"minutes": 16.5, "questions": 49_152},
        "smollm2-42m": {
            "shape": "256x12x1536",
            "untied": True,
            "minutes": 22.0,
            "questions": 49_152,
            "begun": _BEGUN,
            "long_prompts": 3_000,
            "prompt_tokens": 1_152,
        },
    }
)
