from __future__ import annotations

from tests.fuzz import broken, fuzz, samples
from trainer.image import InputSpec, View, decode, formats


def test_samples_are_whole_and_the_same_for_a_seed() -> None:
    whole = samples(3)
    assert whole == samples(3)
    assert {decode(data, View(InputSpec(8, 8, 1))).format for data in whole} == set(formats())
    assert broken(whole, 3, 7) == broken(whole, 3, 7) != broken(whole, 3, 8)


def test_broken_images_are_images_or_errors() -> None:
    report = fuzz(2000, seed=2)
    assert not report.failures, report
    assert report.outcomes.total() == 2000
    assert {"image", "damaged", "truncated", "not_an_image"} <= set(report.outcomes)
