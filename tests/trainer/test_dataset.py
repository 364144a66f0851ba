from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import encoded
from tests.trainer.people import drawn
from trainer.dataset import BATCH, Example, decoded_batches
from trainer.image import InputSpec, View, decode

VIEW = View(InputSpec(8, 8, 1), 320)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """More than a batch, in which the second is broken and the fourth is gone."""
    paths = [tmp_path / f"{number}.png" for number in range(BATCH + 5)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(drawn(number, 20 + number), "PNG"))
    paths[1].write_bytes(b"no image")
    paths[3].unlink()
    return [Example(path, number % 2, 0) for number, path in enumerate(paths)]


def test_images_come_in_full_batches_with_their_examples(examples: list[Example]) -> None:
    told: list[int] = []
    batches = list(decoded_batches(examples, VIEW, 2, told.append))
    assert [(len(some), len(images)) for some, images in batches] == [(BATCH, BATCH), (3, 3)]
    good = [example for some, _ in batches for example in some]
    assert good == [e for number, e in enumerate(examples) if number not in (1, 3)]
    for some, images in batches:
        for example, image in zip(some, images, strict=True):
            want = decode(example.path.read_bytes(), VIEW)
            assert (image.width, image.pixels.tolist()) == (want.width, want.pixels.tolist())
            assert image.photo is not None
    assert sum(told) == len(examples)


def test_without_a_good_image_there_is_no_batch(examples: list[Example]) -> None:
    assert list(decoded_batches([examples[1], examples[3]], VIEW, 1)) == []
    assert list(decoded_batches([], VIEW, 1)) == []
