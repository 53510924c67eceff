"""Trajectories of other programs: GROMACS, NAMD, Amber, OpenMM and whatever mdtraj reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import gemmi
import mdtraj as md
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from nmdasim.errors import Check, SelectionError, TrajectoryError
from nmdasim.ligand import load_ligand, state_of
from nmdasim.pore import to_pore
from nmdasim.rundir import (
    FOREIGN,
    LIGAND,
    TOPOLOGY,
    sha256_of,
    software_versions,
    storage_error,
    utc_now,
    write_atomic,
    write_json,
)
from nmdasim.subunits import ONE_LETTER, ring_of
from nmdasim.trajectory.chains import ChainOfReceptor, find_chains
from nmdasim.trajectory.files import (
    check_trajectory,
    count_frames,
    has_times,
    read_one,
    read_topology,
)
from nmdasim.trajectory.frames import TORN_NM
from nmdasim.trajectory.imaging import (
    bring_together,
    close_pairs,
    link_molecules,
    nearest_points,
)
from nmdasim.trajectory.landmarks import frame_at, pore_atoms
from nmdasim.trajectory.matching import find_ligand, placed
from nmdasim.trajectory.model import CAPS, Piece, Run, RunResidue
from nmdasim.trajectory.names import LIPID_NAMES, WATER_NAMES, ion_of, ions_of, water_oxygens

# Covalent radii with a tenth to spare; two atoms nearer than the sum are bonded.
_REACH_NM = {"H": 0.045, "C": 0.09, "N": 0.085, "O": 0.085, "F": 0.08, "S": 0.115, "P": 0.115,
             "Cl": 0.11, "Br": 0.125, "I": 0.145, "Se": 0.125}  # fmt: skip
# Bonded atoms are not further apart in a file; a residue has some 25, a ligand up to 100.
_WINDOW = 120
# Oxygens of liquid water do not come nearer than 0.22 nm. Water folded into a box that is not
# its own overlaps.
_OVERLAP_NM = 0.18
_OVERLAP_SHARE = 0.005
# The membrane domains of GluN2A and GluN2B differ by 4 of 115 residues: what differs more is none
# of them with a few mutations.
_DIFFERENT_SHARE = 0.05


def open_trajectory(
    trajectory: str | Path | Sequence[str | Path],
    *,
    topology: str | Path,
    ligand: str | Path,
    charge: int | None = None,
    ligand_residue: str | None = None,
    frame_ps: float | None = None,
    stride: int = 1,
    folder: str | Path | None = None,
) -> Run:
    """Open a trajectory of any program for analysis.

    Parameters
    ----------
    trajectory : str, pathlib.Path or sequence of them
        Files of one simulation in their order: XTC, TRR, DCD, NetCDF and what else mdtraj reads.
    topology : str or pathlib.Path
        PDB, mmCIF, GRO, PSF, prmtop or another topology that mdtraj reads, of the same atoms.
    ligand : str or pathlib.Path
        The ligand that was simulated: library name, SMILES or SD file. Its bond orders and
        charges are used; where it is in the topology is found by its graph.
    charge : int, optional
        Charge state, e. By default the one with the hydrogens of the topology; where that has
        none, the most positive.
    ligand_residue : str, optional
        Which residue the ligand is, where several molecules fit: LIG, LIG401 or LIG401#2.
    frame_ps : float, optional
        Time between frames, ps, for files that do not state it (DCD); overrides what they state.
    stride : int
        Every how many frames one is read.
    folder : str or pathlib.Path, optional
        Where an analysis is written; by default beside the working directory's files, named
        after the first trajectory file.

    Returns
    -------
    run : Run
        Chains have letters of their own and UniProt numbers, whatever the topology calls them.

    Raises
    ------
    TrajectoryError
        If a file is missing or of no known format, files do not fit each other, or times are
        missing or do not rise.
    TrajectoryDamageError
        If a file cannot be read to its end.
    SelectionError
        If the topology holds no NMDA receptor channel, or not exactly one ligand.
    LigandError
        If the ligand is not known or cannot be used.
    """
    paths = [Path(p) for p in ([trajectory] if isinstance(trajectory, str | Path) else trajectory)]
    _check_options(paths, frame_ps, stride)
    out = Path(folder or f"{paths[0].stem}-analysis")
    if out.exists() and not out.is_dir():
        raise TrajectoryError(
            f"{out} is a file, and results need a folder: choose another with -o (folder=)"
        )
    for path in paths:
        check_trajectory(path)
    given = read_topology(Path(topology))
    known = load_ligand(ligand)
    states = sorted(
        [state.mol for state in known.states] if charge is None else [state_of(known, charge).mol],
        key=Chem.GetFormalCharge,
        reverse=True,
    )
    pieces = _pieces(paths, given, frame_ps)
    xyz, box, _ = read_one(paths[0], given, pieces[0].skip)
    first = xyz[0].astype(np.float64)
    bonds = _bonds(given, first, box[0])
    whole = _gathered(given, first, box[0], bonds)
    chains = find_chains(given)
    _check_receptor(chains)
    found = find_ligand(given, whole, bonds, states=states, residue=ligand_residue)
    named = _renamed(given, chains)
    # Where elements are guessed from names, MG is a virtual site and CL1 may be a carbon.
    for index, atom in zip(found.atoms.tolist(), found.mol.GetAtoms(), strict=True):
        named.atom(index).element = md.element.get_by_symbol(atom.GetSymbol())
    protein = np.array(sorted(i for chain in chains for i in _atoms_of(given, chain)), np.intp)
    solute = np.union1d(protein, found.atoms)
    _check_whole(whole, bonds, solute, paths[0])
    subunit_of = {chain.letter: chain.subunit for chain in chains}
    start = _in_pore(named, whole, box, subunit_of, found.atoms)
    ions, ion_names, ion_charges = _free_ions(given, found.atoms)
    return Run(
        folder=out,
        inputs={},
        topology=named,
        start=start,
        solute=solute,
        ligand=placed(found.mol, start[found.atoms]),
        ligand_atoms=found.atoms,
        residues=_residues(named, chains),
        water=water_oxygens(given),
        ions=ions,
        ion_names=ion_names,
        ion_charges=ion_charges,
        pieces=pieces,
        records={},
        bonds=_tree(bonds, solute, given.n_atoms),
        source={
            "ligand": {
                "name": known.name,
                "smiles": Chem.MolToSmiles(Chem.RemoveHs(found.mol)),
                "charge": Chem.GetFormalCharge(found.mol),
                "residue": found.label,
            },
            "subunits": subunit_of,
            "topology": str(topology),
            "trajectories": [str(path) for path in paths],
            "stride": stride,
            "frame_ps": frame_ps,
            "differences": {c.letter: list(c.differences) for c in chains if c.differences},
            "checks": [
                asdict(check)
                for check in (*_check_box(given, pieces[0]), *_check_sequence(named, chains))
            ],
        },
        stride=stride,
    )


def write_source(run: Run) -> None:
    """Write what a report needs of a trajectory of another program into the folder of results.

    Parameters
    ----------
    run : Run
        From `open_trajectory`. `foreign.json`, `ligand.sdf` and `topology.cif` are written: files
        with their hashes, and protein and ligand of the first frame in the pore frame.

    Raises
    ------
    RunStorageError
        If the folder or a file of it cannot be written.
    """
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(run.folder, error) from error
    files = [run.source["topology"], *run.source["trajectories"]]
    write_json(
        run.folder / FOREIGN,
        {
            **run.source,
            "sha256": {name: sha256_of(Path(name)) for name in files},
            "versions": software_versions(("nmdasim", "mdtraj", "numpy", "rdkit")),
            "analysed": utc_now(),
        },
    )
    write_atomic(run.folder / LIGAND, Chem.MolToMolBlock(run.ligand) + "$$$$\n")
    write_atomic(run.folder / TOPOLOGY, _structure_of(run).make_mmcif_document().as_string())


def _structure_of(run: Run) -> gemmi.Structure:
    structure, model = gemmi.Structure(), gemmi.Model(1)
    for letter in dict.fromkeys(residue.chain for residue in run.residues):
        model.add_chain(gemmi.Chain(letter))
    solute = run.topology.subset(run.solute)
    places = run.start[run.solute] * 10
    for residue in solute.residues:
        if residue.name not in ONE_LETTER and residue.name not in CAPS:
            continue
        added = gemmi.Residue()
        added.name, added.seqid = residue.name, gemmi.SeqId(residue.resSeq, " ")
        for atom in residue.atoms:
            placed_atom = gemmi.Atom()
            placed_atom.name, placed_atom.element = atom.name, gemmi.Element(_symbol(atom) or "X")
            placed_atom.pos = gemmi.Position(*places[atom.index].tolist())
            added.add_atom(placed_atom)
        model[residue.chain.chain_id].add_residue(added)
    structure.add_model(model)
    structure.setup_entities()
    return structure


def _check_options(paths: Sequence[Path], frame_ps: float | None, stride: int) -> None:
    if not paths:
        raise TrajectoryError("no trajectory was given: give at least one file")
    if stride < 1:
        raise TrajectoryError(f"got a stride of {stride}: it must be 1 or more")
    if frame_ps is not None and not 0 < frame_ps < np.inf:
        raise TrajectoryError(f"got {frame_ps:g} ps between frames: it must be more than 0")


# --------------------------------------------------------------------------- files and times


def _pieces(
    paths: Sequence[Path], topology: md.Topology, frame_ps: float | None
) -> tuple[Piece, ...]:
    """Count frames and see that times rise from file to file."""
    pieces: list[Piece] = []
    n_before, known = 0, (-np.inf, -np.inf)
    for path in paths:
        n_frames = count_frames(path, topology)
        if not n_frames:
            raise TrajectoryError(f"{path} holds no frames: give a trajectory with at least one")
        skip, times = 0, None
        if frame_ps is not None or n_frames == len(paths) == 1:
            read_one(path, topology, 0)
            times = np.float64(frame_ps or 0.0) * (n_before + np.arange(n_frames))
        else:
            skip, known = _overlap(path, topology, n_frames, known)
        pieces.append(
            Piece(path=path, first_frame=n_before, n_frames=n_frames - skip, skip=skip,
                  time_ps=times)
        )  # fmt: skip
        n_before += n_frames - skip
    return tuple(pieces)


def _overlap(
    path: Path, topology: md.Topology, n_frames: int, before: tuple[float, float]
) -> tuple[int, tuple[float, float]]:
    """Count the frames at the start of a file that the file before it holds already.

    Of a file and of the one before, the times of the first and the last frame are told.
    """
    if not has_times(path):
        raise TrajectoryError(
            f"{path} does not state the time of its frames: give the time between them by "
            "--frame-ps (frame_ps=)"
        )
    first, last = (float(read_one(path, topology, k)[2][0]) for k in (0, n_frames - 1))
    # A file that begins where the one before began is no continuation: its clock was set back,
    # and frames of equal times are not the same frames.
    if first <= before[0] or last <= before[1] or (n_frames > 1 and last <= first):
        raise TrajectoryError(
            f"the times of {path} run from {first:g} to {last:g} ps"
            + (f" after {before[0]:g} to {before[1]:g} ps in the file before"
               if np.isfinite(before[0]) else "")
            + ", but must rise: give the files of one simulation in their order, and where each "
            "begins anew the time between frames by --frame-ps (frame_ps=), which numbers them "
            "through"
        )  # fmt: skip
    skip, time = 0, first
    while time <= before[1]:
        skip += 1
        time = float(read_one(path, topology, skip)[2][0])
    return skip, (first, last)


def _check_box(topology: md.Topology, piece: Piece) -> tuple[Check, ...]:
    """Fold the water into the box: in a box that is not its own, molecules come to overlap.

    Frames that were turned after they were wrapped keep a box that no longer fits.
    """
    water = water_oxygens(topology)
    if not len(water):
        return ()
    looked_at = sorted({piece.skip, piece.skip + piece.n_frames - 1})
    worst, without = 0.0, 0
    for frame in looked_at:
        xyz, boxes, _ = read_one(piece.path, topology, frame)
        box = boxes[0]
        if abs(np.linalg.det(box)) < 1e-9:
            without += 1
        elif len(water) > 1:
            shares = xyz[0, water].astype(np.float64) @ np.linalg.inv(box)
            folded = (shares - np.floor(shares)) @ box
            near = cKDTree(folded).query(folded, k=2)[0][:, 1]
            worst = max(worst, float((near < _OVERLAP_NM).mean()))
    return (
        Check(
            name="frames with water and without a box",
            value=float(without),
            limit=0.0,
            passed=not without,
            detail=f"of {len(looked_at)} that were looked at; without box vectors water and ions "
            "stay at the periodic image that was written, and those in the pore may be missed",
        ),
        Check(
            name="share of water that overlaps when folded into the box",
            value=worst,
            limit=_OVERLAP_SHARE,
            passed=worst <= _OVERLAP_SHARE,
            detail="beyond it the box is not that of the frames, or they were turned after they "
            "were wrapped, and what is told of water and ions far from the pore is wrong",
        ),
    )


def _check_receptor(chains: Sequence[ChainOfReceptor]) -> None:
    if not any(chain.subunit for chain in chains):
        raise SelectionError(
            f"by its sequence none of the {len(chains)} chains of the topology is GluN1, GluN2A or "
            "GluN2B: give the trajectory of an NMDA receptor channel, because no other receptor, "
            "such as one for AMPA or kainate, is known here"
        )


def _check_sequence(topology: md.Topology, chains: Sequence[ChainOfReceptor]) -> tuple[Check, ...]:
    """Hold the chains against the human subunits: mutants and relatives are taken and told."""
    known = [chain for chain in chains if chain.subunit]
    sizes = [sum(topology.residue(i).name in ONE_LETTER for i in chain.numbers) for chain in known]
    shares = [len(chain.differences) / size for chain, size in zip(known, sizes, strict=True)]
    worst = max(shares, default=0.0)
    listed = {
        f"{chain.subunit} {text}" + _ring_named(chain.subunit, text): None
        for chain in known
        for text in chain.differences
    }
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    check = Check(
        name="largest share of a subunit's residues that differ from the human sequence",
        value=worst,
        limit=_DIFFERENT_SHARE,
        passed=worst <= _DIFFERENT_SHARE,
        detail=(", ".join([*listed][:12]) + more or "none differs")
        + "; beyond the limit it may be another subunit, such as GluN2C, which is not known here",
    )
    unsure = [chain for chain in known if chain.alike]
    if not unsure:
        return (check,)
    names = "; ".join(
        f"chain {c.letter} is taken as {c.subunit} and fits {', '.join(c.alike)} as well"
        for c in unsure
    )
    return check, Check(
        name="chains whose residues fit more than one subunit",
        value=float(len(unsure)),
        limit=0.0,
        passed=False,
        detail=f"{names}: give residues their UniProt numbers, or a topology with more of them",
    )


def _ring_named(subunit: str, difference: str) -> str:
    ring = ring_of(subunit, int(difference[1:-1]))
    return f" ({ring} ring)" if ring else ""


# ------------------------------------------------------------------------- bonds and molecules


def _bonds(
    topology: md.Topology, xyz: NDArray[np.float64], box: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Give all bonds but those of water: stated ones, and by distance where none is stated."""
    atoms = np.array(
        [
            atom.index
            for residue in topology.residues
            if residue.name.upper() not in WATER_NAMES and ion_of(residue) is None
            for atom in residue.atoms
            # Lone pairs and virtual sites may lie on an atom.
            if atom.element is None or atom.element.atomic_number
        ],
        dtype=np.intp,
    )
    stated = np.array([[a.index, b.index] for a, b in topology.bonds], np.intp).reshape(-1, 2)
    stated = stated[np.isin(stated, atoms).all(axis=1)]
    symbols = [_symbol(topology.atom(int(index))) for index in atoms]
    reach = np.array([_REACH_NM.get(symbol, 0.1) for symbol in symbols])
    hydrogen = np.array([symbol == "H" for symbol in symbols], dtype=bool)
    near = atoms[close_pairs(xyz[atoms], box, reach, hydrogen, _WINDOW)]
    # Some formats state the bonds of the residues that mdtraj knows and of no other. Where they
    # hold a residue together, distance says nothing more about it.
    residue = np.array([atom.residue.index for atom in topology.atoms])
    inner = stated[residue[stated[:, 0]] == residue[stated[:, 1]]]
    n_bonds = np.bincount(residue[inner[:, 0]], minlength=topology.n_residues)
    whole = (n_bonds >= np.bincount(residue) - 1)[residue]
    near = near[~whole[near].all(axis=1)]
    return np.unique(np.sort(np.concatenate([stated, near]), axis=1), axis=0)


def _symbol(atom: md.core.topology.Atom) -> str:
    return "" if atom.element is None else str(atom.element.symbol)


def _gathered(
    topology: md.Topology,
    xyz: NDArray[np.float64],
    box: NDArray[np.float64],
    bonds: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Make molecules whole and bring those of a first frame together, nearest first.

    Here no structure says which image belongs to which. Subunits touch each other and leave
    water between their images: what is nearest belongs together.
    """
    whole = xyz.copy()
    solute = np.unique(bonds)
    if not len(solute):
        return whole
    tree = _tree(bonds, solute, len(xyz))
    alone = link_molecules(xyz, np.zeros(len(xyz), dtype=np.intp), parents=tree)
    bring_together(whole[None], box[None], alone)
    if not box.any():
        return whole
    graph = coo_matrix((np.ones(len(bonds)), bonds.T), shape=(len(xyz),) * 2)
    molecule = connected_components(graph)[1]
    probes = _probes(topology, solute, molecule)
    cells = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    order = np.unique(molecule[probes], return_counts=True)
    newest = order[0][order[1].argmax()]
    left = set(order[0].tolist()) - {newest}
    gap = dict.fromkeys(left, np.inf)
    shift: dict[int, NDArray[np.float64]] = {}
    while left:
        placed = cKDTree(whole[probes[molecule[probes] == newest]])
        anchor = placed.data.mean(axis=0)
        for number in left:
            own = whole[probes[molecule[probes] == number]]
            near = _nearest_cell(own.mean(axis=0) - anchor, cells)
            distances = placed.query(own[None] + (near + cells)[:, None])[0].min(axis=1)
            if distances.min() < gap[number]:
                gap[number] = float(distances.min())
                shift[number] = near + cells[distances.argmin()]
        newest = min(left, key=lambda number: gap[number])
        left.remove(newest)
        whole[molecule == newest] += shift[newest]
    return whole


def _nearest_cell(away: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the lattice vector that shortens a vector most, by steps to neighbouring cells."""
    moved = np.zeros(3)
    while True:
        best = cells[((away + moved + cells) ** 2).sum(axis=1).argmin()]
        if not best.any() or ((away + moved + best) ** 2).sum() >= ((away + moved) ** 2).sum():
            return moved
        moved = moved + best


def _probes(
    topology: md.Topology, solute: NDArray[np.intp], molecule: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pick what stands for a molecule: CA atoms of chains, heavy atoms of what has none."""
    protein = [
        atom.index
        for atom in topology.atoms
        if atom.name == "CA" and atom.residue.name in ONE_LETTER
    ]
    chains = np.isin(molecule, molecule[protein])
    others = [
        index
        for index in solute.tolist()
        if not chains[index]
        and _symbol(topology.atom(index)) != "H"
        and topology.atom(index).residue.name.upper() not in LIPID_NAMES
    ]
    return np.array(sorted([*protein, *others]), dtype=np.intp)


def _tree(bonds: NDArray[np.intp], solute: NDArray[np.intp], n_atoms: int) -> NDArray[np.intp]:
    """Span each molecule of the solute by bonds, parents first: atom and its earlier atom."""
    inside = np.zeros(n_atoms, dtype=bool)
    inside[solute] = True
    kept = bonds[inside[bonds].all(axis=1)]
    place = np.full(n_atoms, -1)
    place[solute] = np.arange(len(solute))
    graph = coo_matrix(
        (np.ones(len(kept)), place[kept].T), shape=(len(solute), len(solute))
    ).tocsr()
    graph = graph + graph.T
    _, labels = connected_components(graph, directed=False)
    rows = []
    for first in np.unique(labels, return_index=True)[1]:
        order, parents = breadth_first_order(graph, first, directed=False)
        rows.append(np.stack([order[1:], parents[order[1:]]], axis=1))
    tree = np.concatenate(rows) if rows else np.empty((0, 2), dtype=np.intp)
    return solute[tree]


def _check_whole(
    whole: NDArray[np.float64], bonds: NDArray[np.intp], solute: NDArray[np.intp], path: Path
) -> None:
    inside = bonds[np.isin(bonds, solute).all(axis=1)]
    lengths = np.linalg.norm(whole[inside[:, 0]] - whole[inside[:, 1]], axis=1)
    if len(lengths) and lengths.max() > TORN_NM:
        raise TrajectoryError(
            f"the first frame of {path} stays torn: a bond is {lengths.max():.1f} nm long after "
            "periodic images were mended, because there is no box, or the frames were turned "
            "after they were wrapped; make molecules whole first (gmx trjconv -pbc whole, "
            "cpptraj autoimage)"
        )


# ---------------------------------------------------------------------------- names and frame


def _atoms_of(topology: md.Topology, chain: ChainOfReceptor) -> list[int]:
    return [atom.index for i in chain.numbers for atom in topology.residue(i).atoms]


def _renamed(topology: md.Topology, chains: Sequence[ChainOfReceptor]) -> md.Topology:
    """Copy a topology with the letters and UniProt numbers of the chains; without bonds."""
    place = {
        index: (chain.letter, number) for chain in chains for index, number in chain.numbers.items()
    }
    named = md.Topology()
    chain, last = None, None
    for residue in topology.residues:
        letter, number = place.get(
            residue.index, (str(residue.chain.chain_id or ""), residue.resSeq)
        )
        if (letter, residue.index in place) != last or residue.chain.n_residues == 1:
            chain = named.add_chain(chain_id=letter)
            last = (letter, residue.index in place)
        added = named.add_residue(residue.name, chain, resSeq=number, segment_id=residue.segment_id)
        for atom in residue.atoms:
            named.add_atom(atom.name, atom.element, added)
    return named


def _residues(topology: md.Topology, chains: Sequence[ChainOfReceptor]) -> tuple[RunResidue, ...]:
    found = {}
    for chain in chains:
        for index, number in chain.numbers.items():
            name = topology.residue(index).name
            cap = name in CAPS
            found[index] = RunResidue(
                chain=chain.letter,
                subunit=chain.subunit,
                number=number,
                name=name,
                status="cap" if cap else "as given",
                ring=ring_of(chain.subunit, number) if chain.subunit and not cap else None,
            )
    return tuple(found[index] for index in sorted(found))


def _in_pore(
    topology: md.Topology,
    whole: NDArray[np.float64],
    box: NDArray[np.float64],
    subunit_of: Mapping[str, str],
    ligand: NDArray[np.intp],
) -> NDArray[np.float64]:
    landmarks = pore_atoms(topology, subunit_of=subunit_of)
    if len(ligand) == 1:
        # A lone ion hangs on nothing: it belongs where it is nearest to the pore's middle.
        rings = [whole[landmarks.rings[name]] for name in ("asparagine", "threonine")]
        middle = np.concatenate(rings).mean(axis=0)
        frame = whole[None].astype(np.float32)
        whole[ligand] = nearest_points(frame, box, ligand, middle[None])[0]
    start = to_pore(frame_at(whole, landmarks), whole)
    start.flags.writeable = False
    return start


def _free_ions(
    topology: md.Topology, ligand: NDArray[np.intp]
) -> tuple[NDArray[np.intp], tuple[str, ...], NDArray[np.float64]]:
    """Find the ions of the solution, the ligand not among them."""
    atoms, names, charges = ions_of(topology)
    free = np.flatnonzero(~np.isin(atoms, ligand))
    return atoms[free], tuple(names[i] for i in free), charges[free]
