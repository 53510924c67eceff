"""What a report reads from one run folder: plain records, checked for completeness."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import gemmi
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rdkit import Chem

from nmdasim.errors import ReportError
from nmdasim.rundir import (
    ANALYSIS,
    EQUILIBRATION,
    FOREIGN,
    LIGAND,
    PROVENANCE,
    RECEPTOR,
    RUN,
    SEGMENTS,
    STATUS,
    TOPOLOGY,
)
from nmdasim.subunits import ONE_LETTER, RING_NAMES, ring_of, subunits
from nmdasim.trajectory import open_run, read_frames

#: Columns without which a table cannot be drawn; more are allowed.
REQUIRED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "frames": (
        "time_ps",
        "ligand_depth_nm",
        "ligand_offset_nm",
        "ligand_rmsd_nm",
        "radius_past_ligand_nm",
        "filled_share",
    ),
    "contacts": (
        "chain",
        "subunit",
        "number",
        "residue",
        "ring",
        "status",
        "type",
        "occupancy",
        "occupancy_error",
        "mean_distance_nm",
        "min_distance_nm",
    ),
    "ring_contacts": ("ring", "residue", "type", "occupancy", "occupancy_error"),
    "contacts_by_frame": ("frame", "chain", "number", "type"),
    "profile": (
        "z_nm",
        "radius_open_nm",
        "radius_open_error_nm",
        "radius_ligand_nm",
        "radius_ligand_error_nm",
        "radius_start_open_nm",
        "radius_start_ligand_nm",
    ),
    "estimates": ("name", "unit", "mean", "error", "n_frames", "n_effective", "note"),
}

#: Tables that not every analysis has, with the columns that the report shows of them.
OPTIONAL_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "states": (
        "group",
        "state",
        "share",
        "share_error",
        "n_visits",
        "n_exits",
        "lifetime_ns",
        "lifetime_low_ns",
        "lifetime_high_ns",
        "note",
    ),
    "density": ("kind", "z_nm", "per_nm", "per_nm_error"),
    "permeation": ("kind", "direction", "entered_ps", "left_ps"),
    "permeation_rates": (
        "kind",
        "place",
        "direction",
        "count",
        "time_ns",
        "rate_per_ns",
        "rate_low_per_ns",
        "rate_high_per_ns",
        "note",
    ),
    "contact_lifetimes": (
        "level",
        "residue",
        "ring",
        "type",
        "occupancy",
        "n_episodes",
        "n_breaks",
        "lifetime_ps",
        "lifetime_low_ps",
        "lifetime_high_ps",
        "longest_ps",
        "note",
    ),
    "regions": ("region", "n_touched", "occupancy", "occupancy_error", "residues", "note"),
}

#: Heavy-atom RMSD beyond which two poses count as different, nm: a convention of docking.
SAME_POSE = 0.2

_NM_PER_ANGSTROM = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atoms:
    """Heavy atoms of the protein in the simulated system."""

    name: NDArray[np.str_]
    """Atom names, shape (n_atoms,)."""
    element: NDArray[np.str_]
    """Element symbols, shape (n_atoms,)."""
    chain: NDArray[np.str_]
    """Chain letters as deposited, shape (n_atoms,)."""
    number: NDArray[np.int64]
    """UniProt residue numbers, shape (n_atoms,)."""
    residue: NDArray[np.str_]
    """Residue names, shape (n_atoms,)."""
    positions: NDArray[np.float64]
    """Coordinates in the pore frame, shape (n_atoms, 3), nm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """One ring of equivalent residues of the pore."""

    name: str
    """Key of the ring, one of `nmdasim.subunits.RING_NAMES`."""
    height: float
    """Mean z of its CA atoms in the pore frame, nm."""
    residues: str
    """Its residues in words, such as "GluN1 V644, GluN2B L643"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunRecord:
    """Everything that the report shows of one run."""

    folder: Path
    """Run folder."""
    inputs: Mapping
    """`run.toml`."""
    provenance: Mapping
    """`provenance.json`."""
    status: Mapping
    """`status.json`."""
    equilibration: Mapping
    """`equilibration.json`; empty when the file is absent."""
    segments: tuple[Mapping, ...]
    """Manifests of the committed segments, in order."""
    ligand: Chem.Mol
    """Simulated charge state with its starting pose, Angstrom in the pore frame."""
    ligand_end: NDArray[np.float64] | None
    """Ligand in the last frame, shape (n_ligand, 3), nm in the pore frame; None when the
    folder does not hold its trajectory."""
    atoms: Atoms
    """Heavy atoms of the simulated protein at the start."""
    lining: Atoms
    """CA atoms of M2, its loop and M3 in the whole prepared receptor, simulated or not."""
    residues: tuple[Mapping, ...]
    """Rows of the receptor's table of residues: chain, subunit, number, name, status."""
    receptor_checks: tuple[Mapping, ...]
    """Rows of the receptor's table of checks."""
    source: Mapping[str, str]
    """Where the receptor comes from: entry, revision, DOI, hashes."""
    checks: tuple[Mapping, ...]
    """Checks of the run and its analysis."""
    tables: Mapping[str, pa.Table]
    """Analysis tables by name: all of `REQUIRED_COLUMNS`, and what there is of
    `OPTIONAL_COLUMNS`."""
    is_foreign: bool = False
    """Whether the trajectory comes from another program and nothing is known of how it was
    made."""

    @property
    def title(self) -> str:
        """Name of the ligand and of the receptor."""
        ligand, receptor = self.inputs["ligand"]["name"], self.inputs["receptor"]["name"]
        return f"{ligand} in {receptor.upper() if receptor else 'the NMDA receptor channel'}"

    @property
    def subunit_of_chain(self) -> Mapping[str, str]:
        """Subunit of each chain letter."""
        return {row["chain"]: row["subunit"] for row in self.residues if row["subunit"]}

    @property
    def duration_ps(self) -> float:
        """Length of the production dynamics that was analysed, ps."""
        times = self.tables["frames"]["time_ps"].to_numpy()
        return float(times[-1]) if len(times) else 0.0

    @property
    def ends_elsewhere(self) -> bool:
        """Whether the ligand of the last frame has left the starting pose."""
        return bool(self.column("frames", "ligand_rmsd_nm")[-1] > SAME_POSE)

    def rows(self, table: str) -> list[dict]:
        """Give the rows of one analysis table.

        Parameters
        ----------
        table : str

        Returns
        -------
        rows : list of dict
            Empty when the analysis did not write the table.
        """
        return self.tables[table].to_pylist() if table in self.tables else []

    def has(self, column: str) -> bool:
        """Tell whether the frames hold a number or a word of this column at least once.

        Parameters
        ----------
        column : str
            Of frames.parquet.

        Returns
        -------
        there : bool
        """
        if column not in self.tables["frames"].column_names:
            return False
        values = self.column("frames", column)
        if values.dtype.kind == "f":
            return bool(np.isfinite(values).any())
        return any(value is not None for value in values.tolist())

    def column(self, table: str, name: str) -> NDArray:
        """Give one column of one analysis table.

        Parameters
        ----------
        table, name : str
            A key of `REQUIRED_COLUMNS` and a column of that table.

        Returns
        -------
        values : ndarray, shape (n_rows,)
        """
        return self.tables[table][name].to_numpy(zero_copy_only=False)


def read_record(folder: Path) -> RunRecord:
    """Read what the report needs from a run folder.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    record : RunRecord

    Raises
    ------
    ReportError
        If the folder is no run folder, has no analysis yet, or a file of it is damaged.
    """
    folder = Path(folder)
    if (folder / FOREIGN).is_file():
        return _read_foreign(folder)
    if not (folder / RUN).is_file():
        raise ReportError(
            f"{folder} is not a run folder: it has no run.toml; "
            "give the folder that `nmdasim run` wrote"
        )
    tables = _read_tables(folder)
    residues, receptor_checks, source = _read_receptor(folder / RECEPTOR)
    subunit_of_chain = {row["chain"]: row["subunit"] for row in residues}
    return RunRecord(
        folder=folder,
        inputs=_read_inputs(folder / RUN),
        provenance=_read_object(folder / PROVENANCE),
        status=_read_object(folder / STATUS, required=False),
        equilibration=_read_object(folder / EQUILIBRATION, required=False),
        segments=tuple(_read_object(path) for path in sorted((folder / SEGMENTS).glob("*.json"))),
        ligand=_read_ligand(folder / LIGAND),
        ligand_end=_read_last_ligand(folder),
        atoms=_read_atoms(folder / TOPOLOGY),
        lining=_lining(_read_atoms(folder / RECEPTOR), subunit_of_chain),
        residues=residues,
        receptor_checks=receptor_checks,
        source=source,
        checks=_read_list(folder / ANALYSIS / "checks.json"),
        tables=tables,
    )


def _read_foreign(folder: Path) -> RunRecord:
    """Read the analysis of a trajectory of another program: no simulation, no receptor file."""
    about = _read_object(folder / FOREIGN)
    ligand, subunit_of_chain = about.get("ligand"), about.get("subunits")
    if not isinstance(ligand, Mapping) or not isinstance(subunit_of_chain, Mapping):
        raise ReportError(f"{folder / FOREIGN} does not name ligand and subunits: analyse again")
    atoms = _read_atoms(folder / TOPOLOGY)
    seen = dict.fromkeys(
        zip(atoms.chain.tolist(), atoms.number.tolist(), atoms.residue.tolist(), strict=True)
    )
    return RunRecord(
        folder=folder,
        inputs={"ligand": {"name": "ligand", **ligand}, "receptor": {"name": ""}},
        provenance=about,
        status={},
        equilibration={},
        segments=(),
        ligand=_read_ligand(folder / LIGAND),
        ligand_end=None,
        atoms=atoms,
        lining=_lining(atoms, subunit_of_chain),
        residues=tuple(
            {
                "chain": chain,
                "subunit": subunit_of_chain.get(chain, ""),
                "number": str(number),
                "name": name,
                "status": "",
            }
            for chain, number, name in seen
        ),
        receptor_checks=(),
        source={},
        checks=_read_list(folder / ANALYSIS / "checks.json"),
        tables=_read_tables(folder),
        is_foreign=True,
    )


def simulated_span(record: RunRecord) -> tuple[float, float]:
    """Tell between which heights the lining of the pore was simulated.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    low, high : float, nm
        Between them each chain has simulated CA atoms of M2 to M3 below and above.
    """
    simulated = is_simulated(record)
    heights = [
        record.lining.positions[simulated & (record.lining.chain == chain), 2]
        for chain in np.unique(record.lining.chain[simulated])
    ]
    if not heights:
        return 0.0, 0.0
    return max(float(h.min()) for h in heights), min(float(h.max()) for h in heights)


def is_simulated(record: RunRecord) -> NDArray[np.bool_]:
    """Tell which residues of the lining are part of the simulated system.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    simulated : ndarray of bool, shape (n_lining,)
    """
    present = set(zip(record.atoms.chain.tolist(), record.atoms.number.tolist(), strict=True))
    lining = zip(record.lining.chain.tolist(), record.lining.number.tolist(), strict=True)
    return np.array([residue in present for residue in lining], dtype=bool)


def rings_of(record: RunRecord) -> tuple[Ring, ...]:
    """Find the rings of the pore in the prepared receptor, whose frame is the run's.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    rings : tuple of Ring
        From the cytoplasmic to the extracellular side; absent rings are left out.
    """
    heights: dict[str, list[float]] = {}
    names: dict[str, set[str]] = {}
    atoms, subunit_of_chain = record.lining, record.subunit_of_chain
    for i in range(len(atoms.name)):
        subunit = subunit_of_chain.get(atoms.chain[i])
        ring = ring_of(subunit, int(atoms.number[i])) if subunit else None
        if ring:
            heights.setdefault(ring, []).append(atoms.positions[i, 2])
            names.setdefault(ring, set()).add(
                residue_label(subunit or "", atoms.residue[i], atoms.number[i])
            )
    return tuple(
        Ring(
            name=ring,
            height=float(np.mean(heights[ring])),
            residues=", ".join(sorted(names[ring])),
        )
        for ring in RING_NAMES
        if ring in heights
    )


def residue_label(subunit: str, residue: str, number: int) -> str:
    """Name a residue the way the field does.

    Parameters
    ----------
    subunit : str
        GluN1, GluN2A or GluN2B; may be empty.
    residue : str
        Residue name of three letters.
    number : int
        UniProt number.

    Returns
    -------
    label : str

    Examples
    --------
    >>> residue_label("GluN2B", "LEU", 643)
    'GluN2B L643'
    """
    return f"{subunit} {ONE_LETTER.get(residue, residue)}{number}".strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(
            f"{path} is missing: {_what_to_do(path)}, then write the report again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} cannot be read ({error}): {_what_to_do(path)}") from error


def _what_to_do(path: Path) -> str:
    if path.parent.name == ANALYSIS:
        return f"run `nmdasim analyse {path.parent.parent}` first"
    return "run the same `nmdasim run` command again to complete this folder"


def _read_json(path: Path) -> object:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ReportError(f"{path} is not valid JSON ({error}): {_what_to_do(path)}") from error


def _read_object(path: Path, *, required: bool = True) -> Mapping:
    if not required and not path.is_file():
        return {}
    content = _read_json(path)
    if not isinstance(content, Mapping):
        raise ReportError(f"{path} holds no JSON object: {_what_to_do(path)}")
    return content


def _read_list(path: Path) -> tuple[Mapping, ...]:
    """Read a list of records, also where it is the only list of an object."""
    content = _read_json(path)
    if isinstance(content, Mapping):
        content = next((value for value in content.values() if isinstance(value, list)), None)
    if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
        raise ReportError(f"{path} holds no list of records: {_what_to_do(path)}")
    return tuple(content)


def _read_inputs(path: Path) -> Mapping:
    try:
        inputs = tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ReportError(f"{path} is not valid TOML ({error})") from error
    for section, key in (("ligand", "name"), ("receptor", "name")):
        if key not in inputs.get(section, {}):
            raise ReportError(f"{path} does not say [{section}] {key}: it is not a finished run")
    return inputs


def _read_tables(folder: Path) -> Mapping[str, pa.Table]:
    tables = {name: _read_table(folder, name) for name in REQUIRED_COLUMNS}
    if not tables["frames"].num_rows:
        raise ReportError(
            f"{folder} has no production frames to report on; run longer, then analyse again"
        )
    there = (n for n in OPTIONAL_COLUMNS if (folder / ANALYSIS / f"{n}.parquet").is_file())
    return {**tables, **{name: _read_table(folder, name) for name in there}}


def _read_table(folder: Path, name: str) -> pa.Table:
    path = folder / ANALYSIS / f"{name}.parquet"
    if not path.is_file():
        raise ReportError(
            f"{folder} has no analysis/{path.name}: "
            f"run `nmdasim analyse {folder}` first, then write the report again"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"{path} cannot be read ({error}): {_what_to_do(path)}") from error
    needed = {**REQUIRED_COLUMNS, **OPTIONAL_COLUMNS}[name]
    missing = [column for column in needed if column not in table.column_names]
    if missing:
        raise ReportError(
            f"{path} has no column {', '.join(missing)}; it was written by another version: "
            f"{_what_to_do(path)}"
        )
    return table


def _read_receptor(path: Path) -> tuple[tuple[Mapping, ...], tuple[Mapping, ...], Mapping]:
    try:
        block = gemmi.cif.read_string(_read_text(path)).sole_block()
    except (RuntimeError, ValueError) as error:
        raise ReportError(f"{path} is not a receptor file ({error})") from error
    residues = _rows(block, "_nmdasim_residue.", ("chain", "subunit", "number", "name", "status"))
    checks = _rows(block, "_nmdasim_check.", ("name", "value", "limit", "unit", "passed", "detail"))
    if not residues:
        raise ReportError(f"{path} has no table _nmdasim_residue: it is not a prepared receptor")
    return residues, checks, _items(block, "_nmdasim_source.")


def _rows(block: gemmi.cif.Block, prefix: str, tags: Sequence[str]) -> tuple[Mapping, ...]:
    table = block.find(prefix, list(tags))
    return tuple({tag: _plain(row[column]) for column, tag in enumerate(tags)} for row in table)


def _items(block: gemmi.cif.Block, prefix: str) -> Mapping[str, str]:
    category = block.get_mmcif_category(prefix)
    return {
        tag: "; ".join(str(value) for value in values if value not in (None, False))
        for tag, values in category.items()
    }


def _plain(value: str) -> str:
    return "" if value in (".", "?") else gemmi.cif.as_string(value)


def _read_ligand(path: Path) -> Chem.Mol:
    molecule = Chem.MolFromMolBlock(_read_text(path), removeHs=False)
    if molecule is None or not molecule.GetNumConformers():
        raise ReportError(f"{path} holds no molecule with coordinates that RDKit can read")
    return molecule


def _read_last_ligand(folder: Path) -> NDArray[np.float64] | None:
    """Read the ligand of the last frame from the last segment alone."""
    run = open_run(folder)
    if not run.pieces or not run.pieces[-1].path.is_file():
        return None
    last = None
    for chunk in read_frames(replace(run, pieces=run.pieces[-1:])):
        last = chunk.trajectory.xyz[-1]
    ligand = np.searchsorted(run.solute, run.ligand_atoms)
    return None if last is None else _fixed(last[ligand].astype(np.float64))


def _read_atoms(path: Path) -> Atoms:
    try:
        structure = gemmi.make_structure_from_block(
            gemmi.cif.read_string(_read_text(path)).sole_block()
        )
        model = structure[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ReportError(f"{path} is not a structure that gemmi can read ({error})") from error
    rows = [
        (atom.name, atom.element.name, chain.name, residue.seqid.num, residue.name, atom.pos)
        for chain in model
        for residue in chain
        if residue.name in ONE_LETTER
        for atom in residue
        if not atom.is_hydrogen()
    ]
    if not rows:
        raise ReportError(f"{path} holds no protein atoms")
    name, element, letter, number, residue_name, position = zip(*rows, strict=True)
    return Atoms(
        name=_fixed(name),
        element=_fixed(element),
        chain=_fixed(letter),
        number=_fixed(number),
        residue=_fixed(residue_name),
        positions=_fixed([p.tolist() for p in position]) * _NM_PER_ANGSTROM,
    )


def _lining(receptor: Atoms, subunit_of_chain: Mapping[str, str]) -> Atoms:
    def in_lining(i: int) -> bool:
        subunit = subunits().get(subunit_of_chain.get(str(receptor.chain[i]), ""))
        return subunit is not None and any(
            receptor.number[i] in subunit.segments[name] for name in ("m2", "m2_m3", "m3")
        )

    chosen = [i for i in np.flatnonzero(receptor.name == "CA").tolist() if in_lining(i)]
    return Atoms(
        **{field.name: _fixed(getattr(receptor, field.name)[chosen]) for field in fields(Atoms)}
    )


def _fixed(values: Sequence) -> NDArray:
    array = np.asarray(values)
    array.flags.writeable = False
    return array
