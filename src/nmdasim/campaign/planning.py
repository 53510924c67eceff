"""From the campaign file to its runs: which, under what name and with what seed."""

import difflib
import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmdasim.campaign.settings import ALL_CHARGES, MOST_POSITIVE, Campaign, Exclusion
from nmdasim.errors import CampaignError, LigandError, ProtocolError, ReceptorError
from nmdasim.ligand import find_entry, library_protomers, load_ligand
from nmdasim.receptor import receptor_file
from nmdasim.rundir import run_name
from nmdasim.system import Protocol, find_protocol

_FILE_SUFFIXES = (".sdf", ".mol")
_DEFAULT_PH = 7.4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a campaign: one `nmdasim run` command and its folder."""

    name: str
    """Name of the folder, unique in the campaign."""
    folder: Path
    """Folder of the run."""
    ligand: str
    """Name of the ligand."""
    charge: int
    """Charge state, e."""
    receptor: str
    """Name of the receptor."""
    protocol: str
    """Name of the protocol."""
    voltage_mv: float
    """Membrane voltage, mV."""
    pose: int
    """Number of the start pose."""
    replica: int
    """Index of the replica, from 0."""
    seed: int
    """Seed of every random number, derived by `run_seed`."""
    production_ns: float
    """Length, ns."""
    words: tuple[str, ...]
    """The command after `nmdasim`, with every option spelt out."""

    @property
    def command(self) -> str:
        """The whole command, as one types it in a shell."""
        return shlex.join(("nmdasim", *self.words))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ligand:
    """A ligand of the campaign, looked up."""

    name: str
    given: str
    charges: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receptor:
    """A receptor of the campaign, looked up."""

    name: str
    given: str


def run_seed(campaign_seed: int, **identity: str | float) -> int:
    """Derive the seed of a run from the campaign's seed and what the run is.

    Parameters
    ----------
    campaign_seed : int
        Seed of the campaign.
    **identity : str, int or float
        What tells the run from every other of the campaign, by name.

    Returns
    -------
    int
        From 1 to 2^31 - 1. It depends on nothing else, so that another run in the campaign
        changes it as little as the order of the file does.

    Examples
    --------
    >>> run_seed(1, ligand="S-ketamine", replica=0) == run_seed(1, replica=0, ligand="S-ketamine")
    True
    """
    # 0, 0.0 and -0.0 are one voltage.
    plain = {
        key: int(value) if isinstance(value, float) and value == int(value) else value
        for key, value in identity.items()
    }
    text = json.dumps({"campaign": campaign_seed, **plain}, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % (2**31 - 1) + 1


def plan_runs(campaign: Campaign) -> tuple[PlannedRun, ...]:
    """List the runs of a campaign, in the order of the file.

    Parameters
    ----------
    campaign : Campaign

    Returns
    -------
    tuple of PlannedRun

    Raises
    ------
    CampaignError
        If a ligand, charge, receptor or protocol does not exist, or an exclusion leaves out
        nothing, or nothing is left.

    Notes
    -----
    Whether a start pose exists is found out by the run itself.
    """
    ligands = [_find_ligand(campaign, given) for given in campaign.ligands]
    receptors = [_find_receptor(campaign, given) for given in campaign.receptors]
    protocols = [_find_protocol(campaign, name) for name in campaign.protocols]
    _check_distinct(campaign, "ligands", [ligand.name for ligand in ligands])
    _check_distinct(campaign, "receptors", [receptor.name for receptor in receptors])
    exclusions = [_resolved(exclusion) for exclusion in campaign.exclusions]
    _check_exclusions(campaign, exclusions, ligands, receptors)
    runs: list[PlannedRun] = []
    used: set[int] = set()
    for ligand, receptor, identity in _combinations(campaign, ligands, receptors, protocols):
        matches = [e.number for e in exclusions if _is_match(e.match, identity)]
        used.update(matches)
        if matches:
            continue
        _check_charge(campaign, ligand, identity["charge"])
        runs.append(_planned(campaign, ligand, receptor, identity))
    for exclusion in campaign.exclusions:
        if exclusion.number not in used:
            raise CampaignError(
                f"{campaign.path}: exclude {exclusion.number} matches no run: correct its values "
                "or remove it"
            )
    if not runs:
        raise CampaignError(f"{campaign.path}: the exclusions leave no run: remove one")
    return tuple(runs)


def pick_runs(
    campaign: Campaign, runs: Sequence[PlannedRun], names: Sequence[str]
) -> tuple[PlannedRun, ...]:
    """Pick runs by the names of their folders.

    Parameters
    ----------
    campaign : Campaign
    runs : sequence of PlannedRun
        Runs of the campaign.
    names : sequence of str

    Returns
    -------
    tuple of PlannedRun
        In the order of the names.

    Raises
    ------
    CampaignError
        If there is no run of a name.
    """
    by_name = {run.name: run for run in runs}
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise CampaignError(
                f"{campaign.path} holds no run {name!r}: {hint}`nmdasim campaign plan` lists them"
            )
    return tuple(by_name[name] for name in names)


def _combinations(
    campaign: Campaign,
    ligands: list[_Ligand],
    receptors: list[_Receptor],
    protocols: list[Protocol],
) -> Iterator[tuple[_Ligand, _Receptor, dict[str, Any]]]:
    """Give every combination with what identifies it, exclusions not yet applied."""
    for ligand in ligands:
        for charge in _charges(campaign, ligand):
            for receptor in receptors:
                for protocol in protocols:
                    for voltage in campaign.voltages_mv:
                        for pose in campaign.poses:
                            for replica in range(campaign.replicas):
                                yield (
                                    ligand,
                                    receptor,
                                    {
                                        "ligand": ligand.name,
                                        "charge": charge,
                                        "receptor": receptor.name,
                                        "protocol": protocol.name,
                                        "voltage_mV": voltage,
                                        "pose": pose,
                                        "replica": replica,
                                    },
                                )


def _charges(campaign: Campaign, ligand: _Ligand) -> tuple[int, ...]:
    if campaign.charges == ALL_CHARGES:
        return ligand.charges
    if campaign.charges == MOST_POSITIVE:
        return (max(ligand.charges),)
    return tuple(int(charge) for charge in campaign.charges)


def _planned(
    campaign: Campaign, ligand: _Ligand, receptor: _Receptor, identity: dict[str, Any]
) -> PlannedRun:
    seed = run_seed(campaign.seed, **identity)
    name = run_name(
        f"{ligand.name}{identity['charge']:+d}",
        identity["receptor"],
        identity["protocol"],
        seed=seed,
        replica=identity["replica"],
        pose=identity["pose"],
    )
    folder = campaign.runs_folder / name
    words = [
        "run", ligand.given,
        f"--charge={identity['charge']}",
        f"--receptor={receptor.given}",
        f"--protocol={identity['protocol']}",
        f"--pose={identity['pose']}",
        f"--replica={identity['replica']}",
        f"--seed={seed}",
        f"--production-ns={campaign.production_ns:.15g}",
    ]  # fmt: skip
    if campaign.ph != _DEFAULT_PH:
        words.append(f"--ph={campaign.ph:.15g}")
    if campaign.platform:
        words.append(f"--platform={campaign.platform}")
    # Longer runs in the campaign file lengthen what exists; nothing that exists changes.
    words += ["--extend", "--quiet", f"--out={folder}"]
    return PlannedRun(
        name=name,
        folder=folder,
        ligand=ligand.name,
        charge=identity["charge"],
        receptor=identity["receptor"],
        protocol=identity["protocol"],
        voltage_mv=identity["voltage_mV"],
        pose=identity["pose"],
        replica=identity["replica"],
        seed=seed,
        production_ns=campaign.production_ns,
        words=tuple(words),
    )


def _find_ligand(campaign: Campaign, given: str) -> _Ligand:
    entry = find_entry(given)
    if entry is not None:
        forms = library_protomers(entry, ph=campaign.ph)
        return _Ligand(
            name=entry.name, given=entry.name, charges=tuple(form.charge for form in forms)
        )
    text = given
    if Path(given).suffix.lower() in _FILE_SUFFIXES:
        text = str(campaign.path.parent / given)
    try:
        ligand = load_ligand(text, ph=campaign.ph)
    except LigandError as error:
        raise CampaignError(f"{campaign.path}: ligands: {error}") from error
    charges = tuple(state.charge for state in ligand.states)
    return _Ligand(name=ligand.name, given=text, charges=charges)


def _find_receptor(campaign: Campaign, given: str) -> _Receptor:
    beside = campaign.path.parent / given
    text = str(beside) if beside.exists() else given
    try:
        file = receptor_file(text)
    except ReceptorError as error:
        raise CampaignError(f"{campaign.path}: receptors: {error}") from error
    return _Receptor(name=file.parent.name, given=text)


def _find_protocol(campaign: Campaign, name: str) -> Protocol:
    try:
        return find_protocol(name)
    except ProtocolError as error:
        raise CampaignError(f"{campaign.path}: protocols: {error}") from error


def _check_distinct(campaign: Campaign, key: str, names: list[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise CampaignError(
                f"{campaign.path}: {key} holds {name} twice, under two names: give it once"
            )


def _check_charge(campaign: Campaign, ligand: _Ligand, charge: int) -> None:
    if charge not in ligand.charges:
        known = " and ".join(f"{known:+d}" for known in ligand.charges)
        raise CampaignError(
            f"{campaign.path}: charges: {ligand.name} has no state of charge {charge:+d}, it has "
            f"{known}: leave it out with [[exclude]], or give charges = '{ALL_CHARGES}'"
        )


def _resolved(exclusion: Exclusion) -> Exclusion:
    """Turn synonyms of ligands into their names."""
    match = dict(exclusion.match)
    if "ligand" in match:
        entries = [(given, find_entry(given)) for given in match["ligand"]]
        match["ligand"] = tuple(entry.name if entry else given for given, entry in entries)
    return replace(exclusion, match=match)


def _check_exclusions(
    campaign: Campaign,
    exclusions: list[Exclusion],
    ligands: list[_Ligand],
    receptors: list[_Receptor],
) -> None:
    """Refuse names in exclusions that the campaign does not hold: a typing error hides there."""
    held = {
        "ligand": [ligand.name for ligand in ligands],
        "receptor": [receptor.name for receptor in receptors],
        "protocol": list(campaign.protocols),
    }
    for exclusion in exclusions:
        for key, names in held.items():
            for value in exclusion.match.get(key, ()):
                if value not in names:
                    raise CampaignError(
                        f"{campaign.path}: exclude {exclusion.number}.{key} is {value!r}; this "
                        f"campaign holds {', '.join(names)}"
                    )


def _is_match(match: Any, identity: dict[str, Any]) -> bool:  # noqa: ANN401
    return all(identity[key] in values for key, values in match.items())
