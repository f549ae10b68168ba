"""The port of one service: what is at each path, from its first moment to its last."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from usageaudit.errors import ConfigurationError
from usageaudit.operating.address import parse_address
from usageaudit.operating.collecting import ServiceCollector, registry_of
from usageaudit.operating.port import Answer, HttpPort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from usageaudit.operating.collecting import Dispatching
    from usageaudit.operating.health import Health
    from usageaudit.operating.watching import Watch
    from usageaudit.pipeline.policies import Policies
    from usageaudit.scheduler.service import SchedulerState

# Its parameters have no types.
_as_openmetrics: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
log = structlog.get_logger("usageaudit.operating")


@dataclass(slots=True)
class Operated:
    """Answers for a service. Before `started` it is starting: alive, and not ready."""

    health: Health
    _collector: ServiceCollector = field(init=False)
    _registry: CollectorRegistry = field(init=False)
    _port: HttpPort | None = None
    _refusal: ConfigurationError | None = None

    def __post_init__(self) -> None:
        self._collector = ServiceCollector(self.health)
        self._registry = registry_of(self._collector)

    def listen(self, address: str, *, chosen: bool) -> None:
        """Answer at HOST:PORT from now on, nowhere where `address` is off.

        Where nobody chose the address and it is taken, as by a second consumer on one machine, there is no port, which
        `started` tells. Raises ConfigurationError where it was chosen, or is none.
        """
        where = parse_address(address)
        if where is None:
            return
        port = HttpPort(*where, self.answer)
        try:
            port.open()
        except ConfigurationError as error:
            if chosen:
                raise
            self._refusal = error
        else:
            self._port = port

    def started(self, policies: Policies, watch: Watch) -> None:
        """Take in what there is to watch from now on, and say where it can be asked for."""
        self._collector.policies, self._collector.watch = policies, watch
        if self._port is not None:
            log.info("answering /livez, /readyz and /metrics", host=self._port.host, port=self._port.port)
        elif self._refusal is not None:
            log.warning("no port for /livez, /readyz and /metrics", cause=str(self._refusal))

    def scheduling(self, scheduler: SchedulerState) -> None:
        """Take in what is known of the scheduler from now on."""
        self._collector.scheduler = scheduler

    def dispatching(self, numbers: Callable[[], Dispatching | None]) -> None:
        """Ask for the numbers of a dispatcher of alerts from now on."""
        self._collector.dispatcher = numbers

    def close(self) -> None:
        """Answer no more."""
        if self._port is not None:
            self._port.close()

    def answer(self, path: str, accept: str) -> Answer | None:
        """Return what is at a path, None where nothing is."""
        if path == "/livez":
            return self._alive()
        if path == "/readyz":
            return self._ready()
        if path == "/metrics":
            return self._metrics(accept)
        return None

    def _alive(self) -> Answer:
        silent, hung = self.health.silent(), self.health.hung()
        found = {"alive": not hung, "silent_seconds": None if silent is None else round(silent, 1)}
        return _json(HTTPStatus.SERVICE_UNAVAILABLE if hung else HTTPStatus.OK, found)

    def _ready(self) -> Answer:
        reasons = self.health.reasons(self._collector.watch)
        found = {"ready": not reasons, "reasons": reasons}
        return _json(HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, found)

    def _metrics(self, accept: str) -> Answer:
        """Return the metrics as OpenMetrics where the asker takes that, and in Prometheus' older form otherwise."""
        if "application/openmetrics-text" in accept:
            return Answer(HTTPStatus.OK, openmetrics.CONTENT_TYPE_LATEST, _as_openmetrics(self._registry))
        return Answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))


def _json(status: HTTPStatus, found: Mapping[str, object]) -> Answer:
    return Answer(status, "application/json", json.dumps(found).encode() + b"\n")
