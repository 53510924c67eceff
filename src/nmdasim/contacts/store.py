"""Contacts of any number of frames, written away as they come and read back one by one."""

from typing import IO

import numpy as np
from numpy.typing import NDArray

from nmdasim.contacts.model import ContactResidue, Interactions, InteractionThresholds
from nmdasim.errors import TrajectoryError

# Contacts and near residues that are gathered before they are sorted and written, some megabytes.
_BLOCK = 200_000


class StoredInteractions:
    """Contacts of consecutive chunks in a file, for trajectories of any length.

    It gives the tables what `Interactions` of the whole would give, number for number, but holds
    in memory only the last block of frames. A block is written sorted by contact, so that one
    contact is read back without the others.

    Parameters
    ----------
    file : binary file
        Empty, open for writing and reading; it is of no use to anybody else.

    See Also
    --------
    InteractionsBuilder : keeps all contacts in memory.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first: Interactions | None = None
        self._number: dict[ContactResidue, int] = {}
        self._sorted: tuple[ContactResidue, ...] = ()
        self._open: list[tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.float32]]] = []
        self._n_open = 0
        # Of each block where it begins in the file, its keys, and where each begins in it.
        self._blocks: list[tuple[int, NDArray[np.uint32], NDArray[np.int64]]] = []
        self._end = 0
        self.n_frames = 0

    def add(self, chunk: Interactions) -> None:
        """Append a chunk, from one thread.

        Parameters
        ----------
        chunk : Interactions
            The frames that follow those added before, from the same `InteractionSites`.

        Raises
        ------
        SelectionError
            If the chunk differs from those before in its types or thresholds.
        OSError
            If the disk refuses.
        """
        first = self._first = self._first or chunk
        first.check_same_sites(chunk)
        numbers = np.array(
            [self._number.setdefault(r, len(self._number)) for r in chunk.residues], np.uint32
        )
        n_kinds = np.uint32(len(chunk.types) + 1)
        near = np.repeat(np.arange(chunk.n_frames, dtype=np.int32), np.diff(chunk.neighbours_of))
        # Being near is one kind more, after all types of contact.
        key = np.concatenate(
            [
                numbers[chunk.residue] * n_kinds + chunk.type.astype(np.uint32),
                numbers[chunk.neighbour] * n_kinds + np.uint32(len(chunk.types)),
            ]
        )
        frame = np.concatenate([chunk.frame, near]) + np.int32(self.n_frames)
        self._open.append((key, frame, np.concatenate([chunk.distance, chunk.neighbour_distance])))
        self._n_open += len(key)
        self.n_frames += chunk.n_frames
        if self._n_open >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        """Write what was gathered, sorted by contact and in each by frame."""
        key, frame, distance = (
            np.concatenate(columns) for columns in zip(*self._open, strict=True)
        )
        order = np.argsort(key, kind="stable")
        keys, starts = np.unique(key[order], return_index=True)
        self._file.seek(self._end)
        self._file.write(frame[order].tobytes())
        self._file.write(distance[order].tobytes())
        self._blocks.append((self._end, keys, np.append(starts, len(key))))
        self._end += 8 * len(key)
        self._open, self._n_open = [], 0

    @property
    def _of_first(self) -> Interactions:
        if self._first is None:
            raise TrajectoryError("there are no frames: give at least one chunk of a trajectory")
        return self._first

    @property
    def types(self) -> tuple[str, ...]:
        """Types that could be told, as in `Interactions`."""
        return self._of_first.types

    @property
    def thresholds(self) -> InteractionThresholds:
        """What counted as a contact."""
        return self._of_first.thresholds

    @property
    def residues(self) -> tuple[ContactResidue, ...]:
        """Residues that come within `nearest_nm` in any of the frames, in topology order."""
        if len(self._sorted) != len(self._number):
            self._sorted = tuple(sorted(self._number))
        return self._sorted

    def occurring(self) -> list[tuple[int, int]]:
        """List the contacts that occur.

        Returns
        -------
        pairs : list of (int, int)
            Place in `residues` and in `types`, residue by residue.
        """
        n_kinds = len(self.types) + 1
        if self._open:
            self._flush()
        seen = {int(key) for _, keys, _ in self._blocks for key in keys}
        place = {self._number[residue]: at for at, residue in enumerate(self.residues)}
        pairs = ((place[key // n_kinds], key % n_kinds) for key in seen)
        return sorted(pair for pair in pairs if pair[1] < n_kinds - 1)

    def contact(self, place: int, kind: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Read one contact.

        Parameters
        ----------
        place, kind : int
            Its place in `residues` and in `types`.

        Returns
        -------
        frames : ndarray of int32, ascending
        distances : ndarray of float32, nm
        """
        return self._read(self._number[self.residues[place]] * (len(self.types) + 1) + kind)

    def nearest_of(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Read the frames in which one residue is within `thresholds.nearest_nm`.

        Parameters
        ----------
        place : int
            Its place in `residues`.

        Returns
        -------
        frames : ndarray of int32, ascending
        distances : ndarray of float32, nm
        """
        return self.contact(place, len(self.types))

    def _read(self, key: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if self._open:
            self._flush()
        frames, distances = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
        for begin, keys, starts in self._blocks:
            at = int(np.searchsorted(keys, key))
            if at == len(keys) or keys[at] != key:
                continue
            low, high = int(starts[at]), int(starts[at + 1])
            self._file.seek(begin + 4 * low)
            frames.append(np.frombuffer(self._file.read(4 * (high - low)), np.int32))
            self._file.seek(begin + 4 * (int(starts[-1]) + low))
            distances.append(np.frombuffer(self._file.read(4 * (high - low)), np.float32))
        return np.concatenate(frames), np.concatenate(distances)
