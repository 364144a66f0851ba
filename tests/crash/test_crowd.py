"""Several services on one inbox, killed and paused, and the server restarted; in short."""

from __future__ import annotations

from tests.crash.crowd import crowd
from tests.helpers import Place
from tests.postgres import Server


def test_services_share_an_inbox_whatever_happens(postgres_place: Place, postgres: Server) -> None:
    crowd(postgres_place, postgres, services=2, files=300, kills=3, restarts=1, seed=1)
