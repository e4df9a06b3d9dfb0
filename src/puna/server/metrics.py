"""Figures of a server in Prometheus' form: what was asked and answered, and what is loaded and waits now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from puna.generation import Stats

if TYPE_CHECKING:
    from puna.server.models import Loaded
    from puna.server.server import Server

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counts answers and failures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._failures = Counter("puna_failures", "Requests that failed.", ["status"], registry=self.registry)
        self._answers = self._counter("puna_answers", "Answers that were complete.")
        self._prompt = self._counter("puna_prompt_tokens", "Tokens of prompts.")
        self._cached = self._counter("puna_cached_tokens", "Of those, taken from the cache.")
        self._tokens = self._counter("puna_tokens", "Tokens of answers.")
        self._proposed = self._counter("puna_proposed_tokens", "Tokens computed before it was known that they come.")
        self._accepted = self._counter("puna_accepted_tokens", "Of those, the ones that came.")
        self._first = self._histogram("puna_first_token_seconds", "From a request to its first token.")
        self._whole = self._histogram("puna_answer_seconds", "From a request to its end.")

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(name, about, ["model"], registry=self.registry)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ["model"], buckets=SECONDS, registry=self.registry)

    def answered(self, model: str, stats: Stats, seconds: float) -> None:
        """Count an answer that took so long."""
        self._answers.labels(model).inc()
        self._prompt.labels(model).inc(stats.prompt_tokens)
        self._cached.labels(model).inc(stats.cached_tokens)
        self._tokens.labels(model).inc(stats.tokens)
        self._proposed.labels(model).inc(stats.proposed_tokens)
        self._accepted.labels(model).inc(stats.accepted_tokens)
        self._first.labels(model).observe(stats.load_seconds + stats.prompt_seconds)
        self._whole.labels(model).observe(seconds)

    def failed(self, status: int) -> None:
        """Count a request that came to nothing."""
        self._failures.labels(str(status)).inc()


class _Loaded(Collector):
    """What is loaded in a server, and who waits for it. Of models in one process the first by name counts for all."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauges = {
            "puna_model_bytes": "Memory that a loaded model takes.",
            "puna_requests_running": "Requests that a model answers.",
            "puna_requests_waiting": "Requests that wait for their turn.",
        }
        families = {name: GaugeMetricFamily(name, about, labels=["model"]) for name, about in gauges.items()}
        processes = {model.worker: model for model in sorted(self._server.models.loaded, key=_name, reverse=True)}
        for model in processes.values():
            values = (model.wanted.size, model.worker.jobs, model.turns.waiting)
            for family, value in zip(families.values(), values, strict=True):
                family.add_metric([model.wanted.name], value)
        yield from families.values()


def _name(model: Loaded) -> str:
    return model.wanted.name


def exposed(server: Server) -> tuple[bytes, str]:
    """All figures as text, and the kind of text."""
    now = CollectorRegistry()
    now.register(_Loaded(server))
    return generate_latest(server.metrics.registry) + generate_latest(now), CONTENT_TYPE_LATEST
