"""Bring up TensorFlow the way all of moodsort wants it."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NVIDIA_DRIVER = Path("/proc/driver/nvidia")
"""Where the loaded NVIDIA kernel driver shows itself."""

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux says what the processor can do."""

BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16"}
"""As it calls what computes in bfloat16."""

CHATTER = (
    b"I0000 ",
    b"INFO: Created TensorFlow Lite",
    b"WARNING: All log messages before absl::InitializeLog()",
)
"""How lines of native code begin that nobody needs to read."""


def start() -> None:
    """Import TensorFlow quietly and let GPU memory grow on demand; the second call costs nothing.

    To be called before `keras` is imported and before any GPU is touched.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow turns oneDNN on by itself only for CPUs with AVX-512. With AVX2 alone training is
    # 1.5 to 1.9 times as fast with it, too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with without_native_chatter():
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    # What it brought along is there to stay. To look through all of it for garbage, again and
    # again, takes a short training 4 % longer.
    gc.freeze()


def has_gpu() -> bool:
    """Whether TensorFlow can compute on a GPU; it is imported only where there may be one."""
    if not NVIDIA_DRIVER.exists():
        return False
    start()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def gpus() -> list[str]:
    """TensorFlow's names of the GPUs that it computes on; call `start` before."""
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]


def fastest_precision() -> str:
    """The Keras dtype policy that trains fastest on what this machine has; call `start` before.

    Measured: with AMX, bfloat16 takes 0.4 of float32's time, with AVX512_BF16 0.8; without either
    it is emulated and takes more than 10 times as long. NVIDIA GPUs have float16 units since
    compute capability 7.0 and bfloat16 ones, which need no loss scaling, since 8.0 (NVIDIA, CUDA
    C++ Programming Guide).
    """
    if least := _least_capability():
        if least >= (8, 0):
            return "mixed_bfloat16"
        return "mixed_float16" if least >= (7, 0) else "float32"
    return "mixed_bfloat16" if _cpu_flags() & BFLOAT16_UNITS else "float32"


def half_precision() -> str | None:
    """The Keras dtype policy that may judge faster than float32 on all GPUs; None where none may.

    float16 keeps three bits more of each number than bfloat16. Call `start` before.
    """
    least = _least_capability()
    return "mixed_float16" if least and least >= (7, 0) else None


def _least_capability() -> tuple[int, int] | None:
    """The compute capability of the GPU that has the least; None without a GPU."""
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return min((one.get("compute_capability", (0, 0)) for one in details), default=None)


def _cpu_flags() -> set[str]:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:  # Another system than Linux.
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@contextmanager
def without_native_chatter() -> Iterator[None]:
    """Hold back what native code writes to descriptor 2, then pass on what is no chatter.

    TensorFlow's and LiteRT's libraries write informational lines there, whatever the log level.
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
    return line.startswith(CHATTER)
