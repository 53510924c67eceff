"""Charge states: from the pKa where it is known, else enumerated and left unweighted."""

import math
from dataclasses import dataclass

from rdkit import Chem

from nmdasim.ligand.chemistry import amines, canonical, neutralised, protonated, with_charges_of
from nmdasim.ligand.model import Finding, LibraryEntry, is_confirmed

#: For a molecule of unknown pKa, states that a site's typical pKa allows this far from the pH.
PH_WINDOW = 1.0
# One deviation of the pKa values that Dimorphite-DL was trained on, its own default.
_PRECISION = 1.0
_MAX_VARIANTS = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Protomer:
    """One charge state as a formula, without a structure in space."""

    charge: int
    """Net charge, e."""
    smiles: str
    """Canonical isomeric SMILES."""
    population: float
    """Share at the given pH; nan where the pKa is not known."""
    heavy: Chem.Mol
    """The molecule with implicit hydrogens, atoms in the order of the uncharged form."""


def protonated_share(pka: float, ph: float) -> float:
    """Apply the equation of Henderson and Hasselbalch to an amine.

    Parameters
    ----------
    pka : float
        pKa of the conjugate acid; nan gives nan.
    ph : float

    Returns
    -------
    share : float
        Share of the cation.

    Examples
    --------
    >>> round(protonated_share(7.5, 7.4), 3)
    0.557
    """
    return 1.0 / (1.0 + 10.0 ** (ph - pka))


def library_protomers(entry: LibraryEntry, *, ph: float = 7.4) -> tuple[Protomer, ...]:
    """List the charge states of a library ligand, the most positive first.

    Parameters
    ----------
    entry : LibraryEntry
    ph : float

    Returns
    -------
    protomers : tuple of Protomer
        Without structures in space, and therefore in milliseconds.
    """
    mol = Chem.MolFromSmiles(entry.smiles)
    if entry.kind == "ion":
        return (_protomer(mol, 1.0),)
    return titrated(canonical(neutralised(mol)), entry.pka, ph)


def titrated(neutral: Chem.Mol, pka: float, ph: float) -> tuple[Protomer, ...]:
    """Give the cation and the free base of the most basic aliphatic amine."""
    sites = amines(neutral)
    if not sites:
        return (_protomer(neutral, math.nan),)
    share = protonated_share(pka, ph)
    return _protomer(protonated(neutral, sites[0]), share), _protomer(neutral, 1.0 - share)


def enumerated(neutral: Chem.Mol, ph: float) -> tuple[tuple[Protomer, ...], tuple[str, ...]]:
    """List the states that typical pKa values of the groups allow near a pH, unweighted.

    Returns
    -------
    protomers : tuple of Protomer
        One for each net charge, the most positive first.
    notes : tuple of str
        What was left out.

    References
    ----------
    .. [1] P. J. Ropp et al., J. Cheminform. 11, 14 (2019), doi:10.1186/s13321-019-0336-9
    """
    from dimorphite_dl import protonate_smiles

    labelled = Chem.Mol(neutral)
    for atom in labelled.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    variants = protonate_smiles(
        Chem.MolToSmiles(labelled),
        ph_min=max(ph - PH_WINDOW, 0.0),
        ph_max=min(ph + PH_WINDOW, 14.0),
        precision=_PRECISION,
        max_variants=_MAX_VARIANTS,
    )
    forms = {}
    for variant in variants:
        form = with_charges_of(Chem.MolFromSmiles(variant), neutral)
        if form is not None:
            forms[Chem.MolToSmiles(form)] = form
    if not forms:
        return (_protomer(neutral, math.nan),), ("no charge state could be enumerated: as given",)
    return _one_of_each_charge(list(forms.values()), neutral)


def _one_of_each_charge(
    forms: list[Chem.Mol], neutral: Chem.Mol
) -> tuple[tuple[Protomer, ...], tuple[str, ...]]:
    """Keep of the forms with one net charge that with the proton on the most basic amine."""
    basic = amines(neutral)

    def preference(form: Chem.Mol) -> tuple[int, str]:
        held = [i for i in basic if form.GetAtomWithIdx(i).GetFormalCharge() > 0]
        return min(map(basic.index, held), default=len(basic)), Chem.MolToSmiles(form)

    kept: dict[int, Chem.Mol] = {}
    notes = []
    for form in sorted(forms, key=preference):
        charge = Chem.GetFormalCharge(form)
        if kept.setdefault(charge, form) is not form:
            notes.append(
                f"another form of charge {charge:+d} is possible and was not prepared: "
                f"{Chem.MolToSmiles(form)}"
            )
    states = tuple(_protomer(kept[charge], math.nan) for charge in sorted(kept, reverse=True))
    return states, tuple(notes)


def notes_on_pka(
    entry: LibraryEntry | None, ph: float, protomers: tuple[Protomer, ...]
) -> list[str]:
    """Say how far the populations can be trusted."""
    if entry is None:
        return ["pKa not known: the charge states are enumerated for this pH and unweighted"]
    if len(protomers) < 2:
        return []
    if entry.titration:
        mark = entry.titration.mark
        return [] if is_confirmed(mark) else [f"pKa not confirmed ({mark}): so are the populations"]
    if entry.pka_range is None:
        return ["pKa not known: the charge states are unweighted"]
    low, high = entry.pka_range
    shares = [f"{protonated_share(pka, ph):.0%}" for pka in entry.pka_range]
    marks = ", ".join(sorted({f.mark for f in entry.properties if f.quantity == "pKa"}))
    return [
        f"pKa known only as a range, {low:g} to {high:g} ({marks}): the charge states are "
        f"unweighted; the cation's share at pH {ph:g} would lie between {shares[0]} and {shares[1]}"
    ]


def cited(finding: Finding | None) -> str:
    """Write the source of a figure with its mark; empty where there is no figure."""
    return f"{finding.source or 'no source'} [{finding.mark}]" if finding else ""


def _protomer(heavy: Chem.Mol, population: float) -> Protomer:
    return Protomer(
        charge=Chem.GetFormalCharge(heavy),
        smiles=Chem.MolToSmiles(heavy),
        population=population,
        heavy=heavy,
    )
