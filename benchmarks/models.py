"""Bundles to measure with, beside the shipped one."""

from __future__ import annotations

from pathlib import Path

from trainer import backend, bundle
from trainer.bundle import Bundle, BundleInfo, Stage
from trainer.dataset import CLASSES
from trainer.judging import Predictor
from trainer.stored import StoredNetwork


def untrained(name: str, to: Path) -> Path:
    """A bundle of the network called `name` with random weights, which take the same time."""
    backend.start()  # before Keras is imported
    from trainer.networks import network

    net = network(name)
    predict = Predictor(StoredNetwork.of(net.build(net.input), int8=net.int8))
    info = BundleInfo(
        format=bundle.FORMAT,
        name=name,
        classes=CLASSES,
        threshold=0.5,
        files={},
        faces=None,
        whole=Stage(name, bundle.MODEL_FILE, predict.spec, 1.0),
        fusion=None,
        metrics={},
        data={},
        versions={},
        command="",
        created_at="",
    )
    bundle.save(to, Bundle(info, "", whole=predict), {})
    return to
