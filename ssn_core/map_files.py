"""Maps on disk while a model is made and measured: memory holds one of them, however many images there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class _Scored(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def cam(self) -> NDArray[np.float32]: ...


class MapFiles:
    """One file a map, by the key of its image; written again, the newer one counts.

    Args:
        root: folder; made when the first map comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.npy"

    def keep(self, found: Iterable[_Scored]) -> dict[str, float]:
        """Write the maps as they come and give the scores, by key."""
        scores = {}
        for scored in found:
            self.write(scored.key, scored.cam)
            scores[scored.key] = scored.score
        return scores

    def write(self, key: str, cam: NDArray[np.float32]) -> None:
        """Keep the map, (h, w) float32, of an image with a hexadecimal key."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, cam, allow_pickle=False)

    def read(self, key: str) -> NDArray[np.float32]:
        """The map, (h, w) float32.

        Raises:
            FileNotFoundError: none was kept.
            ValueError, EOFError: the file is damaged, as a power cut can leave it.
        """
        found: NDArray[np.float32] = np.load(self._path(key), allow_pickle=False)
        return found


@contextmanager
def temporary_maps() -> Iterator[MapFiles]:
    """Map files that are gone afterwards."""
    with TemporaryDirectory(prefix="ssn-maps-") as folder:
        yield MapFiles(Path(folder))
