"""A small run folder with made-up numbers on a real structure, for the tests of the report.

Nothing here is the result of a simulation: the numbers follow simple formulas so that a
test can tell where each one must appear.
"""

import json
from pathlib import Path

import gemmi
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mdtraj.formats import XTCTrajectoryFile
from rdkit import Chem
from scipy.signal import lfilter

from nmdasim.pore import radii_of, radius_profile
from nmdasim.rundir import create_run_folder
from nmdasim.structures import structures_folder
from nmdasim.subunits import ring_of, subunits
from nmdasim.trajectory import open_run

DATA = Path(__file__).parent / "data"
LIGAND = DATA / "report_ligand.sdf"
RECEPTOR = structures_folder() / "receptors" / "7eu8" / "receptor.cif"

# chain, subunit, number, residue, type, occupancy, mean distance in nm
CONTACTS = [
    ("A", "GluN1", 644, "VAL", "hydrophobic", 0.82, 0.39),
    ("C", "GluN1", 644, "VAL", "hydrophobic", 0.64, 0.40),
    ("B", "GluN2B", 643, "LEU", "hydrophobic", 0.94, 0.38),
    ("D", "GluN2B", 643, "LEU", "close contact", 0.30, 0.37),
    ("D", "GluN2B", 647, "THR", "close contact", 0.48, 0.36),
    ("D", "GluN2B", 615, "ASN", "hydrogen bond", 0.56, 0.30),
    ("C", "GluN1", 616, "ASN", "hydrogen bond", 0.20, 0.31),
    ("D", "GluN2B", 615, "ASN", "halogen", 0.12, 0.35),
    ("A", "GluN1", 645, "ALA", "close contact", 0.10, 0.38),
]
N_FRAMES = 50


def write_run(
    folder: Path,
    *,
    receptor: Path,
    ligand_name: str = "S-ketamine",
    replica: int = 1,
    shift_nm: float = 0.0,
    segments: tuple[str, ...] = ("m2", "m2_m3", "m3"),
    n_frames: int = N_FRAMES,
    optional: bool = True,
    ligand: Path = LIGAND,
) -> Path:
    """Write a run folder as the contract of the run folder describes it."""
    rng = np.random.default_rng(replica)
    create_run_folder(folder, inputs(ligand_name, replica, "vestibule"))
    (folder / "analysis").mkdir()
    (folder / "receptor.cif").write_bytes(receptor.read_bytes())
    (folder / "ligand.sdf").write_bytes(ligand.read_bytes())
    write_topology(folder / "topology.cif", receptor=receptor, segments=segments, ligand=ligand)
    dump(folder / "provenance.json", PROVENANCE)
    dump(folder / "status.json", {"state": "analysed", "production_ps_done": 50.0})
    dump(folder / "equilibration.json", EQUILIBRATION)
    dump(folder / "segments" / "00000.json", SEGMENT)
    dump(folder / "analysis" / "checks.json", CHECKS)
    written = tables(folder / "topology.cif", rng, shift_nm, n_frames)
    if optional:
        written |= optional_tables(rng, n_frames)
        written["frames"] |= channel_columns(rng, n_frames)
    for name, table in written.items():
        pq.write_table(pa.table(table), folder / "analysis" / f"{name}.parquet")
    return folder


def inputs(ligand_name: str, replica: int, protocol: str) -> dict:
    return {
        **INPUTS,
        "ligand": {"name": ligand_name, **INPUTS["ligand"]},
        "protocol": {"name": protocol, **INPUTS["protocol"]},
        "simulation": {**INPUTS["simulation"], "replica": replica},
    }


def rewrite_inputs(
    folder: Path, *, ligand_name: str = "S-ketamine", protocol: str = "vestibule"
) -> None:
    """Make the folder's record of inputs anew, as if it had been another run."""
    fresh = folder.with_name("fresh")
    create_run_folder(fresh, inputs(ligand_name, 1, protocol))
    (fresh / "run.toml").replace(folder / "run.toml")


def make_foreign(folder: Path) -> Path:
    """Leave of a run what the analysis of a trajectory from elsewhere writes."""
    about = {
        "ligand": {"name": "S-ketamine", **INPUTS["ligand"]},
        "subunits": {"A": "GluN1", "B": "GluN2B", "C": "GluN1", "D": "GluN2B"},
        "topology": "system.psf",
        "trajectories": ["part1.dcd", "part2.dcd"],
        "command": "nmdasim analyse --topology system.psf --trajectory part1.dcd part2.dcd",
    }
    dump(folder / "foreign.json", about)
    for name in (
        "run.toml",
        "provenance.json",
        "receptor.cif",
        "status.json",
        "equilibration.json",
    ):
        (folder / name).unlink()
    path = folder / "analysis" / "frames.parquet"
    kept = pq.read_table(path).drop_columns(["potential_kj_mol", "temperature_k"])
    pq.write_table(kept, path)
    return folder


def write_topology(path: Path, *, receptor: Path, segments: tuple[str, ...], ligand: Path) -> None:
    structure = gemmi.read_structure(str(receptor))
    rows = [
        (chain.name, residue.seqid.num)
        for chain in structure[0]
        for residue in chain
        if not inside_pore(chain, residue, segments)
    ]
    outside = set(rows)
    for chain in structure[0]:
        for i in reversed(range(len(chain))):
            if (chain.name, chain[i].seqid.num) in outside:
                del chain[i]
    structure[0].add_chain(ligand_chain(ligand))
    structure.setup_entities()
    groups = gemmi.MmcifOutputGroups(True, auth_all=True)
    structure.make_mmcif_document(groups).write_file(str(path))


def ligand_chain(path: Path) -> gemmi.Chain:
    molecule = Chem.MolFromMolFile(str(path), removeHs=False)
    residue = gemmi.Residue()
    residue.name, residue.seqid = "LIG", gemmi.SeqId("1")
    for i, position in enumerate(molecule.GetConformer().GetPositions()):
        atom = gemmi.Atom()
        atom.name = f"{molecule.GetAtomWithIdx(i).GetSymbol()}{i + 1}"
        atom.element = gemmi.Element(molecule.GetAtomWithIdx(i).GetSymbol())
        atom.pos = gemmi.Position(*position)
        residue.add_atom(atom)
    chain = gemmi.Chain("L")
    chain.add_residue(residue)
    return chain


def write_last_frame(folder: Path, *, lift_nm: float, seed: int) -> None:
    """Write a trajectory of one frame: the start, its ligand lifted, all of it tumbled."""
    run = open_run(folder)
    xyz = np.array(run.start)
    xyz[run.ligand_atoms] += [0.0, 0.0, lift_nm]
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    with XTCTrajectoryFile(str(folder / "segments" / "00000.xtc"), "w") as file:
        box = 20.0 * np.eye(3, dtype=np.float32)[None]
        file.write((xyz @ rotation + 8.0)[None].astype(np.float32), box=box)
    manifest = json.loads((folder / "segments" / "00000.json").read_text())
    one = {"time_ps": [1.0], "potential_kj_mol": [-1.2e5], "temperature_k": [309.0]}
    dump(folder / "segments" / "00000.json", {**manifest, **one, "n_frames": 1})


def inside_pore(chain: gemmi.Chain, residue: gemmi.Residue, chosen: tuple[str, ...]) -> bool:
    subunit = "GluN1" if chain.name in "AC" else "GluN2B"
    segments = subunits()[subunit].segments
    return any(residue.seqid.num in segments[name] for name in chosen)


def dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def slow_noise(rng: np.random.Generator, count: int, n_frames: int) -> np.ndarray:
    """Series that wander slowly and stay within about 0.05 of zero."""
    steps = rng.normal(scale=0.02, size=(count, n_frames))
    return lfilter([0.5], [1.0, -0.95], steps, axis=1)


def tables(
    topology: Path, rng: np.random.Generator, shift_nm: float, n_frames: int
) -> dict[str, dict]:
    frame = np.arange(n_frames)
    noise = slow_noise(rng, 6, n_frames)
    frames = {
        "frame": frame,
        "time_ps": frame + 1.0,
        "ligand_depth_nm": 0.88 + shift_nm + noise[0],
        "ammonium_depth_nm": 0.70 + shift_nm + noise[1],
        "ligand_offset_nm": np.abs(0.12 + noise[2]),
        "ligand_tilt_deg": 55 + 200 * noise[3],
        "ligand_rmsd_nm": np.abs(0.08 + noise[4]),
        "radius_at_ligand_nm": 0.45 + noise[5],
        "radius_past_ligand_nm": np.abs(0.06 + 0.3 * noise[5]),
        "filled_share": np.clip(0.72 + noise[5], 0, 1),
        "potential_kj_mol": -1.2e5 + rng.normal(scale=150, size=n_frames),
        "temperature_k": 310 + rng.normal(scale=2.5, size=n_frames),
    }
    names = ("chain", "subunit", "number", "residue", "type", "occupancy", "mean_distance_nm")
    contacts: dict[str, list] = dict(
        zip(names, map(list, zip(*CONTACTS, strict=True)), strict=True)
    )
    contacts["ring"] = [ring_of(row[1], row[2]) for row in CONTACTS]
    contacts["status"] = ["side chain rebuilt" if row[0] == "D" else "observed" for row in CONTACTS]
    contacts["occupancy_error"] = [0.04 if row[5] > 0.3 else np.nan for row in CONTACTS]
    contacts["min_distance_nm"] = [row[6] - 0.04 for row in CONTACTS]
    return {
        "frames": frames,
        "contacts": contacts,
        "ring_contacts": ring_contacts(),
        "contacts_by_frame": contacts_by_frame(rng, n_frames),
        "profile": profile(topology),
        "estimates": estimates(frames),
    }


def ring_contacts() -> dict[str, list]:
    folded: dict[tuple, float] = {}
    for _, subunit, number, residue, kind, occupancy, _ in CONTACTS:
        letter = {"VAL": "V", "LEU": "L", "THR": "T", "ASN": "N", "ALA": "A"}[residue]
        key = (ring_of(subunit, number), f"{subunit} {letter}{number}", kind)
        folded[key] = max(folded.get(key, 0.0), occupancy)
    rings, labels, kinds = map(list, zip(*folded, strict=True))
    return {
        "ring": rings,
        "residue": labels,
        "type": kinds,
        "occupancy": list(folded.values()),
        "occupancy_error": [0.05] * len(folded),
    }


def contacts_by_frame(rng: np.random.Generator, n_frames: int) -> dict[str, list]:
    rows = [
        (frame, chain, number, kind, distance)
        for chain, _, number, _, kind, occupancy, distance in CONTACTS
        for frame in np.flatnonzero(rng.random(n_frames) < occupancy)
    ]
    names = ("frame", "chain", "number", "type", "distance_nm")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def channel_columns(rng: np.random.Generator, n_frames: int) -> dict[str, object]:
    """Columns of frames.parquet about states and paths; the first tenth is unblocked."""
    noise = slow_noise(rng, 3, n_frames)
    free = np.arange(n_frames) < n_frames / 10
    past = rng.random(n_frames) < np.where(free, 0.9, 0.2)
    return {
        "ammonium_angle_deg": 70 + 200 * noise[2],
        "filter_radius_nm": 0.2 + noise[0],
        "gate_radius_nm": 0.12 + noise[1],
        "water_path": past & (rng.random(n_frames) < 0.1),
        "water_path_past_ligand": past,
        "hydrated_ion_path": np.zeros(n_frames, dtype=bool),
        "hydrated_ion_past_ligand": pa.array([None] * n_frames, pa.bool_()),
        "state": np.where(free, "unblocked", np.where(past, "partial", "blocked")),
        "gate_state": ["trapped"] * n_frames,
    }


def optional_tables(rng: np.random.Generator, n_frames: int) -> dict[str, dict]:
    return {
        "states": states(),
        "density": density(rng),
        "permeation": {"kind": ["water"], "direction": ["in"], "entered_ps": [3.0],
                       "left_ps": [21.0]},
        "permeation_rates": rates(n_frames),
        "contact_lifetimes": lifetimes(),
        "regions": regions(),
    }  # fmt: skip


def states() -> dict[str, list]:
    rows = [
        ("block", "blocked", 0.72, 0.06, 9, 8, 0.004, 0.002, 0.009, ""),
        ("block", "unblocked", 0.10, np.nan, 1, 0, np.inf, 0.0013, np.inf, "no exit was seen"),
        ("path", "water_path_past_ligand", 0.27, 0.05, 12, 12, 0.001, 0.0006, 0.002, ""),
    ]
    names = ("group", "state", "share", "share_error", "n_visits", "n_exits", "lifetime_ns",
             "lifetime_low_ns", "lifetime_high_ns", "note")  # fmt: skip
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def density(rng: np.random.Generator) -> dict[str, list]:
    z = np.arange(-1.0, 3.5, 0.1)
    columns: dict[str, list] = {"kind": [], "z_nm": [], "per_nm": [], "per_nm_error": []}
    for kind, height in (("water", 12.0), ("Cl-", 0.05), ("Na+", 0.2)):
        shape = height * (1.2 - np.exp(-(((z - 1.8) / 0.5) ** 2)))
        columns["kind"] += [kind] * len(z)
        columns["z_nm"] += z.tolist()
        columns["per_nm"] += (shape + rng.normal(scale=0.02 * height, size=len(z))).tolist()
        columns["per_nm_error"] += [0.05 * height] * len(z)
    return columns


def rates(n_frames: int) -> dict[str, list]:
    rows = [
        ("water", "whole pore", "in", 1, 20.0, 0.5, 111.4, ""),
        ("water", "asparagine ring", "out", 14, 280.0, 153.1, 469.8, ""),
        ("Na+", "whole pore", "in", 0, 0.0, 0.0, 73.8, "no event was seen"),
    ]
    names = ("kind", "place", "direction", "count", "rate_per_ns", "rate_low_per_ns",
             "rate_high_per_ns", "note")  # fmt: skip
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return {**columns, "time_ns": [n_frames / 1000.0] * len(rows)}


def lifetimes() -> dict[str, list]:
    rows = [
        ("folded", "GluN2B L643", "hydrophobic_1", "hydrophobic", 0.94, 4, 3, 15.0, 5.1, 73.0,
         30.0),
        ("folded", "GluN2B N615", "asparagine", "hydrogen bond", 0.56, 1, 0, np.inf, 7.5, np.inf,
         28.0),
        ("residue", "LEU", "hydrophobic_1", "hydrophobic", 0.94, 4, 3, 15.0, 5.1, 73.0, 30.0),
    ]  # fmt: skip
    names = ("level", "residue", "ring", "type", "occupancy", "n_episodes", "n_breaks",
             "lifetime_ps", "lifetime_low_ps", "lifetime_high_ps", "longest_ps")  # fmt: skip
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return {**columns, "note": ["", "never seen to break", ""]}


def regions() -> dict[str, list]:
    return {
        "region": ["pore-lining", "fenestration", "membrane-facing"],
        "n_touched": [9, 1, 0],
        "occupancy": [1.0, 0.1, 0.0],
        "occupancy_error": [0.02, 0.04, np.nan],
        "residues": ["GluN2B L643 B, GluN1 V644 A", "GluN1 A645 A", ""],
        "note": ["", "", "not in this system: most of its residues were cut away"],
    }


def profile(topology: Path) -> dict[str, np.ndarray]:
    structure = gemmi.read_structure(str(topology))
    heavy = [
        atom
        for atom in structure[0].all()
        if atom.residue.name != "LIG" and not atom.atom.is_hydrogen()
    ]
    protein = np.array([atom.atom.pos.tolist() for atom in heavy]) / 10
    molecule = Chem.RemoveHs(Chem.MolFromMolFile(str(LIGAND), removeHs=False))
    ligand = np.array(molecule.GetConformer().GetPositions()) / 10
    elements = [atom.atom.element.name for atom in heavy]
    more = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    start = radius_profile(protein, radii=radii_of(elements))
    filled = radius_profile(np.concatenate([protein, ligand]), radii=radii_of(elements + more))
    error = np.full(len(start.levels), 0.012)
    return {
        "z_nm": start.levels,
        "radius_open_nm": start.radius[0] * 1.05,
        "radius_open_error_nm": error,
        "radius_ligand_nm": filled.radius[0] * 1.05,
        "radius_ligand_error_nm": error,
        "radius_start_open_nm": start.radius[0],
        "radius_start_ligand_nm": filled.radius[0],
    }


def estimates(frames: dict[str, np.ndarray]) -> dict[str, list]:
    units = {
        "ligand_depth": "nm", "ammonium_depth": "nm", "ligand_offset": "nm",
        "ligand_tilt": "deg", "ligand_rmsd": "nm", "radius_past_ligand": "nm",
        "filled_share": "", "temperature": "K",
    }  # fmt: skip
    columns = {name: next(c for c in frames if c.startswith(name)) for name in units}
    enough = {"temperature", "filled_share", "ligand_tilt"}
    return {
        "name": list(units),
        "unit": list(units.values()),
        "mean": [float(frames[columns[name]].mean()) for name in units],
        "error": [
            float(frames[columns[name]].std() / 4) if name in enough else np.nan for name in units
        ],
        "n_frames": [N_FRAMES] * len(units),
        "n_effective": [16.0 if name in enough else 4.2 for name in units],
        "note": ["" if name in enough else "not enough data" for name in units],
    }


INPUTS = {
    "ligand": {"smiles": "C[NH2+][C@]1(c2ccccc2Cl)CCCCC1=O", "charge": 1},
    "receptor": {"name": "7eu8", "sha256": "aa11"},
    "protocol": {
        "temperature_k": 310.0,
        "timestep_fs": 4.0,
        "salt_molar": 0.15,
    },
    "simulation": {"production_ns": 0.05, "seed": 7},
}  # fmt: skip
PROVENANCE = {
    "versions": {"nmdasim": "0.1.0", "openmm": "8.3.1", "python": "3.12.1"},
    "platform": "CPU",
    "host": "bench <a&b>",
    "hashes": {"ligand.sdf": "ab" * 32},
    "started": "2026-01-02T03:04:05Z",
    "finished": "2026-01-02T03:09:05Z",
    "methods": [
        "The protein was described with ff14SB (doi:10.1021/acs.jctc.5b00255).",
        "Long-range electrostatics used PME (doi:10.1063/1.470117).",
        "The protein was described with TIP3P water (doi:10.1063/1.445869).",
    ],
}
EQUILIBRATION = {
    "minimisation": {"energy_before_kj_mol": 3.1e6, "energy_after_kj_mol": -1.3e5},
    "stages": [
        {
            "name": "heat",
            "ps": 5.0,
            "temperature_k": 296.1,
            "potential_kj_mol": -1.21e5,
            "density_g_ml": 1.01,
            "wall_s": 11.2,
        },
        {
            "name": "release",
            "ps": 10.0,
            "temperature_k": 309.7,
            "potential_kj_mol": -1.2e5,
            "density_g_ml": 1.02,
            "wall_s": 22.4,
        },
    ],
}
SEGMENT = {
    "index": 0,
    "first_frame": 0,
    "n_frames": N_FRAMES,
    "timestep_ps": 0.004,
    "time_ps": [float(i + 1) for i in range(N_FRAMES)],
    "frame_interval_ps": 1.0,
    "wall_s": 170.0,
    "ns_per_day": 25.4,
    "platform": "CPU",
}
CHECKS = [
    {
        "name": "mean temperature off the target",
        "value": 0.4,
        "limit": 5.0,
        "passed": True,
        "unit": "K",
        "detail": "",
    },
    {
        "name": "ligand in the vestibule",
        "value": 1.0,
        "limit": 0.9,
        "passed": True,
        "unit": "",
        "detail": "share of frames",
    },
    {
        "name": "closest <heavy> atoms",
        "value": 0.21,
        "limit": 0.28,
        "passed": False,
        "unit": "nm",
        "detail": "LEU 643 & ligand",
    },
]
