"""The standard analysis of a run: one pass over its frames, one table for each observable."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmdasim.analysis.tables import Columns, TableFiles, Tables, storing
from nmdasim.channel_block import (
    PATH_NAMES,
    Blockade,
    BlockadeSites,
    BlockStates,
    BlockThresholds,
    block_states,
    blockade_sites,
    dwell_times_table,
    measure_blockade,
    states_table,
)
from nmdasim.contacts import (
    Interactions,
    InteractionSites,
    StoredInteractions,
    contact_lifetimes_table,
    contacts_table,
    find_interactions,
    interaction_sites,
    regions_table,
    residue_regions,
    ring_contacts_table,
)
from nmdasim.errors import Check, TrajectoryDamageError, TrajectoryError
from nmdasim.permeation import (
    Passage,
    PassageRate,
    Passages,
    PoreDensity,
    bulk_density,
    ring_planes,
)
from nmdasim.pore import PoreProfile
from nmdasim.rundir import (
    ANALYSIS,
    EQUILIBRATION,
    read_json,
    read_provenance,
    write_atomic,
)
from nmdasim.statistics import (
    ColumnMeans,
    Estimate,
    RunningMeans,
    estimate_mean,
    estimate_occupancy,
)
from nmdasim.subunits import RING_NAMES
from nmdasim.trajectory import Chunk, Run, map_frames, open_run, pore_atoms, write_source

CHECKS = "checks.json"
TEMPERATURE_LIMIT_K = 5.0
#: The pore's backbone is held or stable; beyond this the frames are another structure.
FIT_LIMIT_NM = 0.3
#: A ligand farther than this from its start is taken to have left its pose.
POSE_LIMIT_NM = 0.2
#: A stage of the equilibration may be this much hotter than the target while water settles.
STAGE_LIMIT_K = 100.0
#: Least share of the frames in which a bound ligand lies between the two rings.
VESTIBULE_LIMIT = 0.9

# Endings of column names and the units they stand for.
_UNITS = {
    "_nm": "nm",
    "_nm2": "nm²",
    "_nm3": "nm³",
    "_deg": "deg",
    "_kj_mol": "kJ/mol",
    "_k": "K",
    "": "",
}
# These number the frames or name a state; they are no observables.
_INDEX = ("frame", "time_ps", "conduction", "state", "gate_state")
# Fields of `Blockade` that are no single numbers.
_PROFILES = ("levels", "radius_open", "radius_ligand", "centre_open")
# Recorded by the simulation beside the frames, where it was nmdasim that ran it.
_RECORDED = ("potential_kj_mol", "temperature_k")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """Everything that the standard analysis found in one run."""

    run: Run
    """The run."""
    tables: Tables
    """frames, contacts, ring_contacts, contacts_by_frame, contact_lifetimes, regions, profile,
    states, dwell_times, density, permeation, permeation_rates and estimates; each is read from
    its file when it is asked for."""
    estimates: tuple[Estimate, ...]
    """Means over the frames with their errors."""
    checks: tuple[Check, ...]
    """Whether the run may be believed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sites:
    """What is looked at in every frame, picked once; atoms are those of the solute."""

    blockade: BlockadeSites
    contacts: InteractionSites
    start: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """What was measured in one chunk."""

    first_frame: int
    time_ps: NDArray[np.float64]
    fit_rmsd: NDArray[np.float64]
    blockade: Blockade
    states: BlockStates
    contacts: Interactions
    particles: NDArray[np.float32]
    lumen: PoreProfile
    counts: NDArray[np.float64]
    bulk_per_nm3: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """What was measured in all frames; what is not here is on disk."""

    start: Blockade
    time_ps: NDArray[np.float64]
    states: BlockStates
    frames: Columns
    contacts: StoredInteractions
    radius_open: ColumnMeans
    radius_ligand: ColumnMeans
    passages: Passages
    density: PoreDensity
    bulk_per_nm3: float


def analyse_run(
    run: Run | str | Path,
    *,
    cores: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Analyse a run in one pass and write its tables into the run folder.

    Parameters
    ----------
    run : Run, str or pathlib.Path
        An opened run, or the folder of a run.
    cores : int, optional
        Threads; as many as the process may use by default. Results do not depend on it.
    progress : callable, optional
        Called after each chunk with the frames done and the frames in all.

    Returns
    -------
    analysis : Analysis
        The same as is written to `analysis/*.parquet` and `analysis/checks.json`. The files
        are moved into place one by one when all are whole, the checks last: an analysis that
        is killed or fails leaves those of the one before.

    Raises
    ------
    RunFolderError
        If the folder holds no run.
    TrajectoryError
        If there are no frames yet, or a file is missing.
    TrajectoryDamageError
        If a file is damaged or holds fewer frames than were announced.
    RunStorageError
        If the tables cannot be written.

    Notes
    -----
    Frames and contacts go to disk as they are measured and are read back one column and one
    contact at a time, so that a frame costs 24 bytes of memory to the end: its time and states.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if not opened.n_frames:
        raise TrajectoryError(
            f"{opened.folder} has no production frames yet: repeat the `nmdasim run` command "
            "to let it continue, then analyse"
        )
    with TableFiles(opened.folder / ANALYSIS) as files:
        with storing(files.folder):
            # Without a name, so that nothing is left of it whatever happens.
            file = tempfile.TemporaryFile(dir=files.folder)  # noqa: SIM115 - closed below
        with file:
            gathered = _Gathered(opened, files, StoredInteractions(file))
            measured = _measure(opened, gathered, cores, progress)
            _write_contacts(opened, measured, files)
        estimates = tuple(summarise(measured.frames))
        checks = _checks(opened, measured.frames)
        for name, columns in (
            ("profile", _profile_table(measured)),
            ("states", states_table(measured.frames, measured.states, measured.time_ps)),
            ("dwell_times", dwell_times_table(measured.states, measured.time_ps)),
            ("density", measured.density.to_columns(bulk_per_nm3=measured.bulk_per_nm3)),
            ("permeation", _rows(Passage, measured.passages.passages)),
            ("permeation_rates", _rows(PassageRate, measured.passages.rates())),
            ("estimates", _estimates_table(estimates)),
        ):
            files.write(name, columns)
        if opened.source:
            write_source(opened)
        tables = files.commit()
    rows = [asdict(check) for check in checks]
    write_atomic(files.folder / CHECKS, json.dumps(rows, indent=1, allow_nan=False) + "\n")
    return Analysis(run=opened, tables=tables, estimates=estimates, checks=checks)


def summarise(measured: Blockade | Mapping[str, ArrayLike]) -> list[Estimate]:
    """Average each observable over the frames, with an error that counts correlation.

    Parameters
    ----------
    measured : Blockade, or mapping of str to array_like of float, shape (n_frames,)
        Series by name; the end of a name gives the unit, as in `ligand_depth_nm`.

    Returns
    -------
    estimates : list of Estimate
        In the order of `measured`. A start that has not settled is left out where the rest is
        enough data. Frames in which an observable is not defined are left out and counted in the
        note; an error that cannot be told is nan and the note says why.
    """
    columns = measured.to_columns() if isinstance(measured, Blockade) else measured
    return [_estimate(name, columns[name]) for name in columns if name not in _INDEX]


def _estimate(column: str, series: ArrayLike) -> Estimate:
    values = np.asarray(series, dtype=np.float64)
    ending = next(ending for ending in _UNITS if column.endswith(ending))
    defined = np.isfinite(values)
    if column in PATH_NAMES:
        estimate = estimate_occupancy(values[defined], name=column)
    else:
        estimate = estimate_mean(
            values[defined], name=column.removesuffix(ending), unit=_UNITS[ending], equilibrate=True
        )
    missing = int((~defined).sum())
    if not missing:
        return estimate
    note = f"not defined in {missing} of {len(values)} frames, which are left out"
    return replace(estimate, note="; ".join(filter(None, (estimate.note, note))))


def _measure(
    run: Run,
    gathered: "_Gathered",
    cores: int | None,
    progress: Callable[[int, int], None] | None,
) -> _Measured:
    """Pass once over the frames."""
    done = 0
    measure = partial(_measure_chunk, run, gathered.sites, gathered.density)
    for part in map_frames(run, measure, cores=cores):
        done = part.first_frame + len(part.time_ps)
        if done > run.n_frames:
            break
        gathered.add(part)
        if progress:
            progress(done, run.n_frames)
    if done != run.n_frames:
        raise TrajectoryDamageError(
            f"{run.folder} announces {run.n_frames} frames, but reading came to {done}: its files "
            "were changed meanwhile, or do not follow each other; open it anew and analyse again"
        )
    return gathered.finish()


class _Gathered:
    """What was measured so far; what is known of single frames goes to disk at once."""

    def __init__(self, run: Run, files: TableFiles, contacts: StoredInteractions) -> None:
        self._run, self._files, self._contacts = run, files, contacts
        self.sites = _sites(run)
        self._start = _measure_start(self.sites)
        n_levels = len(self._start.levels)
        self._open, self._ligand = RunningMeans(n_levels), RunningMeans(n_levels)
        kinds = ["water"] * len(run.water) + list(run.ion_names)
        heights = self._start.ring_heights[0].tolist()
        planes = ring_planes(dict(zip(RING_NAMES, heights, strict=True)))
        self._passages, self.density = Passages(kinds, planes=planes), PoreDensity(kinds)
        # The same in every chunk, whichever residues come near in it.
        chains = sorted({residue.chain for residue in self.sites.contacts.residues})
        self._words: dict[str, Sequence[str]] = {"chain": chains}
        self._kept, self._bulk = _room(run.n_frames), RunningMeans(1)

    def add(self, part: _Part) -> None:
        """Add the chunk that follows."""
        self._passages.add(part.particles, time_ps=part.time_ps, lumen=part.lumen)
        self.density.add_counts(part.counts)
        self._open.add(part.blockade.radius_open)
        self._ligand.add(part.blockade.radius_ligand)
        self._bulk.add([[part.bulk_per_nm3]])
        with storing(self._files.folder):
            self._contacts.add(part.contacts)
        self._files.append("frames", _frame_columns(self._run, part))
        self._words["type"] = part.contacts.types
        contacts = _contacts_by_frame(part, self._words["chain"])
        self._files.append("contacts_by_frame", contacts, words=self._words)
        _keep(self._kept, part)

    def finish(self) -> _Measured:
        """Give everything; nothing can be added any more."""
        self._files.finish("contacts_by_frame", words=self._words)
        states = {name: array for name, array in self._kept.items() if name != "time_ps"}
        paths = {name: states.pop(name) for name in PATH_NAMES}
        return _Measured(
            start=self._start,
            time_ps=self._kept["time_ps"],
            states=BlockStates(**states, paths=paths, thresholds=BlockThresholds()),
            frames=self._files.finish("frames"),
            contacts=self._contacts,
            radius_open=self._open.estimate(),
            radius_ligand=self._ligand.estimate(),
            passages=self._passages,
            density=self.density,
            bulk_per_nm3=float(self._bulk.estimate().mean[0]),
        )


def _room(n_frames: int) -> dict[str, NDArray[Any]]:
    """Make room for what is kept of every frame: its time and its states, 24 bytes."""
    codes = {name: np.empty(n_frames, np.int8) for name in ("block", "gate", "conduction")}
    paths = {name: np.empty(n_frames, np.float16) for name in PATH_NAMES}
    return {
        "time_ps": np.empty(n_frames),
        "in_site": np.empty(n_frames, np.bool_),
        **codes,
        **paths,
    }


def _keep(kept: Mapping[str, NDArray[Any]], part: _Part) -> None:
    """Put time and states of a chunk into their places."""
    mine = slice(part.first_frame, part.first_frame + len(part.time_ps))
    for name, array in kept.items():
        source = part if name == "time_ps" else part.states
        paths = part.states.paths
        array[mine] = paths[name] if name in paths else getattr(source, name)


def _sites(run: Run) -> _Sites:
    solute = run.topology.subset(run.solute)
    atoms = np.searchsorted(run.solute, run.ligand_atoms)
    return _Sites(
        blockade=blockade_sites(
            solute, ligand=run.ligand, ligand_atoms=atoms, subunit_of=run.subunit_of
        ),
        contacts=interaction_sites(solute, ligand=run.ligand, ligand_atoms=atoms),
        start=run.start[run.solute],
    )


def _measure_chunk(run: Run, sites: _Sites, density: PoreDensity, chunk: Chunk) -> _Part:
    xyz = chunk.trajectory.xyz
    _check_finite(run, chunk.first_frame, xyz)
    measured = measure_blockade(
        xyz,
        sites=sites.blockade,
        reference=sites.start[sites.blockade.ligand],
        water=chunk.water,
    )
    # Single precision is that of the coordinates; states are told from what is written.
    single = {
        field.name: getattr(measured, field.name).astype(np.float32)
        for field in fields(Blockade)
        if field.name not in _PROFILES
    }
    blockade = replace(measured, **single)
    lumen = measured.open_lumen()
    particles = np.concatenate([chunk.water, chunk.ions], axis=1)
    return _Part(
        first_frame=chunk.first_frame,
        time_ps=chunk.time_ps,
        fit_rmsd=chunk.fit_rmsd,
        blockade=blockade,
        states=block_states(blockade),
        contacts=find_interactions(chunk.trajectory, sites=sites.contacts, water=chunk.water),
        particles=particles,
        lumen=lumen,
        counts=density.count(particles, lumen=lumen),
        bulk_per_nm3=_bulk(sites, chunk, measured),
    )


def _bulk(sites: _Sites, chunk: Chunk, measured: Blockade) -> float:
    """Density of water far from protein and ligand in the chunk's first frame, 1/nm^3."""
    solute = np.concatenate([sites.blockade.protein, sites.blockade.ligand])
    heights = dict(zip(RING_NAMES, measured.ring_heights[0], strict=True))
    return bulk_density(
        chunk.water[0],
        solute=chunk.trajectory.xyz[0, solute],
        centre=[0.0, 0.0, 0.5 * (heights["asparagine"] + heights["threonine"])],
        radius=float(chunk.inner_radius[0]),
    )


def _measure_start(sites: _Sites) -> Blockade:
    return measure_blockade(
        # As the frames are, or everything would be compiled for double precision as well.
        sites.start[None].astype(np.float32),
        sites=sites.blockade,
        reference=sites.start[sites.blockade.ligand],
    )


def _spacing(time_ps: NDArray[np.float64]) -> float:
    """Time between frames, ps; of a single frame any, because nothing is seen to end in it."""
    return float(np.median(np.diff(time_ps))) if len(time_ps) > 1 else 1.0


def _check_finite(run: Run, first: int, xyz: NDArray[np.float32]) -> None:
    broken = ~np.isfinite(xyz).all(axis=(1, 2))
    if broken.any():
        files = ", ".join(run.source.get("trajectories", ()))
        raise TrajectoryDamageError(
            f"frame {first + int(broken.argmax())} of {files or run.folder} holds coordinates that "
            "are not numbers: the simulation failed or the file is damaged; "
            + ("give the frames before it" if files else "start a new run")
        )


# -------------------------------------------------------------------------------- tables


def _frame_columns(run: Run, part: _Part) -> dict[str, NDArray[Any]]:
    mine = slice(part.first_frame, part.first_frame + len(part.time_ps))
    return {
        "frame": np.arange(mine.start, mine.stop),
        "time_ps": part.time_ps,
        **part.blockade.to_columns(),
        **part.states.to_columns(),
        **{
            name: run.records[name][:: run.stride][mine]
            for name in _RECORDED
            if name in run.records
        },
        "fit_rmsd_nm": part.fit_rmsd,
    }


def _write_contacts(run: Run, measured: _Measured, files: TableFiles) -> None:
    """Write what is told from the contacts of all frames, while they can be read back."""
    regions = residue_regions(run.topology, run.start, subunit_of=run.subunit_of)
    contacts, subunit_of = measured.contacts, run.subunit_of
    files.write(
        "contacts",
        contacts_table(
            contacts,
            subunit_of=subunit_of,
            status_of=run.status_of,
            region_of=regions.region_of,
        ),
    )
    files.write("ring_contacts", ring_contacts_table(contacts, subunit_of=subunit_of))
    spacing = _spacing(measured.time_ps)
    files.write(
        "contact_lifetimes",
        contact_lifetimes_table(contacts, spacing_ps=spacing, subunit_of=subunit_of),
    )
    files.write("regions", regions_table(contacts, regions=regions, subunit_of=subunit_of))


def _profile_table(measured: _Measured) -> dict[str, NDArray[np.float64]]:
    start = measured.start
    opened, past = measured.radius_open, measured.radius_ligand
    return {
        "z_nm": start.levels,
        "radius_open_nm": opened.mean,
        "radius_open_error_nm": opened.error,
        "radius_ligand_nm": past.mean,
        "radius_ligand_error_nm": past.error,
        "radius_start_open_nm": start.radius_open[0].astype(np.float64),
        "radius_start_ligand_nm": start.radius_ligand[0].astype(np.float64),
    }


def _estimates_table(estimates: tuple[Estimate, ...]) -> dict[str, list[object]]:
    rows = [asdict(estimate) for estimate in estimates]
    names = ("name", "unit", "mean", "error", "n_frames", "n_effective", "n_discarded", "note")
    return {name: [row[name] for row in rows] for name in names}


def _rows(kind: type, records: Sequence[Any]) -> dict[str, list[object]]:
    """Turn records of one dataclass into columns."""
    return {
        field.name: [getattr(record, field.name) for record in records] for field in fields(kind)
    }


def _contacts_by_frame(part: _Part, chains: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Every contact of every frame, words as numbers: they come over and over."""
    found = part.contacts
    chain = np.array([chains.index(r.chain) for r in found.residues], dtype=np.int32)
    number = np.array([r.number for r in found.residues], dtype=np.int32)
    return {
        "frame": found.frame + np.int32(part.first_frame),
        "chain": chain[found.residue],
        "number": number[found.residue],
        "type": found.type.astype(np.int32),
        "distance_nm": found.distance,
    }


# -------------------------------------------------------------------------------- checks


def _checks(run: Run, frames: Mapping[str, NDArray[Any]]) -> tuple[Check, ...]:
    fit = float(np.max(frames["fit_rmsd_nm"]))
    rings = pore_atoms(run.topology, subunit_of=run.subunit_of).rings
    low, high = (run.start[rings[ring], 2].mean() for ring in ("asparagine", "threonine"))
    depth = frames["ligand_depth_nm"]
    inside = float(np.mean((depth > low) & (depth < high)))
    return (
        *_check_temperature(run, frames),
        Check(
            name="share of frames with the ligand in the vestibule",
            value=inside,
            limit=VESTIBULE_LIMIT,
            passed=inside >= VESTIBULE_LIMIT,
            detail="its centroid between the asparagine and the threonine ring",
        ),
        Check(
            name="largest distance of the pore's backbone from the start",
            value=fit,
            limit=FIT_LIMIT_NM,
            passed=fit <= FIT_LIMIT_NM,
            unit="nm",
            detail="RMSD of N, CA and C of M2 and M3 after the fit",
        ),
        _check_pose_kept(frames),
        *_check_equilibration(run),
        *(Check(**row) for row in _recorded_checks(run)),
    )


def _recorded_checks(run: Run) -> list[dict[str, Any]]:
    """Give the checks of what was done before the frames were read."""
    recorded = read_provenance(run.folder) if run.inputs else run.source
    return list(recorded.get("checks", []))


def _check_temperature(run: Run, frames: Mapping[str, NDArray[Any]]) -> tuple[Check, ...]:
    """Hold the temperature against its target, where both are recorded."""
    if not run.inputs:
        return ()
    target = float(run.inputs["protocol"]["temperature_k"])
    off = abs(float(np.mean(frames["temperature_k"])) - target)
    return (
        Check(
            name="mean temperature off the target",
            value=off,
            limit=TEMPERATURE_LIMIT_K,
            passed=off <= TEMPERATURE_LIMIT_K,
            unit="K",
            detail=f"target {target:g} K",
        ),
    )


def _check_pose_kept(frames: Mapping[str, NDArray[Any]]) -> Check:
    moved = float(np.mean(frames["ligand_rmsd_nm"]))
    return Check(
        name="mean RMSD of the ligand to its starting pose",
        value=moved,
        limit=POSE_LIMIT_NM,
        passed=moved <= POSE_LIMIT_NM,
        unit="nm",
        detail="beyond it the contacts are those of another pose",
    )


def _check_equilibration(run: Run) -> tuple[Check, ...]:
    """Hold the hottest stage against the target: a hot start throws the ligand out of its pose."""
    if not run.inputs:
        return ()
    target = float(run.inputs["protocol"]["temperature_k"])
    path = run.folder / EQUILIBRATION
    stages = read_json(path)["stages"] if path.exists() else []
    if not stages:
        return ()
    hottest = max(stages, key=lambda stage: stage["temperature_k"])
    excess = hottest["temperature_k"] - target
    return (
        Check(
            name="hottest stage of the equilibration above the target",
            value=excess,
            limit=STAGE_LIMIT_K,
            passed=excess <= STAGE_LIMIT_K,
            unit="K",
            detail=hottest["name"],
        ),
    )
