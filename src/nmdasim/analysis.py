"""The standard analysis of a run: one pass over its frames, one table for each observable."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from nmdasim.channel_block import (
    PATH_NAMES,
    Blockade,
    BlockadeSites,
    BlockStates,
    block_states,
    blockade_sites,
    dwell_times_table,
    measure_blockade,
    states_table,
)
from nmdasim.contacts import (
    Interactions,
    InteractionsBuilder,
    InteractionSites,
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
    storage_error,
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
# What is kept of a chunk beside its blockade, and what of its blockade is not.
_OF_PART = ("time_ps", "fit_rmsd")
_PROFILES = ("radius_open", "radius_ligand", "centre_open")
# Recorded by the simulation beside the frames, where it was nmdasim that ran it.
_RECORDED = ("potential_kj_mol", "temperature_k")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """Everything that the standard analysis found in one run."""

    run: Run
    """The run."""
    tables: Mapping[str, pa.Table]
    """frames, contacts, ring_contacts, contacts_by_frame, contact_lifetimes, regions, profile,
    states, dwell_times, density, permeation, permeation_rates and estimates."""
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
    contacts: Interactions
    particles: NDArray[np.float32]
    lumen: PoreProfile
    counts: NDArray[np.float64]
    bulk_per_nm3: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """What was measured in all frames; profiles only as their means."""

    start: Blockade
    time_ps: NDArray[np.float64]
    fit_rmsd: NDArray[np.float64]
    frames: Blockade
    contacts: Interactions
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
        The same as is written to `analysis/*.parquet` and `analysis/checks.json`. Each file
        is replaced in one step, the checks last.

    Raises
    ------
    RunFolderError
        If the folder holds no run.
    TrajectoryError
        If there are no frames yet, or a file is missing.
    TrajectoryDamageError
        If a file is damaged.
    RunStorageError
        If the tables cannot be written.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if not opened.n_frames:
        raise TrajectoryError(
            f"{opened.folder} has no production frames yet: repeat the `nmdasim run` command "
            "to let it continue, then analyse"
        )
    measured = _measure(opened, cores, progress)
    states = block_states(measured.frames)
    frames = _frames_table(opened, measured, states)
    estimates = tuple(summarise(frames))
    regions = residue_regions(opened.topology, opened.start, subunit_of=opened.subunit_of)
    tables: dict[str, Mapping[str, Any]] = {
        "frames": frames,
        "contacts": contacts_table(
            measured.contacts,
            subunit_of=opened.subunit_of,
            status_of=opened.status_of,
            region_of=regions.region_of,
        ),
        "ring_contacts": ring_contacts_table(measured.contacts, subunit_of=opened.subunit_of),
        "contacts_by_frame": _contacts_by_frame(measured.contacts),
        "contact_lifetimes": contact_lifetimes_table(
            measured.contacts,
            spacing_ps=_spacing(measured.time_ps),
            subunit_of=opened.subunit_of,
        ),
        "regions": regions_table(measured.contacts, regions=regions, subunit_of=opened.subunit_of),
        "profile": _profile_table(measured),
        "states": states_table(measured.frames, states, measured.time_ps),
        "dwell_times": dwell_times_table(states, measured.time_ps),
        "density": measured.density.to_columns(bulk_per_nm3=measured.bulk_per_nm3),
        "permeation": _rows(Passage, measured.passages.passages),
        "permeation_rates": _rows(PassageRate, measured.passages.rates()),
        "estimates": _estimates_table(estimates),
    }
    analysis = Analysis(
        run=opened,
        # One after the other, so that no two forms of a long table are held together.
        tables={name: _typed(name, tables.pop(name)) for name in list(tables)},
        estimates=estimates,
        checks=_checks(opened, frames),
    )
    _write(analysis)
    return analysis


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
    return [_estimate(name, series) for name, series in columns.items() if name not in _INDEX]


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


def _measure(run: Run, cores: int | None, progress: Callable[[int, int], None] | None) -> _Measured:
    """Pass once over the frames; only results are kept, and of profiles only their means."""
    sites = _sites(run)
    start = _measure_start(sites)
    open_means, ligand_means = (RunningMeans(len(start.levels)) for _ in range(2))
    kinds = ["water"] * len(run.water) + list(run.ion_names)
    planes = ring_planes(dict(zip(RING_NAMES, start.ring_heights[0].tolist(), strict=True)))
    passages, density = Passages(kinds, planes=planes), PoreDensity(kinds)
    contacts, kept, bulk = InteractionsBuilder(), _room(run, start), []
    for part in map_frames(run, partial(_measure_chunk, run, sites, density), cores=cores):
        passages.add(part.particles, time_ps=part.time_ps, lumen=part.lumen)
        density.add_counts(part.counts)
        open_means.add(part.blockade.radius_open)
        ligand_means.add(part.blockade.radius_ligand)
        contacts.add(part.contacts)
        bulk.append(part.bulk_per_nm3)
        done = part.first_frame + len(part.time_ps)
        for name, array in kept.items():
            source = part if name in _OF_PART else part.blockade
            array[part.first_frame : done] = getattr(source, name)
        if progress:
            progress(done, run.n_frames)
    time_ps, fit_rmsd = (kept.pop(name) for name in _OF_PART)
    nothing = {name: getattr(start, name)[:0].copy() for name in _PROFILES}
    return _Measured(
        start=start,
        time_ps=time_ps,
        fit_rmsd=fit_rmsd,
        frames=Blockade(levels=start.levels.copy(), **nothing, **kept),
        contacts=contacts.result(),
        radius_open=open_means.estimate(),
        radius_ligand=ligand_means.estimate(),
        passages=passages,
        density=density,
        bulk_per_nm3=_mean_of_defined(bulk),
    )


def _room(run: Run, start: Blockade) -> dict[str, NDArray[Any]]:
    """Make room for the single numbers of every frame; profiles would be some kilobytes each.

    Single precision, which is that of the coordinates. A series is contiguous, so that a table
    of it needs no copy.
    """
    kept: dict[str, NDArray[Any]] = {name: np.empty(run.n_frames) for name in _OF_PART}
    for field in fields(Blockade):
        if field.name not in ("levels", *_PROFILES):
            shape = (run.n_frames, *getattr(start, field.name).shape[1:])
            kept[field.name] = np.empty(shape, dtype=np.float32, order="F")
    return kept


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
    lumen = measured.open_lumen()
    particles = np.concatenate([chunk.water, chunk.ions], axis=1)
    return _Part(
        first_frame=chunk.first_frame,
        time_ps=chunk.time_ps,
        fit_rmsd=chunk.fit_rmsd,
        blockade=measured,
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


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = np.array(values)[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")


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
        raise TrajectoryDamageError(
            f"frame {first + int(broken.argmax())} of {run.folder} holds coordinates that are not "
            "numbers: the simulation failed or the file is damaged; start a new run"
        )


# -------------------------------------------------------------------------------- tables


def _frames_table(run: Run, measured: _Measured, states: BlockStates) -> dict[str, NDArray[Any]]:
    return {
        "frame": np.arange(run.n_frames),
        "time_ps": measured.time_ps,
        **measured.frames.to_columns(),
        **states.to_columns(),
        **{name: run.records[name][:: run.stride] for name in _RECORDED if name in run.records},
        "fit_rmsd_nm": measured.fit_rmsd,
    }


def _profile_table(measured: _Measured) -> dict[str, NDArray[np.float64]]:
    frames, start = measured.frames, measured.start
    opened, past = measured.radius_open, measured.radius_ligand
    return {
        "z_nm": frames.levels,
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


def _contacts_by_frame(found: Interactions) -> dict[str, Any]:
    """Every contact of every frame, words as numbers: they come over and over."""
    chains = sorted({residue.chain for residue in found.residues})
    chain = np.array([chains.index(r.chain) for r in found.residues], dtype=np.int32)
    number = np.array([r.number for r in found.residues], dtype=np.int32)
    return {
        "frame": found.frame,
        "chain": pa.DictionaryArray.from_arrays(
            chain[found.residue], pa.array(chains, pa.string())
        ),
        "number": number[found.residue],
        "type": pa.DictionaryArray.from_arrays(
            found.type.astype(np.int32), pa.array(found.types, pa.string())
        ),
        "distance_nm": found.distance,
    }


# Empty tables keep their types.
_SCHEMAS = {
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
        [("frame", pa.int32()), ("chain", pa.dictionary(pa.int32(), pa.string())),
         ("number", pa.int32()), ("type", pa.dictionary(pa.int32(), pa.string())),
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


def _typed(name: str, columns: Mapping[str, Any]) -> pa.Table:
    return pa.table(dict(columns), schema=_SCHEMAS.get(name))


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


def _write(analysis: Analysis) -> None:
    folder = analysis.run.folder / ANALYSIS
    if analysis.run.source:
        write_source(analysis.run)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    for name, table in analysis.tables.items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_atomic(folder / f"{name}.parquet", buffer.getvalue())
    rows = [asdict(check) for check in analysis.checks]
    write_atomic(folder / CHECKS, json.dumps(rows, indent=1, allow_nan=False) + "\n")
