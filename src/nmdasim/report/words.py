"""The sentences and tables of a report, written from the numbers of the run."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdCIPLabeler
from rdkit.Chem.Draw import rdMolDraw2D
from rdkit.Chem.rdDepictor import Compute2DCoords
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from nmdasim.report.record import SAME_POSE, RunRecord, residue_label, rings_of
from nmdasim.report.scene import ring_title
from nmdasim.subunits import RING_NAMES

#: Residues with a heavy atom this near to the ligand line its site, nm.
NEAR_SITE = 0.8

_ANGSTROM = 10.0
_MOST_DIGITS = 4
# Endings of field names and the units they stand for.
_UNITS = {
    "kj_mol_nm2": "kJ/mol/nm²", "kj_mol": "kJ/mol", "g_cm3": "g/cm³", "per_ps": "1/ps",
    "angstrom": "Å", "bar": "bar", "nm3": "nm³", "deg": "°", "nm": "nm", "ps": "ps", "ns": "ns",
    "fs": "fs", "da": "Da", "k": "K", "s": "s", "m": "mol/L",
}  # fmt: skip
_FIELD = re.compile(rf"(?:(.+)_)?({'|'.join(_UNITS)})(?:_(before|after))?")
_QUANTITIES = {
    "ligand_depth": "depth of the ligand",
    "ammonium_depth": "depth of the ammonium",
    "ligand_offset": "offset from the axis",
    "ligand_tilt": "tilt against the axis",
    "ligand_rmsd": "RMSD to the start",
    "radius_at_ligand": "lumen radius at the ligand",
    "radius_past_ligand": "radius left past the ligand",
    "filled_share": "filled share of the lumen",
    "potential": "potential energy",
    "fit_rmsd": "RMSD of the pore's backbone",
    "ammonium_above_ring": "ammonium above the asparagine ring",
    "ammonium_angle": "direction of the ammonium",
    "filter_radius": "radius of the filter",
    "gate_radius": "radius of the gate",
    "path_radius": "least radius of the whole pore",
    "water_path": "water connected through the pore",
    "water_path_past_ligand": "water connected past the ligand",
    "water_from_inside": "height reached by water from inside",
    "water_from_outside": "height reached by water from outside",
    "hydrated_ion_path": "hydrated ion fits through the pore",
    "hydrated_ion_past_ligand": "hydrated ion fits past the ligand",
    "bare_ion_path": "bare ion fits through the pore",
    "bare_ion_past_ligand": "bare ion fits past the ligand",
    "vestibule_volume": "volume of the vestibule",
    "vestibule_filled_share": "filled share of the vestibule",
    "lumen_area": "cross-section of the lumen at the ligand",
}
# Distances between opposite residues of a ring of the gate.
_ACROSS = re.compile(r"gate_(\w+?)_(glun\w+)_(ca|heavy)")
_MARKS = {"side chain rebuilt": " †", "rebuilt": " ‡"}
_DOI = re.compile(r"(?:doi:|https?://doi\.org/)\s*(10\.\d{4,9}/[^\s;,\]]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of plain text cells."""

    headings: tuple[str, ...]
    """One for each column."""
    rows: tuple[tuple[str, ...], ...]
    """Cells by row."""


def quantity(name: str) -> str:
    """Name an estimate as a reader says it.

    Parameters
    ----------
    name : str
        As in estimates.parquet.

    Returns
    -------
    words : str
    """
    across = _ACROSS.fullmatch(name)
    if across:
        ring, subunit, atoms = across.groups()
        return f"across the {ring_title(ring)}, {subunit.replace('glun', 'GluN')}, " + (
            "CA atoms" if atoms == "ca" else "nearest heavy atoms"
        )
    if name.removeprefix("radius_") in RING_NAMES:
        return f"radius at the {ring_title(name.removeprefix('radius_'))}"
    return _QUANTITIES.get(name, name.replace("_", " "))


def across_gate(name: str) -> bool:
    """Tell whether an estimate is a distance between opposite residues of the gate.

    Parameters
    ----------
    name : str
        As in estimates.parquet.

    Returns
    -------
    across : bool
    """
    return bool(_ACROSS.fullmatch(name))


def status_mark(status: str) -> str:
    """Mark a residue that was not seen in the deposited structure.

    Parameters
    ----------
    status : str
        observed, side chain rebuilt, rebuilt or cap.

    Returns
    -------
    mark : str
        Empty for observed residues.
    """
    return _MARKS.get(status, "")


def headline(record: RunRecord) -> str:
    """Say in one or two sentences what was simulated and whether the ligand stayed.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    text : str
    """
    name, receptor = record.inputs["ligand"]["name"], record.inputs["receptor"]["name"]
    subunits = "/".join(sorted(set(record.subunit_of_chain.values())))
    charge = Chem.GetFormalCharge(record.ligand)
    where = f"in the pore of the {subunits} NMDA receptor"
    if record.is_foreign:
        n_frames = record.tables["frames"].num_rows
        seen = f"{n_frames} frame{'s' * (n_frames > 1)} over {length_text(record.duration_ps)}"
        return (
            f"{name} (charge {charge:+d}) {where}, in a trajectory from elsewhere: {seen}. "
            + verdict(record)
        )
    protocol = record.inputs.get("protocol", {}).get("name", "")
    return (
        f"{length_text(record.duration_ps)} of {name} (charge {charge:+d}) {where} "
        f"(PDB {receptor.upper()})"
        + (f", protocol {protocol}" if protocol else "")
        + f". {verdict(record)}"
    )


def verdict(record: RunRecord) -> str:
    """Say whether the ligand stayed between the asparagine and the threonine ring.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    text : str
    """
    share = share_in_vestibule(record)
    if math.isnan(share):
        return "Whether the ligand stayed cannot be told: a ring of the pore is not simulated."
    n_frames = len(record.column("frames", "time_ps"))
    where = "between the asparagine and the threonine ring"
    if share == 1.0:
        place = f"The ligand stayed in the vestibule, {where}, in all {n_frames} frames"
    elif share == 0.0:
        place = f"The ligand was never {where} in {n_frames} frames"
    else:
        place = (
            f"The ligand was in the vestibule, {where}, in {share * n_frames:.0f} of {n_frames} "
            "frames and outside in the others"
        )
    return place + _pose_text(record.column("frames", "ligand_rmsd_nm"))


def _pose_text(rmsd: NDArray[np.float64]) -> str:
    away = int((rmsd > SAME_POSE).sum())
    limit = f"{SAME_POSE * _ANGSTROM:.0f} Å"
    end = f"{rmsd[-1] * _ANGSTROM:.1f} Å"
    if not away:
        return (
            f", and kept its pose: never more than {limit} (RMSD) from its start, at the end {end}."
        )
    return (
        f". It did not keep its pose: it was more than {limit} (RMSD) from its start in {away} of "
        f"{len(rmsd)} frames, at the end {end}."
    )


def share_in_vestibule(record: RunRecord) -> float:
    """Count the frames in which the ligand's centre lies in the vestibule.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    share : float
        Of the frames, from 0 to 1; nan when a ring is absent.
    """
    height = {ring.name: ring.height for ring in rings_of(record)}
    if not {"asparagine", "threonine"} <= height.keys():
        return math.nan
    depth = record.column("frames", "ligand_depth_nm")
    return float(((depth > height["asparagine"]) & (depth < height["threonine"])).mean())


def limits(record: RunRecord) -> tuple[str, ...]:
    """Say what this run cannot show, from its own numbers.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    sentences : tuple of str
    """
    sentences = [_length_limit(record), *_model_limits(record)]
    sentences += _progress_limits(record)
    sentences += [*_data_limits(record), *_structure_limits(record)]
    failed = [check["name"] for check in all_checks(record) if not check["passed"]]
    if failed:
        sentences.append(
            f"{len(failed)} quality check{'s' * (len(failed) > 1)} failed, see the table of "
            f"checks: {'; '.join(failed)}."
        )
    return tuple(sentences)


def all_checks(record: RunRecord) -> tuple[Mapping, ...]:
    """Gather the checks of the run and of its receptor in one form.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    checks : tuple of mapping
        With name, value, limit, unit, passed, detail and stage; the same check of the same
        receptor is given once.
    """
    found: dict[str, Mapping] = {}
    for stage, checks in (("run", record.checks), ("receptor", record.receptor_checks)):
        for check in checks:
            row = {"unit": "", "detail": "", **check, "stage": stage}
            row["passed"] = str(check["passed"]).lower() in ("true", "yes", "1", "y")
            found.setdefault(check["name"], row)
    return tuple(found.values())


def checks_table(record: RunRecord) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """Write the checks, the failed ones first.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    rows : tuple of (passed, cells)
        Cells are name, value, limit, detail.
    """
    rows = [
        (
            bool(check["passed"]),
            (
                check["name"],
                _with_unit(check["value"], check["unit"]),
                _with_unit(check["limit"], check["unit"]),
                check["detail"] or "",
            ),
        )
        for check in all_checks(record)
    ]
    return tuple(sorted(rows, key=lambda row: row[0]))


def estimates_tables(record: RunRecord) -> tuple[Table, Table]:
    """Write the estimates with their errors, or that there is not enough data for one.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    main, across : Table
        The second holds the distances across the gate. What the table of states says of paths
        is not said again.
    """
    told = {row["state"] for row in record.rows("states")}
    rows = [row for row in record.rows("estimates") if row["n_frames"] and row["name"] not in told]
    parts = [
        tuple(_estimate_row(row) for row in rows if across_gate(row["name"]) == across)
        for across in (False, True)
    ]
    headings = (
        "quantity", "mean ± error", "unit", "frames", "independent frames",
        "left out at the start", "note",
    )  # fmt: skip
    return Table(headings=headings, rows=parts[0]), Table(headings=headings, rows=parts[1])


def _estimate_row(row: Mapping) -> tuple[str, ...]:
    mean, error, unit = row["mean"], row["error"], row["unit"]
    if unit == "nm":
        mean, error, unit = _scaled(mean), _scaled(error), "Å"
    effective = row["n_effective"]
    return (
        quantity(row["name"]),
        estimate_text(mean, error),
        {"deg": "°", "nm3": "nm³", "nm2": "nm²"}.get(unit, unit or ""),
        str(row["n_frames"]),
        f"{effective:.1f}" if _known(effective) else "unknown",
        str(row.get("n_discarded") or 0),
        row["note"] or "",
    )


def estimate_text(mean: float | None, error: float | None) -> str:
    """Write a mean with as many digits as its error allows.

    Parameters
    ----------
    mean, error : float or None
        nan or None where not known.

    Returns
    -------
    text : str

    Examples
    --------
    >>> estimate_text(9.8371, 0.2643), estimate_text(310.24, 1.9)
    ('9.84 ± 0.26', '310.2 ± 1.9')
    >>> estimate_text(9.8371, float("nan"))
    '9.84, error: not enough data'
    >>> estimate_text(1.50676279, 3.5e-7)
    '1.5068 ± 0.0001'
    """
    if mean is None or not math.isfinite(mean):
        return "not enough data"
    if error is None or not math.isfinite(error):
        return f"{mean:.3g}, error: not enough data"
    digits = 2 if error <= 0 else max(0, 1 - math.floor(math.log10(error)))
    # Frames that hardly differ need no more digits than a reader can use.
    if digits > _MOST_DIGITS:
        return f"{mean:.{_MOST_DIGITS}f} ± {max(error, 10.0**-_MOST_DIGITS):.{_MOST_DIGITS}f}"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def contacts_table(record: RunRecord) -> Table:
    """Write every typed contact with its numbers.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table
        Most frequent first.
    """
    rows = sorted(record.tables["contacts"].to_pylist(), key=lambda row: -row["occupancy"])
    return Table(
        headings=(
            "residue", "chain", "ring", "interaction", "share of time", "mean distance (Å)",
            "closest (Å)", "side chain in the deposited structure",
        ),
        rows=tuple(
            (
                residue_label(row["subunit"], row["residue"], row["number"])
                + status_mark(row["status"]),
                row["chain"],
                (row["ring"] or "").replace("_", " "),
                row["type"],
                estimate_text(row["occupancy"], row["occupancy_error"]),
                _number(_scaled(row["mean_distance_nm"])),
                _number(_scaled(row["min_distance_nm"])),
                row["status"],
            )
            for row in rows
        ),
    )  # fmt: skip


def site_table(record: RunRecord) -> tuple[Table, int]:
    """List the residues near the ligand that were not wholly seen in the deposited structure.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table
        Nearest first.
    n_near : int
        All residues within `NEAR_SITE` of the ligand.
    """
    status = {
        (row["chain"], row["number"]): row["status"]
        for row in record.residues
        if row["status"] != "cap"
    }
    atoms, subunits = record.atoms, record.subunit_of_chain
    heavy = [atom.GetIdx() for atom in record.ligand.GetAtoms() if atom.GetAtomicNum() > 1]
    ligand = np.array(record.ligand.GetConformer().GetPositions())[heavy] / _ANGSTROM
    away = np.linalg.norm(atoms.positions[:, None] - ligand[None], axis=-1).min(axis=1)
    nearest: dict[tuple[str, int, str], float] = {}
    for i in np.flatnonzero(away <= NEAR_SITE):
        key = (str(atoms.chain[i]), int(atoms.number[i]), str(atoms.residue[i]))
        nearest[key] = min(nearest.get(key, math.inf), float(away[i]))
    rows = []
    for (chain, number, residue), distance in sorted(nearest.items(), key=lambda item: item[1]):
        what = status.get((chain, str(number)), "observed")
        if what in _MARKS:
            label = residue_label(subunits.get(chain, ""), residue, number)
            rows.append((label + status_mark(what), chain, what, f"{distance * _ANGSTROM:.1f}"))
    return Table(
        headings=("residue", "chain", "what was rebuilt", "distance to the ligand (Å)"),
        rows=tuple(rows),
    ), len(nearest)


def equilibration_tables(record: RunRecord) -> tuple[tuple[Table, ...], Mapping[str, str]]:
    """Write the stages of the equilibration.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    tables : tuple of Table
        One for each list of stages in equilibration.json.
    values : mapping of str to str
        The single values beside them.
    """
    lists = record.equilibration
    tables = tuple(
        _table_of(value)
        for value in lists.values()
        if isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value)
    )
    flat = flatten(
        {
            key: value
            for key, value in lists.items()
            if not isinstance(value, list) and not key.endswith("sha256")
        }
    )
    return tables, flat


def ligand_facts(record: RunRecord) -> Mapping[str, str]:
    """Describe the simulated molecule.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    facts : mapping of str to str
    """
    molecule = _as_asked(record)
    rdCIPLabeler.AssignCIPLabels(molecule)
    labels = [
        f"{atom.GetProp('_CIPCode')} ({atom.GetSymbol()}, atom {atom.GetIdx() + 1})"
        for atom in molecule.GetAtoms()
        if atom.HasProp("_CIPCode")
    ]
    facts = {
        "name": record.inputs["ligand"]["name"],
        "formula": CalcMolFormula(record.ligand),
        "SMILES": Chem.MolToSmiles(molecule),
        "stereo centres (CIP)": ", ".join(labels) or "none",
        "charge simulated": f"{Chem.GetFormalCharge(record.ligand):+d} e",
    }
    recorded = {**record.provenance.get("ligand", {}), **record.inputs["ligand"]}
    if record.ligand.GetNumAtoms() == 1:
        facts["stereo centres (CIP)"] = "none: an ion"
        return facts
    if record.is_foreign:
        return facts
    facts["share in this charge state"] = _share_text(recorded)
    if _known(recorded.get("pka")):
        facts["pKa"] = f"{recorded['pka']:g} {recorded.get('pka_source', '')}".strip()
    return facts


def _share_text(recorded: Mapping[str, Any]) -> str:
    """Say how much of the ligand is in the simulated charge state, where that is known."""
    if "population" not in recorded:
        return "not recorded in this run"
    share = recorded["population"]
    if not _known(share):
        return "not known: the pKa is not known as one figure"
    at = f" at pH {recorded['ph']:g}" if _known(recorded.get("ph")) else ""
    # A share of 0.1 % is not nothing, and one of 99.9 % is not all.
    decimals = 0 if 0.01 <= share <= 0.99 else 1
    return f"{100 * share:.{decimals}f} %{at}"


def draw_ligand(record: RunRecord) -> str:
    """Draw the simulated molecule in the plane.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    svg : str
        An SVG element without an XML header.
    """
    molecule = _as_asked(record)
    Compute2DCoords(molecule)
    flat = rdMolDraw2D.PrepareMolForDrawing(molecule, kekulize=True)
    drawing = rdMolDraw2D.MolDraw2DSVG(300, 240)
    options = drawing.drawOptions()
    options.addStereoAnnotation = True  # type: ignore[assignment]
    options.clearBackground = False  # type: ignore[assignment]
    options.useBWAtomPalette()
    drawing.DrawMolecule(flat)
    drawing.FinishDrawing()
    return drawing.GetDrawingText().split("?>", 1)[-1].strip()


def methods_with_references(record: RunRecord) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the methods sentences into a text with numbers and a list of DOIs.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    sentences : tuple of str
        Each DOI replaced by its number in brackets.
    references : tuple of str
        DOIs in order of first mention.
    """
    references: list[str] = []

    def number(match: re.Match) -> str:
        doi = match.group(1).rstrip(".)")
        if doi not in references:
            references.append(doi)
        return f"[{references.index(doi) + 1}]" + match.group(1)[len(doi) :]

    sentences = tuple(
        re.sub(r"\((\[\d+\])\)", r"\1", _DOI.sub(number, str(sentence)))
        for sentence in record.provenance.get("methods", ())
    )
    return sentences, tuple(references)


def command(record: RunRecord) -> str:
    """Write the command that makes this run again.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    command : str
        The recorded one where the run folder has it.
    """
    if isinstance(record.provenance.get("command"), str):
        return record.provenance["command"]
    inputs = record.inputs
    settings = inputs.get("simulation", {})
    protocol = inputs.get("protocol", {}).get("name")
    parts = [f"nmdasim run {_quoted(inputs['ligand']['name'])}"]
    parts.append(f"--receptor {_quoted(inputs['receptor']['name'])}")
    parts += [f"--protocol {_quoted(protocol)}"] if protocol else []
    parts += [
        f"--{key.replace('_', '-')} {settings[key]}"
        for key in ("production_ns", "replica", "seed")
        if key in settings
    ]
    return " ".join(parts) + f" -o {_quoted(record.folder.name)}"


def flatten(content: Mapping, prefix: str = "") -> Mapping[str, str]:
    """Write nested values as one level of readable names.

    Parameters
    ----------
    content : mapping
    prefix : str
        Put before each name.

    Returns
    -------
    values : mapping of str to str
    """
    flat: dict[str, str] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name} · "))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, item in enumerate(value, start=1):
                flat.update(flatten(item, f"{name} {i} · "))
        elif isinstance(value, list | tuple):
            flat[quantity_title(name)] = ", ".join(_cell(item) for item in value)
        else:
            flat[quantity_title(name)] = _cell(value)
    return flat


def quantity_title(name: str) -> str:
    """Turn a field name into words with its unit in brackets.

    Parameters
    ----------
    name : str

    Returns
    -------
    title : str

    Examples
    --------
    >>> quantity_title("potential_kj_mol_after"), quantity_title("ps"), quantity_title("name")
    ('potential after (kJ/mol)', 'length (ps)', 'name')
    """
    prefix, _, field = name.rpartition(" · ")
    match = _FIELD.fullmatch(field)
    if match and (match[1] or match[2] in ("ps", "ns")):
        words = " ".join(filter(None, (match[1] or "length", match[3])))
        title = f"{words.replace('_', ' ')} ({_UNITS[match[2]]})"
    else:
        title = field.replace("_", " ")
    return f"{prefix} · {title}" if prefix else title


def without_unit(column: str) -> str:
    """Take the unit off the name of a column, as the estimates do.

    Parameters
    ----------
    column : str

    Returns
    -------
    name : str

    Examples
    --------
    >>> without_unit("potential_kj_mol"), without_unit("filled_share")
    ('potential', 'filled_share')
    """
    match = _FIELD.fullmatch(column)
    return match[1] if match and match[1] else column


def length_text(ps: float) -> str:
    """Write a length of time in the unit a reader expects.

    Parameters
    ----------
    ps : float, ps

    Returns
    -------
    text : str

    Examples
    --------
    >>> length_text(50.0), length_text(2500.0)
    ('50 ps', '2.5 ns')
    """
    return f"{ps:.4g} ps" if ps < 1000 else f"{ps / 1000:.4g} ns"


def escape_json(text: str) -> str:
    """Make JSON safe inside a script element.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str
        The same JSON without a character that could end the element.
    """
    return (
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        .replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )  # fmt: skip


def link_dois(references: Sequence[str]) -> tuple[str, ...]:
    """Write DOIs as links to follow by hand.

    Parameters
    ----------
    references : sequence of str

    Returns
    -------
    links : tuple of str
        HTML, escaped.
    """
    return tuple(
        f'<a href="https://doi.org/{html.escape(doi, quote=True)}" rel="noreferrer">'
        f"doi:{html.escape(doi)}</a>"
        for doi in references
    )


def _length_limit(record: RunRecord) -> str:
    visits = [row for row in record.rows("states") if row["group"] == "site"]
    if any(row["n_exits"] for row in visits):
        return (
            f"The ligand left its site within {length_text(record.duration_ps)} of one replica: a "
            "residence time from one trajectory is a guess, and says nothing about affinity or "
            "potency."
        )
    return (
        f"{length_text(record.duration_ps)} of one replica says nothing about affinity, potency, "
        "residence time or the rate of block. It shows only how the ligand begins to move from "
        "where it was placed."
    )


def _model_limits(record: RunRecord) -> list[str]:
    if record.is_foreign:
        return [
            "How this trajectory was made is not known here: force field, membrane, voltage, "
            "restraints and what was left out of the receptor decide what it can show."
        ]
    if is_cut_out(record):
        return [
            "Only the lining of the pore was simulated, in water: there is no membrane, no "
            "membrane voltage and there are no ligand-binding domains, and restraints hold the "
            "backbone away from the site. Opening and closing of the gate, permeation, "
            "trapping and ways in through the membrane cannot be seen."
        ]
    return [
        "The ligand-binding and amino-terminal domains are absent: agonists, and opening "
        "and closing of the gate, cannot be seen."
    ]


def is_cut_out(record: RunRecord) -> bool:
    """Tell whether only the lining of the pore was simulated.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    cut_out : bool
        False where nothing is known of how the trajectory was made.
    """
    if record.is_foreign:
        return False
    return record.inputs.get("protocol", {}).get("name", "vestibule") != "membrane"


def _progress_limits(record: RunRecord) -> list[str]:
    asked = record.status.get("production_ps_asked")
    # Production is rounded up to whole frames, so only a shorter one is unfinished.
    if not isinstance(asked, int | float) or record.duration_ps >= asked - 1e-6:
        return []
    return [
        f"The run is not finished: {length_text(record.duration_ps)} of the "
        f"{length_text(asked)} that were asked for are analysed here."
    ]


def _data_limits(record: RunRecord) -> list[str]:
    told = {row["state"] for row in record.rows("states")}
    rows = [row for row in record.rows("estimates") if row["n_frames"] and row["name"] not in told]
    without = [quantity(row["name"]) for row in rows if not _known(row["error"])]
    sentences = []
    if without:
        named = ", ".join(without[:8]) + (" and others" if len(without) > 8 else "")
        sentences.append(
            f"{len(without)} of {len(rows)} means have no error bar because their frames are not "
            f"independent enough ({named}): read them as a description of this run."
        )
    sentences.append(
        "Errors are statistical, one standard deviation of the mean within this run. They do "
        "not contain the error of the force field, of the starting structure or of the pose."
    )
    return sentences


def _structure_limits(record: RunRecord) -> list[str]:
    table, n_near = site_table(record)
    resolution = record.source.get("resolution_angstrom") or record.source.get("resolution")
    sentences = []
    if record.is_foreign:
        sentences.append(
            "Which atoms of the receptor were seen in an experiment and which were modelled is not "
            "known here."
        )
    elif table.rows:
        seen_at = f" The deposited structure has {resolution} Å resolution." if resolution else ""
        sentences.append(
            f"{len(table.rows)} of the {n_near} residues within {NEAR_SITE * _ANGSTROM:.0f} Å of "
            f"the ligand have atoms that were rebuilt, not seen (marked † and ‡).{seen_at}"
        )
    charge = Chem.GetFormalCharge(record.ligand)
    if record.ligand.GetNumAtoms() == 1:
        sentences.append(
            f"The ion has a fixed charge ({charge:+d} e) and a fixed radius: how tightly it holds "
            "its waters, and whether it loses them in the pore, depend on that model above all."
        )
    else:
        sentences.append(
            f"One charge state was simulated ({charge:+d} e) with fixed charges; it cannot gain or "
            "lose a proton."
        )
    return sentences


def _as_asked(record: RunRecord) -> Chem.Mol:
    """Give the ligand's heavy atoms with the stereocentres of the molecule that was asked for.

    Coordinates label the bridgeheads of a cage, too, such as those of memantine. Where these leave
    no choice, the SMILES of the run has no centre there, and none is shown.
    """
    molecule = _without_hydrogens(record.ligand)
    with rdBase.BlockLogs():
        asked = Chem.MolFromSmiles(record.inputs["ligand"].get("smiles", ""))
    if asked is None or asked.GetNumAtoms() != molecule.GetNumAtoms():
        return molecule
    match = molecule.GetSubstructMatch(asked, useChirality=True)
    for atom, index in zip(asked.GetAtoms(), match, strict=False):
        if atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
            molecule.GetAtomWithIdx(index).SetChiralTag(atom.GetChiralTag())
    Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
    return molecule


def _without_hydrogens(ligand: Chem.Mol) -> Chem.Mol:
    molecule = Chem.RemoveHs(ligand)
    # A lone ion has no stereochemistry to assign.
    if molecule.GetNumBonds():
        Chem.AssignStereochemistryFrom3D(molecule)
    return molecule


def _table_of(rows: Sequence[Mapping]) -> Table:
    keys = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if not any(isinstance(row.get(key), list | dict) for row in rows)
    ]
    return Table(
        headings=tuple(quantity_title(key) for key in keys),
        rows=tuple(tuple(_cell(row.get(key)) for key in keys) for row in rows),
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1e4 else f"{value:.4g}"


def _with_unit(value: object, unit: str | None) -> str:
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    if unit == "nm":
        number, unit = number * _ANGSTROM, "A"
    return f"{_number(number)}\u00a0{'Å' if unit == 'A' else unit or ''}".strip()


def _scaled(value: float | None) -> float | None:
    return value * _ANGSTROM if value is not None else None


def _known(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.+-]+", text) else "'" + text.replace("'", "'\\''") + "'"
