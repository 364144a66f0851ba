"""Probabilities and their logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def logit(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits of probabilities, which are kept from 0 and 1."""
    inside = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    logits: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return logits


def probability(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The reverse of `logit`."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64))), dtype=np.float32)


def with_temperature(p: NDArray[np.floating], temperature: float) -> NDArray[np.float32]:
    """Probabilities with their logits divided by `temperature`; float32, in (0, 1)."""
    return probability(logit(p) / temperature)
