"""The sensor data that boards play: recordings of people in environments, and labels that only this process sees."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


class WorldError(ValueError):
    """The world's file, or an environment asked for, is not what it must be."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window of sensor data, shape (*input shape), and its label."""

    x: npt.NDArray[np.float32]
    label: int


class World:
    """Arrays x (rows, *input shape), y, group (person) and environment of an .npz."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            WorldError: it cannot be read, or an array is missing or of another length.
        """
        if path.is_file() and not zipfile.is_zipfile(path):  # numpy would take it for a pickle
            raise WorldError(f"{path}: no readable .npz, which is a zip archive; the example's world.py writes it")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise WorldError(f"{path}: no readable .npz: {error}; the example's world.py writes it") from error
        for name in ("x", "y", "group", "environment"):
            if name not in found:
                raise WorldError(
                    f"{path}: no array {name!r}, found {sorted(found)}; x, y, group, environment are needed"
                )
            if len(found[name]) != len(found["x"]) or not len(found["x"]):
                raise WorldError(
                    f"{path}: {name} has {len(found[name])} rows, x has {len(found['x'])}; both need the same"
                )
        self._x = found["x"].astype(np.float32)
        self._y = found["y"]
        self._group = found["group"].astype(str)
        self._environment = found["environment"].astype(str)
        self.environments: tuple[str, ...] = tuple(dict.fromkeys(self._environment.tolist()))
        """In the file's order: the first is the one that boards start in."""
        self.people: tuple[str, ...] = tuple(sorted(set(self._group.tolist())))

    def check_environment(self, name: str) -> str:
        """Return `name`.

        Raises:
            WorldError: nobody was recorded there.
        """
        if name not in self.environments:
            raise WorldError(f"no environment {name!r}; the recordings have {', '.join(self.environments)}")
        return name

    def rows_of(self, person: str, environment: str) -> npt.NDArray[np.intp]:
        """Return the rows of one person in one environment."""
        return np.flatnonzero((self._group == person) & (self._environment == environment))

    def window(self, row: int) -> Window:
        """Return one row."""
        return Window(self._x[row], int(self._y[row]))


class Playlist:
    """What one board's sensor sees: its person's windows in a seeded order, over and over."""

    def __init__(self, world: World, board_index: int, seed: int) -> None:
        self._world = world
        self._person = world.people[board_index % len(world.people)]
        self._seed = (seed, board_index)
        self._streams: dict[str, Iterator[Window]] = {}

    def next(self, environment: str) -> Window | None:
        """Return the next window, or none where the person was never recorded in `environment`."""
        if environment not in self._streams:
            self._streams[environment] = self._play(environment)
        return next(self._streams[environment], None)

    def _play(self, environment: str) -> Iterator[Window]:
        rows = self._world.rows_of(self._person, environment)
        generator = np.random.default_rng([*self._seed, self._world.environments.index(environment)])
        while len(rows):
            for row in generator.permutation(rows):
                yield self._world.window(int(row))
