"""Bring up TensorFlow the way all of moodsort wants it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NVIDIA_DRIVER = Path("/proc/driver/nvidia")
"""Where the loaded NVIDIA kernel driver shows itself."""


def start() -> None:
    """Import TensorFlow quietly and let GPU memory grow on demand; the second call costs nothing.

    To be called before `keras` is imported and before any GPU is touched.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_native_chatter():
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


@contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Hold back what native code writes to descriptor 2, then pass on what is no chatter.

    TensorFlow's libraries write informational lines there before their log level counts.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "wb") as real:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real.fileno(), 2)
            held.seek(0)
            for line in held:
                if not _is_chatter(line):
                    real.write(line)


def _is_chatter(line: bytes) -> bool:
    if b"cuInit" in line:
        return not NVIDIA_DRIVER.exists()  # Without a driver there is no GPU to complain about.
    return line.startswith((b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()"))
