"""What the original system would do with a folder: one image at a time.

A process of its own, which prints images/s: python -m benchmarks.naive MODEL DATABASE OUT PHOTO…
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from pathlib import Path

from trainer import backend

backend.start()

import keras  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

SIZE = (256, 256)


def main(model: str, database: str, out: str, *photos: str) -> None:
    """Decode in full, `predict` on one image, move, commit."""
    network = keras.saving.load_model(model, compile=False)
    network.predict(np.zeros((1, *SIZE, 3), np.uint8), verbose=0)
    link = sqlite3.connect(database)
    link.execute("CREATE TABLE decisions (path TEXT, p_sad REAL)")
    begin = time.perf_counter()
    for photo in photos:
        with Image.open(photo) as image:
            pixels = np.asarray(image.convert("RGB").resize(SIZE), np.uint8)[None]
        p_sad = float(network.predict(pixels, verbose=0)[0, 0])
        shutil.move(photo, Path(out) / Path(photo).name)
        link.execute("INSERT INTO decisions VALUES (?, ?)", (photo, p_sad))
        link.commit()
    sys.stdout.write(f"{len(photos) / (time.perf_counter() - begin)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
