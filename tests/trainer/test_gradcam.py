from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faces import draw_face
from tests.trainer.small import SIDE, bright_is_sad, bundle_of, predictor, seen
from trainer import backend
from trainer.bundle import Bundle
from trainer.crops import crops
from trainer.judging import Predictor
from trainer.stored import StoredNetwork

backend.start()

import keras  # noqa: E402
from keras import layers  # noqa: E402

from trainer.gradcam import explainer  # noqa: E402
from trainer.networks import NETWORKS, network  # noqa: E402


def noise(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, *shape), dtype=np.uint8)


def bright_and_dark_corner() -> np.ndarray:
    pixels = np.full((1, SIDE, SIDE, 1), 127, np.uint8)
    pixels[:, :8, :8] = 255
    pixels[:, -8:, -8:] = 20
    return pixels


def shares_of_corners(heat: np.ndarray) -> tuple[float, float]:
    """How much of the heat lies at the top left and at the bottom right."""
    return float(heat[:12, :12].sum() / heat.sum()), float(heat[-12:, -12:].sum() / heat.sum())


def assert_are_maps(maps: np.ndarray | None, shape: tuple[int, ...]) -> None:
    assert maps is not None
    assert maps.shape == shape
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize("sureness", [4.0, 1e5])
def test_the_heat_lies_where_the_explained_class_is_seen(sureness: float) -> None:
    """Also where the network is so sure that its sigmoid has no gradient any more."""
    model = bright_is_sad(sureness)
    explain = explainer(model)
    assert explain is not None
    pixels = np.repeat(bright_and_dark_corner(), 2, axis=0)
    assert (Predictor(StoredNetwork.of(model))(pixels) == 1).all() == (sureness > 1000)
    sad, happy = explain(pixels, np.array([True, False]))
    assert shares_of_corners(sad) == pytest.approx((1, 0), abs=0.01)
    assert shares_of_corners(happy) == pytest.approx((0, 1), abs=0.01)
    assert sad.max() == happy.max() == pytest.approx(1)


def test_where_nothing_speaks_for_the_class_there_is_no_heat() -> None:
    explain = explainer(bright_is_sad())
    assert explain is not None
    gray = np.full((1, SIDE, SIDE, 1), 127, np.uint8)
    assert not explain(gray, np.array([True])).any()


def test_a_bundle_explains_what_it_decided(shipped: Bundle) -> None:
    bundle = bundle_of(shipped, whole=predictor())
    bright, dark = np.repeat(bright_and_dark_corner(), 2, axis=0)
    bright[-8:, -8:] = 60
    dark[:8, :8] = 200
    images = [seen(Image.fromarray(x[..., 0]), bundle.info.view) for x in (bright, dark)]
    explained = bundle.explain(images)
    assert explained is not None
    assert [v.label for v in bundle.classify(images)] == ["sad", "happy"]
    for (pixels, heat), image, corner in zip(explained, images, (0, 1), strict=True):
        assert np.array_equal(pixels, image.pixels)
        assert shares_of_corners(heat)[corner] > 0.99


def test_of_an_image_with_faces_the_largest_is_explained(faces_alone: Bundle) -> None:
    group = Image.new("RGB", (400, 300), "gray")
    group.paste(draw_face(random.Random(1), "sad", (100, 100)), (20, 20))
    group.paste(draw_face(random.Random(2), "happy", (200, 200)), (180, 80))
    scene = Image.linear_gradient("L")
    images = [seen(image, faces_alone.info.view) for image in (group, scene)]
    explained = faces_alone.explain(images)
    assert explained is not None
    (of_group, _), (of_scene, _) = explained
    assert faces_alone.faces is not None
    [sight, _] = faces_alone.faces.finder.find(images)
    assert len(sight.faces) == 2
    largest = crops(
        sight.photo, sight.faces[[sight.faces.sides.argmax()]], faces_alone.info.main.input
    )
    assert np.array_equal(of_group, largest[0])
    assert np.array_equal(of_scene, images[1].pixels)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_explained_and_stays_as_it_is(name: str) -> None:
    net = network(name)
    model = net.build(net.input)
    before = model.to_json()
    explain = explainer(model)
    assert explain is not None
    maps = explain(noise(3, net.input.shape), np.array([True, False, True]))
    assert_are_maps(maps, (3, net.input.height, net.input.width))
    assert model.to_json() == before


def test_answers_do_not_depend_on_the_number_of_images(shipped: Bundle) -> None:
    spec = shipped.info.main.input
    images = [
        seen(Image.fromarray(pixels), shipped.info.view)
        for pixels in noise(19, (*spec.shape[:2], 3))
    ]
    together = shipped.explain(images)
    assert together is not None
    assert_are_maps(np.stack([heat for _, heat in together]), (19, *spec.shape[:2]))
    alone = shipped.explain(images[17:18])
    assert alone is not None
    np.testing.assert_allclose(alone[0][1], together[17][1], atol=1e-3)
    assert not shipped.explain([])


def spatial_in_a_nested_network() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    backbone = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Conv2D(4, 3, strides=2)])
    backbone.trainable = False
    x = layers.GlobalAveragePooling2D(keepdims=True)(backbone(layers.Rescaling(1 / 255)(image)))
    x = layers.Dense(1)(layers.Flatten()(x))
    return keras.Model(image, layers.Activation("sigmoid")(x))


def test_a_frozen_network_inside_a_network_is_looked_into() -> None:
    explain = explainer(spatial_in_a_nested_network())
    assert explain is not None
    maps = explain(noise(2, (SIDE, SIDE, 3)), np.array([True, False]))
    assert_are_maps(maps, (2, SIDE, SIDE))
    assert maps.std(axis=(1, 2)).max() > 0


@pytest.mark.parametrize(
    "tail",
    [
        [layers.Flatten(), layers.Dense(1, activation="sigmoid")],
        [layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(1, activation="tanh")],
    ],
    ids=["no convolution", "no sigmoid"],
)
def test_what_cannot_be_explained_has_no_maps(tail: list[Any]) -> None:
    image = keras.Input((SIDE, SIDE, 1), dtype="uint8")
    assert explainer(keras.Sequential([image, layers.Rescaling(1 / 255), *tail])) is None
