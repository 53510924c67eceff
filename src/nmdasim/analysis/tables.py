"""Tables of an analysis as files: written in pieces, moved into place together, read on demand."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nmdasim.errors import RunStorageError
from nmdasim.rundir import commit_file, storage_error

#: Cells of a table that are gathered before they are written, some megabytes.
CELLS = 250_000
# A temporary file that nobody wrote to for so long was left by a killed analysis.
_LEFT_S = 3600.0
_WORD = pa.dictionary(pa.int32(), pa.string())

#: Tables that may be empty and keep their types then.
SCHEMAS = {
    "contacts": pa.schema(
        [("chain", pa.string()), ("subunit", pa.string()), ("number", pa.int64()),
         ("residue", pa.string()), ("ring", pa.string()), ("region", pa.string()),
         ("status", pa.string()),
         ("type", pa.string()), ("occupancy", pa.float64()), ("occupancy_error", pa.float64()),
         ("mean_distance_nm", pa.float64()), ("min_distance_nm", pa.float64())]
    ),
    "ring_contacts": pa.schema(
        [("ring", pa.string()), ("residue", pa.string()), ("type", pa.string()),
         ("occupancy", pa.float64()), ("occupancy_error", pa.float64())]
    ),
    "regions": pa.schema(
        [("region", pa.string()), ("n_residues", pa.int64()), ("n_touched", pa.int64()),
         ("occupancy", pa.float64()), ("occupancy_error", pa.float64()),
         ("residues", pa.string()), ("note", pa.string())]
    ),
    "contact_lifetimes": pa.schema(
        [("level", pa.string()), ("chain", pa.string()), ("number", pa.int64()),
         ("subunit", pa.string()), ("residue", pa.string()), ("ring", pa.string()),
         ("type", pa.string()), ("occupancy", pa.float64()), ("n_episodes", pa.int64()),
         ("n_breaks", pa.int64()), ("lifetime_ps", pa.float64()),
         ("lifetime_low_ps", pa.float64()), ("lifetime_high_ps", pa.float64()),
         ("longest_ps", pa.float64()), ("note", pa.string())]
    ),
    "contacts_by_frame": pa.schema(
        [("frame", pa.int32()), ("chain", _WORD), ("number", pa.int32()), ("type", _WORD),
         ("distance_nm", pa.float32())]
    ),
    "states": pa.schema(
        [("group", pa.string()), ("state", pa.string()), ("share", pa.float64()),
         ("share_error", pa.float64()), ("n_frames", pa.int64()), ("n_effective", pa.float64()),
         ("n_visits", pa.int64()), ("n_exits", pa.int64()), ("lifetime_ns", pa.float64()),
         ("lifetime_low_ns", pa.float64()), ("lifetime_high_ns", pa.float64()),
         ("note", pa.string())]
    ),
    "dwell_times": pa.schema(
        [("group", pa.string()), ("state", pa.string()), ("start_ps", pa.float64()),
         ("duration_ps", pa.float64()), ("censored_left", pa.bool_()),
         ("censored_right", pa.bool_())]
    ),
    "density": pa.schema(
        [("kind", pa.string()), ("z_nm", pa.float64()), ("per_nm", pa.float64()),
         ("per_nm_error", pa.float64()), ("per_nm3", pa.float64()),
         ("per_nm3_error", pa.float64()), ("relative_to_bulk", pa.float64()),
         ("note", pa.string())]
    ),
    "permeation": pa.schema(
        [("kind", pa.string()), ("molecule", pa.int64()), ("direction", pa.string()),
         ("entered_ps", pa.float64()), ("left_ps", pa.float64())]
    ),
    "permeation_rates": pa.schema(
        [("kind", pa.string()), ("place", pa.string()), ("direction", pa.string()),
         ("count", pa.int64()), ("time_ns", pa.float64()), ("rate_per_ns", pa.float64()),
         ("rate_low_per_ns", pa.float64()), ("rate_high_per_ns", pa.float64()),
         ("note", pa.string())]
    ),
}  # fmt: skip


class Tables(Mapping[str, pa.Table]):
    """The tables in a folder by their names, each read from its file when it is asked for.

    Parameters
    ----------
    folder : pathlib.Path
        Where `NAME.parquet` lie.
    names : sequence of str
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, tuple(names)

    def __getitem__(self, name: str) -> pa.Table:
        if name not in self._names:
            raise KeyError(name)
        path = self._folder / f"{name}.parquet"
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise RunStorageError(
                f"{path} cannot be read ({str(error).splitlines()[0]}): analyse the run again"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Columns(Mapping[str, NDArray[Any]]):
    """The columns of a table on disk by their names, each read when it is asked for.

    Parameters
    ----------
    path : pathlib.Path
        A whole file.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._names = tuple(self._file.schema_arrow.names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        return self._file.read(columns=[name]).column(0).to_numpy()

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class TableFiles:
    """Writes tables beside the final files and moves them into place when all are whole.

    A context: what was not moved into place is removed at its end.

    Parameters
    ----------
    folder : pathlib.Path
        Made if it is missing, and removed again if nothing came of it.

    Raises
    ------
    RunStorageError
        Here and below, if the disk is full or refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: list[str] = []
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._open: dict[str, list[Mapping[str, Any]]] = {}
        self._n_cells: dict[str, int] = {}
        self._read: list[Columns] = []
        self._made = [path for path in (folder, folder.parent) if not path.exists()]
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _LEFT_S:
                        path.unlink()

    def __enter__(self) -> "TableFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        for writer in self._writers.values():
            with contextlib.suppress(OSError):
                writer.close()
        for name in (*self._done, *self._open):
            with contextlib.suppress(OSError):
                self._temporary(name).unlink()
        for made in self._made:
            # Refused where there is anything in it.
            with contextlib.suppress(OSError):
                made.rmdir()

    def _close(self) -> None:
        for columns in self._read:
            columns.close()
        self._read = []

    def _temporary(self, name: str) -> Path:
        return self.folder / f".{name}.parquet.{os.getpid()}.tmp"

    def write(self, name: str, columns: Mapping[str, Any]) -> None:
        """Write a table that comes as a whole.

        Parameters
        ----------
        name : str
        columns : mapping of str to array_like
        """
        self.append(name, columns)
        self.finish(name)

    def append(
        self,
        name: str,
        columns: Mapping[str, Any],
        *,
        words: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add rows to a table; they are written as they grow many.

        Parameters
        ----------
        name : str
        columns : mapping of str to array_like
            The same columns each time. Words go as strings or None, or as numbers of `words`.
        words : mapping of str to sequence of str, optional
            The words of a column, the same each time.
        """
        self._open.setdefault(name, []).append(columns)
        n_cells = self._n_cells.get(name, 0) + sum(len(values) for values in columns.values())
        self._n_cells[name] = n_cells
        if n_cells >= CELLS:
            self._flush(name, words or {})

    def _flush(self, name: str, words: Mapping[str, Sequence[str]]) -> None:
        waiting, self._open[name], self._n_cells[name] = self._open[name], [], 0
        # Joined before they are turned into columns: chunks of frames are many and small.
        rows = pa.table(
            {key: _column([part[key] for part in waiting], words.get(key)) for key in waiting[0]},
            schema=SCHEMAS.get(name),
        )
        path = self._temporary(name)
        with storing(path):
            if name not in self._writers:
                # Numbers seldom come twice.
                repeated = [
                    field.name
                    for field in rows.schema
                    if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
                ]
                self._writers[name] = pq.ParquetWriter(path, rows.schema, use_dictionary=repeated)
            self._writers[name].write_table(rows)

    def finish(self, name: str, *, words: Mapping[str, Sequence[str]] | None = None) -> Columns:
        """Complete the file of a table, which stays beside the final one.

        Parameters
        ----------
        name : str
        words : mapping of str to sequence of str, optional
            As for `append`.

        Returns
        -------
        columns : Columns
            What was written, to be read until it is moved.
        """
        if self._open[name] or name not in self._writers:
            self._flush(name, words or {})
        del self._open[name]
        self._done.append(name)
        with storing(self._temporary(name)):
            self._writers.pop(name).close()
        self._read.append(Columns(self._temporary(name)))
        return self._read[-1]

    def commit(self) -> Tables:
        """Move all finished tables into place.

        Returns
        -------
        tables : Tables
        """
        self._close()
        names = tuple(self._done)
        while self._done:
            name = self._done[0]
            commit_file(self._temporary(name), self.folder / f"{name}.parquet")
            self._done.pop(0)
        return Tables(self.folder, names)


def _column(parts: Sequence[Any], words: Sequence[str] | None) -> Any:  # noqa: ANN401 - of Arrow
    """Join the parts of a column."""
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if words is not None:
        return pa.DictionaryArray.from_arrays(values, pa.array(words, pa.string()))
    # A column that holds only None would not tell that it is one of words.
    typed = isinstance(values, np.ndarray) and values.dtype == object
    return pa.array(values, pa.string()) if typed else values


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Put what the disk refuses into one sentence.

    Parameters
    ----------
    path : pathlib.Path
        What is being written.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error
