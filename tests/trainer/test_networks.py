from __future__ import annotations

import re

import numpy as np
import pytest

from trainer import backend
from trainer.errors import TrainerError

backend.start()

from trainer import networks  # noqa: E402
from trainer.networks import NETWORKS, network  # noqa: E402


def test_seed_is_the_original_network_layer_for_layer() -> None:
    net = network("seed")
    model = net.build(net.input)
    layers = [type(layer).__name__ for layer in model.layers]
    assert layers == [
        "Rescaling",
        *["Conv2D", "MaxPooling2D"] * 3,
        "Flatten",
        "Dense",
        "Dense",
    ]
    assert [layer.filters for layer in model.layers[1:7:2]] == [16, 32, 16]
    assert model.count_params() == 3_696_625
    assert net.input.shape == (256, 256, 3)
    assert net.epochs == 20
    optimizer = net.optimizer(100, 0.5)
    assert type(optimizer).__name__ == "Adam"
    assert float(optimizer.learning_rate) == pytest.approx(0.0005)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_has_as_many_parameters_as_it_says(name: str) -> None:
    net = network(name)
    model = net.build(net.input)
    said = re.findall(r"\d+,[\d,]*\d", getattr(networks, name).__doc__ or "")
    assert f"{model.count_params():,}" in said


def test_a_scene_is_judged_by_what_imagenet_has_taught() -> None:
    net = network("scene")
    model = net.build(net.input)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 113
    assert not net.judges_faces
    assert net.input.shape == (96, 96, 3)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_turns_bytes_into_one_probability(name: str) -> None:
    net = network(name)
    model = net.build(net.input)
    assert model.input_shape == (None, *net.input.shape)
    assert model.output_shape == (None, 1)
    assert model.inputs[0].dtype == "uint8"


def test_an_unknown_network_is_named_with_the_known_ones() -> None:
    with pytest.raises(TrainerError, match=r"'vgg'.*compact, lite0, scene, seed"):
        network("vgg")
