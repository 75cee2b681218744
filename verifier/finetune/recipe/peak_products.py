"""What a GPU's tensor cores could do in bfloat16, by its name, as its maker says: dense products.

Pure. A device that is not listed has no peak here; none is guessed.
"""

from __future__ import annotations

# Words that a name has, and operations a second; the first row that fits counts.
_PEAKS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("H100", "PCIe"), 756e12),
    (("H100", "NVL"), 835e12),
    (("H100",), 989e12),
    (("H200", "NVL"), 835e12),
    (("H200",), 989e12),
    (("A100",), 312e12),
)


def peak_operations(device_name: str) -> float | None:
    """Floating-point operations a second; None where nothing is known of the device."""
    for words, operations in _PEAKS:
        if all(word in device_name for word in words):
            return operations
    return None
