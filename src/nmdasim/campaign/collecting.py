"""The results of a campaign in three tables and a report, from the folders of its runs."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nmdasim.campaign.planning import PlannedRun
from nmdasim.campaign.settings import Campaign
from nmdasim.campaign.standing import ANALYSED, RunStanding
from nmdasim.errors import CampaignError
from nmdasim.report import write_report
from nmdasim.rundir import ANALYSIS, flush_folder, storage_error
from nmdasim.statistics import Estimate, combine_replicas

RUNS_TABLE, ESTIMATES_TABLE = "runs.parquet", "estimates.parquet"
CONDITIONS_TABLE, REPORTS = "conditions.parquet", "reports"
"""What `collect_runs` writes."""

MAX_RUNS_IN_REPORT = 24
"""Runs beyond which one page would be too heavy for a browser: each brings about 2 MB."""

_CONDITION = ("ligand", "charge", "receptor", "protocol", "voltage_mV", "pose")
_IDENTITY = pa.schema(
    [
        ("run", pa.string()),
        ("ligand", pa.string()),
        ("charge", pa.int32()),
        ("receptor", pa.string()),
        ("protocol", pa.string()),
        ("voltage_mV", pa.float64()),
        ("pose", pa.int32()),
        ("replica", pa.int32()),
    ]
)
_STANDING = pa.schema(
    [
        ("seed", pa.int64()),
        ("production_ns", pa.float64()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("done_ns", pa.float64()),
        ("n_frames", pa.int64()),
        ("n_starts", pa.int32()),
        ("ns_per_day", pa.float64()),
        ("node", pa.string()),
        ("updated", pa.string()),
        ("folder", pa.string()),
    ]
)
_ESTIMATE = pa.schema(
    [
        ("name", pa.string()),
        ("unit", pa.string()),
        ("mean", pa.float64()),
        ("error", pa.float64()),
        ("n_frames", pa.int64()),
        ("n_effective", pa.float64()),
        ("n_discarded", pa.int64()),
        ("note", pa.string()),
    ]
)
_RUNS_SCHEMA = pa.unify_schemas([_IDENTITY, _STANDING])
_ESTIMATES_SCHEMA = pa.unify_schemas([_IDENTITY, _ESTIMATE])
_CONDITIONS_SCHEMA = pa.schema(
    [*(_IDENTITY.field(name) for name in _CONDITION), ("n_replicas", pa.int32()), *_ESTIMATE]
)
_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What was collected."""

    folder: Path
    """Folder of the tables."""
    n_runs: int
    """Runs of the campaign."""
    n_analysed: int
    """Runs with results: the only ones in the estimates."""
    reports: tuple[Path, ...]
    """Pages that were written."""


def collect_runs(
    campaign: Campaign, standings: Iterable[RunStanding], *, report: bool = True
) -> Collection:
    """Gather the results of the analysed runs across replicas.

    Parameters
    ----------
    campaign : Campaign
    standings : iterable of RunStanding
        In the order of the plan, so that replicas of one condition follow each other.
    report : bool
        Also write the pages that compare the runs.

    Returns
    -------
    Collection

    Raises
    ------
    CampaignError
        If no run is analysed yet.
    RunStorageError
        If the disk is full or refuses.

    Notes
    -----
    Tables are written row group by row group under other names and renamed at the end:
    memory does not grow with the number of runs, and a reader never sees half a table.
    """
    folder = campaign.folder / "results"
    analysed: list[PlannedRun] = []
    n_runs = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _Table(folder / RUNS_TABLE, _RUNS_SCHEMA) as runs,
            _Table(folder / ESTIMATES_TABLE, _ESTIMATES_SCHEMA) as estimates,
            _Table(folder / CONDITIONS_TABLE, _CONDITIONS_SCHEMA) as conditions,
        ):
            replicas: list[tuple[PlannedRun, list[Estimate]]] = []
            for standing in standings:
                n_runs += 1
                runs.add(_run_row(standing))
                if standing.standing != ANALYSED:
                    continue
                analysed.append(standing.run)
                if replicas and _condition(replicas[0][0]) != _condition(standing.run):
                    conditions.add_all(_condition_rows(replicas))
                    replicas = []
                found = _read_estimates(standing.run.folder)
                estimates.add_all(
                    _identity_row(standing.run) | asdict(estimate) for estimate in found
                )
                replicas.append((standing.run, found))
            conditions.add_all(_condition_rows(replicas))
            if not analysed:
                raise CampaignError(
                    f"no run of {campaign.path} is analysed yet: `nmdasim campaign status` tells "
                    "where they stand"
                )
        flush_folder(folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    return Collection(
        folder=folder,
        n_runs=n_runs,
        n_analysed=len(analysed),
        reports=_write_reports(folder / REPORTS, analysed) if report else (),
    )


class _Table:
    """A Parquet file that is written in groups of rows and appears whole or not at all."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> "_Table":
        """Open the file under its other name."""
        self._writer = pq.ParquetWriter(self._temporary, self._schema)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Rename the file if all went well, else remove it."""
        if kind is None:
            self._write()
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self._write()

    def add_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            self.add(row)

    def _write(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _condition(run: PlannedRun) -> tuple[object, ...]:
    return run.ligand, run.charge, run.receptor, run.protocol, run.voltage_mv, run.pose


def _identity_row(run: PlannedRun) -> dict[str, Any]:
    return {
        "run": run.name,
        **dict(zip(_CONDITION, _condition(run), strict=True)),
        "replica": run.replica,
    }


def _run_row(standing: RunStanding) -> dict[str, Any]:
    run = standing.run
    return _identity_row(run) | {
        "seed": run.seed,
        "production_ns": run.production_ns,
        "state": standing.standing,
        "reason": standing.reason,
        "done_ns": standing.production_ps_done / 1000,
        "n_frames": standing.n_frames,
        "n_starts": standing.n_starts,
        "ns_per_day": standing.ns_per_day,
        "node": standing.node,
        "updated": standing.updated,
        "folder": str(run.folder),
    }


def _read_estimates(folder: Path) -> list[Estimate]:
    path = folder / ANALYSIS / "estimates.parquet"
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise CampaignError(
            f"{path} cannot be read ({error}): repeat `nmdasim analyse {folder}`"
        ) from error
    known = {field.name for field in fields(Estimate)}
    return [Estimate(**{key: row[key] for key in row if key in known}) for row in rows]


def _condition_rows(
    replicas: Sequence[tuple[PlannedRun, list[Estimate]]],
) -> Iterator[dict[str, Any]]:
    """Combine the replicas of one condition, quantity by quantity."""
    if not replicas:
        return
    first = replicas[0][0]
    by_name: dict[str, list[Estimate]] = {}
    for _, estimates in replicas:
        for estimate in estimates:
            if estimate.n_frames:
                by_name.setdefault(estimate.name, []).append(estimate)
    for estimates in by_name.values():
        yield {
            **dict(zip(_CONDITION, _condition(first), strict=True)),
            "n_replicas": len(estimates),
            **asdict(combine_replicas(estimates)),
        }


def _write_reports(folder: Path, runs: Sequence[PlannedRun]) -> tuple[Path, ...]:
    """Compare all runs on one page, or those of each condition where they are too many."""
    if folder.exists():
        shutil.rmtree(folder)
    if len(runs) <= MAX_RUNS_IN_REPORT:
        return (write_report([run.folder for run in runs], folder / "report.html"),)
    groups: dict[tuple[object, ...], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(_condition(run), []).append(run)
    written = []
    for group in groups.values():
        run = group[0]
        name = f"{run.ligand}{run.charge:+d}_{run.receptor}_{run.protocol}"
        name += f"_{run.voltage_mv:g}mV" if run.voltage_mv else ""
        name += f"_p{run.pose}" if run.pose != 1 else ""
        for first in range(0, len(group), MAX_RUNS_IN_REPORT):
            part = f"_{first}" if len(group) > MAX_RUNS_IN_REPORT else ""
            folders = [run.folder for run in group[first : first + MAX_RUNS_IN_REPORT]]
            written.append(write_report(folders, folder / f"{name}{part}.html"))
    return tuple(written)
