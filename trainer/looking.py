"""A network that looks at views of photos, whatever their size."""

from __future__ import annotations

from trainer.stored import StoredNetwork
from trainer.views import shapes


class Looker:
    """A network of convolutions alone, from views, uint8 (n, height, width, 3), to grids."""

    def __init__(self, network: StoredNetwork) -> None:
        self.network = network
        self._runner = network.runner

    def warm(self, side: int) -> None:
        """Make the first call with views of this side as fast as the later ones."""
        for height, width in shapes(side):
            self._runner.warm(height, width, 3)
