"""Metrics, as Prometheus asks a running service for them."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers import Place, Service, free_port, jpeg, moodsort

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "monitoring"

Samples = dict[tuple[str, tuple[str, ...]], float]
"""Values by name and labels."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    """What is served when three good images and a bad one are filed."""
    place, address = Place(tmp_path_factory.mktemp("place")), f"127.0.0.1:{free_port()}"
    for n in range(3):
        (place.inbox / f"{n}.jpg").write_bytes(jpeg("happy", n))
    (place.inbox / "bad.jpg").write_bytes(b"no image")

    def ask() -> Samples:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            text = answer.read().decode()
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    with Service(place, "--metrics-listen", address) as service:
        service.wait_until_ready()
        service.wait_drained(4)
        service.wait_for(lambda: ask().get(("moodsort_whole_seconds_count", ())) == 4, "it counts")
        yield ask()
        assert service.stop() == 0


def test_images_and_failures_are_counted(samples: Samples) -> None:
    assert samples["moodsort_images_total", ("happy",)] == 3
    assert samples["moodsort_failures_total", ("not_an_image",)] == 1


def test_each_step_of_each_image_is_measured(samples: Samples) -> None:
    for name in ("settling", "decoding", "judging", "whole"):
        assert samples[f"moodsort_{name}_seconds_count", ()] == 4
        assert 0 < samples[f"moodsort_{name}_seconds_sum", ()] < 60


def test_each_step_of_each_batch_is_measured(samples: Samples) -> None:
    batches = samples["moodsort_batch_images_count", ()]
    assert 1 <= batches <= 4
    assert samples["moodsort_batch_images_sum", ()] == 4
    for name in ("commit", "filing"):
        assert samples[f"moodsort_{name}_seconds_count", ()] == batches


def test_how_it_does(samples: Samples) -> None:
    assert [value for (name, _), value in samples.items() if name == "moodsort_model_info"] == [1]
    assert samples["moodsort_free_bytes", ("inbox",)] > 0
    assert samples["moodsort_waits", ()] == 0
    assert ("moodsort_queue_length", ("finished",)) in samples


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_the_examples_ask_for_what_is_served(samples: Samples, name: str) -> None:
    text = (EXAMPLES / name).read_text()
    if name.endswith(".json"):
        panels = json.loads(text)["panels"]
        text = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    asked = set(re.findall(r"\b(?:moodsort|process)_[a-z_]+", text))
    assert asked
    assert asked <= {name for name, _ in samples}


def test_an_address_that_cannot_be_had(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = moodsort("run", "--inbox", place.inbox, "--metrics-listen", address)
    assert done.returncode == 1
    assert done.stderr == f"Error: Metrics cannot be served at {address}: Address already in use.\n"


def test_an_address_that_is_none(place: Place) -> None:
    done = moodsort("run", "--inbox", place.inbox, "--metrics-listen", "9109")
    assert done.returncode == 2
    assert "'9109' is no address like 127.0.0.1:9109" in done.stderr
