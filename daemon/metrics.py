"""What Prometheus asks for, over HTTP, where `metrics_listen` says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.errors import ServiceError, SettingsError
from daemon.measures import Measure
from daemon.settings import host_and_port

if TYPE_CHECKING:
    from daemon.pipeline import Filed
    from daemon.status import Report

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds: an image may be decoded in one millisecond, and wait for minutes."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

ABOUT = {
    Measure.SETTLING: "Seconds from the first sight of a file until it was finished.",
    Measure.DECODING: "Seconds to read and decode an image.",
    Measure.BATCH: "Images in a batch.",
    Measure.JUDGING: "Seconds to judge an image: its share of those judged at once.",
    Measure.COMMIT: "Seconds to write the decisions of a batch into the database.",
    Measure.FILING: "Seconds to move the files of a batch.",
    Measure.WHOLE: "Seconds from the first sight of a file until it was filed.",
}


class Metrics:
    """Counts, and serves what was counted until it is closed; may be told by any thread."""

    def __init__(self, listen: str) -> None:
        """`listen` is HOST:PORT.

        Raises:
            SettingsError: the library is not installed.
            ServiceError: nothing can listen there.
        """
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise SettingsError(
                "metrics_listen needs the extra metrics: pip install -e '.[metrics]'."
            ) from None
        registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._images = prometheus.Counter(
            "moodsort_images", "Images that were filed.", ["label"], registry=registry
        )
        self._failures = prometheus.Counter(
            "moodsort_failures", "Files that could not be judged.", ["code"], registry=registry
        )
        self._measures = {
            what: prometheus.Histogram(
                f"moodsort_{what}_{'images' if what is Measure.BATCH else 'seconds'}",
                about,
                buckets=SIZES if what is Measure.BATCH else BUCKETS,
                registry=registry,
            )
            for what, about in ABOUT.items()
        }
        self._model = prometheus.Gauge(
            "moodsort_model_info", "The model that judges.", ["name", "sha256"], registry=registry
        )
        self._queues = prometheus.Gauge(
            "moodsort_queue_length", "What waits in a queue.", ["queue"], registry=registry
        )
        self._free = prometheus.Gauge(
            "moodsort_free_bytes", "Room on the disk of a folder.", ["folder"], registry=registry
        )
        self._trouble = prometheus.Gauge(
            "moodsort_waits", "1 while it waits for a disk or the database.", registry=registry
        )
        self._silence = prometheus.Gauge(
            "moodsort_silent_seconds",
            "How long a thread that should work has given no sign of life.",
            registry=registry,
        )
        host, port = host_and_port(listen)
        try:
            self._server, self._thread = prometheus.start_http_server(port, host, registry)
        except OSError as error:
            raise ServiceError(
                f"Metrics cannot be served at {listen}: {error.strerror or error}."
            ) from None

    def observe(self, what: Measure, value: float) -> None:
        """Something was measured."""
        self._measures[what].observe(value)

    def filed(self, filed: Sequence[Filed]) -> None:
        """These reached their places."""
        for one in filed:
            if one.decision.error_code:
                self._failures.labels(one.decision.error_code).inc()
            else:
                self._images.labels(one.decision.label).inc()

    def show(self, report: Report) -> None:
        """This is how the service does."""
        self._model.clear()
        if report.model:
            self._model.labels(report.model, report.model_sha256).set(1)
        for queue, length in report.waiting.items():
            self._queues.labels(queue).set(length)
        self._free.clear()
        for folder, free in report.free_bytes.items():
            if free is not None:
                self._free.labels(folder).set(free)
        self._trouble.set(report.trouble is not None)
        self._silence.set(report.silent_seconds)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
