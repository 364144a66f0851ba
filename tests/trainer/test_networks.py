from __future__ import annotations

import pytest

from trainer import backend
from trainer.errors import TrainerError

backend.start()

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
    optimizer = net.optimizer(100)
    assert type(optimizer).__name__ == "Adam"


def test_compact_is_small() -> None:
    compact, wide = (network(name).build(network(name).input) for name in ("compact", "wide"))
    assert compact.count_params() == 707_385
    assert wide.count_params() == 1_233_281


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_turns_bytes_into_one_probability(name: str) -> None:
    net = network(name)
    model = net.build(net.input)
    assert model.input_shape == (None, *net.input.shape)
    assert model.output_shape == (None, 1)
    assert model.inputs[0].dtype == "uint8"


def test_an_unknown_network_is_named_with_the_known_ones() -> None:
    with pytest.raises(TrainerError, match=r"'vgg'.*compact, seed, wide"):
        network("vgg")
