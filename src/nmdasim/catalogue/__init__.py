"""One page about the library: formulae, charge states, potencies, metabolism.

The page is one file that opens without a network, like the report of a run.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nmdasim.catalogue.tree import metabolic_trees
from nmdasim.errors import LigandError, RunStorageError
from nmdasim.ligand import (
    FAMILIES,
    MARKS,
    Finding,
    LibraryEntry,
    describe_ligand,
    formula_svg,
    is_confirmed,
    library,
    library_protomers,
    potencies,
)

_HERE = Path(__file__).parent
# Affinities and potencies come before what describes them.
_FIRST = ("IC50", "Ki", "Kd_from_rates", "EC50_pore", "EC50_allosteric", "kon", "koff")
_MAX_SYNONYMS = 5
_RELATIONS = {"=": "", "": "", "<=": "≤ ", ">=": "≥ ", "<": "< ", ">": "> ", "~": "≈ "}
_UNITS = {"uM": "µM", "1/(M s)": "M⁻¹ s⁻¹", "1/s": "s⁻¹", "1/mV": "mV⁻¹"}


def write_catalogue(path: str | Path, *, ph: float = 7.4) -> Path:
    """Write the page about the library.

    Parameters
    ----------
    path : str or pathlib.Path
        An existing file is replaced in one step.
    ph : float
        pH of the populations of charge states.

    Returns
    -------
    path : pathlib.Path

    Raises
    ------
    LigandError
        If the pH does not lie between 0 and 14.
    RunStorageError
        If the file cannot be written.
    """
    target = Path(path)
    page = render_catalogue(ph=ph)
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunStorageError(f"cannot write the page to {target}: {error.strerror}") from error
    return target


def render_catalogue(*, ph: float = 7.4) -> str:
    """Write the page about the library as text.

    Parameters
    ----------
    ph : float
        pH of the populations of charge states.

    Returns
    -------
    page : str
        A whole HTML document.

    Raises
    ------
    LigandError
        If the pH does not lie between 0 and 14.
    """
    if not (math.isfinite(ph) and 0.0 <= ph <= 14.0):
        raise LigandError(f"a pH of {ph} was given: it must lie between 0 and 14")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups = list(comparable_groups(potencies()))
    return environment.get_template("page.html.j2").render(
        ph=f"{ph:g}",
        families=[
            (heading, [_card(e, ph, groups) for e in library() if e.family == family])
            for family, heading in FAMILIES.items()
        ],
        assays=_by_assay(groups),
        trees=[(root.title, Markup(svg)) for root, svg in metabolic_trees(library())],
        marks=[(mark, is_confirmed(mark), meaning) for mark, meaning in MARKS.items()],
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
    )


def comparable_groups(
    findings: Sequence[Finding],
) -> Iterator[tuple[tuple[str, ...], list[Finding]]]:
    """Put together what may be compared, and nothing else.

    Parameters
    ----------
    findings : sequence of Finding

    Yields
    ------
    conditions : tuple of str
        Assay, preparation, species, subunits, Mg2+, voltage and source that all share.
    findings : list of Finding
        Affinities and potencies first, the strongest of each quantity first.
    """
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.conditions, []).append(finding)
    for conditions, members in groups.items():
        yield conditions, sorted(members, key=_rank)


def _rank(finding: Finding) -> tuple[int, str, float]:
    known = finding.quantity in _FIRST
    place = _FIRST.index(finding.quantity) if known else len(_FIRST)
    return place, finding.quantity, math.inf if math.isnan(finding.value) else finding.value


def _by_assay(groups: list[tuple[tuple[str, ...], list[Finding]]]) -> list[tuple[str, list]]:
    """Give the boxes of each kind of experiment, those that compare most ligands first."""
    assays: dict[str, list[dict[str, Any]]] = {}
    for number, (conditions, findings) in enumerate(groups):
        n_subjects = len({finding.subject for finding in findings})
        box = {
            "id": f"box-{number}",
            "headline": _headline(findings[0]),
            "source": findings[0].source,
            "doi": findings[0].doi,
            "rows": [_row(finding) for finding in findings],
            "order": (-n_subjects, -len(findings)),
        }
        assays.setdefault(conditions[0], []).append(box)
    return [
        (assay, sorted(boxes, key=lambda box: box["order"]))
        for assay, boxes in sorted(assays.items(), key=lambda item: -len(item[1]))
    ]


def _headline(finding: Finding) -> str:
    """Say under which conditions a group was measured."""
    magnesium = f"{finding.mg_mM} mM Mg²⁺" if finding.mg_mM else ""
    voltage = f"{finding.voltage_mV.replace('-', '−')} mV" if finding.voltage_mV else ""
    known = (finding.subunits, finding.species, finding.preparation, magnesium, voltage)
    return " · ".join(part for part in known if part) or "conditions not known"


def _row(finding: Finding) -> dict[str, Any]:
    titles = {entry.name: entry.title for entry in library()}
    return {
        "subject": titles.get(finding.subject, finding.subject),
        "form": finding.form,
        "quantity": finding.quantity.replace("_", " "),
        "value": _figure(finding),
        **_marked(finding),
    }


def _figure(finding: Finding) -> str:
    if not finding.text:
        return "in words"
    spread = f" ± {finding.uncertainty}" if finding.uncertainty else ""
    unit = _UNITS.get(finding.unit, finding.unit)
    return f"{_RELATIONS[finding.relation]}{finding.text}{spread} {unit}".strip().replace("-", "−")


def _marked(finding: Finding) -> dict[str, Any]:
    return {
        "mark": finding.mark,
        "confirmed": finding.is_confirmed,
        "note": finding.note,
        "source": finding.source,
    }


def _card(
    entry: LibraryEntry, ph: float, groups: list[tuple[tuple[str, ...], list[Finding]]]
) -> dict[str, Any]:
    """Everything that the page shows about one ligand."""
    chemistry = describe_ligand(entry, ph=ph)
    boxes: dict[str, tuple[int, int]] = {}
    for number, (conditions, findings) in enumerate(groups):
        n_own = sum(finding.subject == entry.name for finding in findings)
        if n_own:
            first, n_before = boxes.get(key := f"{conditions[0]}: {conditions[-1]}", (number, 0))
            boxes[key] = first, n_before + n_own
    on_mixtures = Counter(f.subject for f in potencies(entry.name) if f.subject != entry.name)
    return {
        "name": entry.name,
        "title": entry.title,
        "cip": ", ".join(entry.cip),
        "smiles": entry.smiles,
        "formula": chemistry.formula,
        "inchikey": chemistry.inchikey,
        "synonyms": [s for s in entry.synonyms if s not in (entry.name, entry.title)][
            :_MAX_SYNONYMS
        ],
        "pdb_component": entry.pdb_component,
        "notes": chemistry.notes,
        "states": [
            {
                "charge": f"{p.charge:+d}".replace("-", "−") if p.charge else "0",
                "share": "not weighted" if math.isnan(p.population) else f"{p.population:.1%}",
                "drawing": Markup(_bare(formula_svg(p.smiles, width=215, height=165))),
            }
            for p in library_protomers(entry, ph=ph)
        ],
        "properties": [
            {"quantity": f.quantity, "value": _figure(f), "condition": f.preparation, **_marked(f)}
            for f in entry.properties
        ],
        "reactions": entry.reactions,
        "boxes": [(f"box-{first}", f"{n} in {key}") for key, (first, n) in boxes.items()],
        "on_mixtures": sorted(on_mixtures.items()),
    }


def _bare(svg: str) -> str:
    """Leave the XML declaration out, which has no place inside a page."""
    return svg[svg.index("<svg") :]
