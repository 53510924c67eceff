"""Tables of a report on states, events, lifetimes and regions."""

import math
from collections.abc import Mapping

from nmdasim.report.record import RunRecord
from nmdasim.report.scene import ring_title
from nmdasim.report.words import Table, estimate_text, length_text

#: Most rows of the table of lifetimes.
_MAX_LIFETIMES = 25
_GROUPS = {"block": "block", "gate": "gate", "site": "place", "path": "path"}
_NAMES = {
    "water_path": "water through the pore",
    "water_path_past_ligand": "water past the ligand",
    "bare_ion_path": "bare ion fits through the pore",
    "bare_ion_past_ligand": "bare ion fits past the ligand",
    "hydrated_ion_path": "hydrated ion fits through the pore",
    "hydrated_ion_past_ligand": "hydrated ion fits past the ligand",
}


def states_table(record: RunRecord) -> Table | None:
    """Write the states with their share of the time and how long a visit lasts.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table or None
        None when the analysis has no table of states.
    """
    rows = record.rows("states")
    if not rows:
        return None
    return Table(
        headings=(
            "what", "state", "share of the time", "visits", "exits seen",
            "mean length of a visit, 95 % interval", "note",
        ),
        rows=tuple(
            (
                _GROUPS.get(row["group"], row["group"]),
                _NAMES.get(row["state"], row["state"]),
                estimate_text(row["share"], row["share_error"]),
                _count(row["n_visits"]),
                _count(row["n_exits"]),
                lifetime_text(*(_in_ps(row[f"lifetime{end}_ns"]) for end in ("", "_low", "_high")))
                if row["n_visits"] else "",
                row["note"] or "",
            )
            for row in rows
            if row["group"] == "path" or row["n_visits"]
        ),
    )  # fmt: skip


def never_visited(record: RunRecord) -> str:
    """Name the states that did not occur.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    text : str
        Empty when all occurred or the analysis has no table of states.
    """
    names = [
        f"{_GROUPS.get(row['group'], row['group'])} {row['state']}"
        for row in record.rows("states")
        if row["group"] != "path" and not row["n_visits"]
    ]
    if not names:
        return ""
    return (
        f"Not seen in {length_text(record.duration_ps)}: {', '.join(names)}. "
        "What takes longer to happen than the run lasts cannot be seen in it."
    )


def lifetime_text(mean_ps: float | None, low_ps: float | None, high_ps: float | None) -> str:
    """Write a lifetime with its interval, or the bound that is known.

    Parameters
    ----------
    mean_ps, low_ps, high_ps : float or None, ps
        nan or None where not known; infinite where no end was seen.

    Returns
    -------
    text : str

    Examples
    --------
    >>> lifetime_text(20.0, 12.0, 40.0), lifetime_text(float("inf"), 1500.0, float("inf"))
    ('20 ps (12 to 40 ps)', 'no end seen; longer than 1.5 ns')
    >>> lifetime_text(1200.0, 800.0, 1900.0), lifetime_text(None, None, None)
    ('1.2 ns (800 ps to 1.9 ns)', 'not enough data')
    """
    if low_ps is None or math.isnan(low_ps):
        return "not enough data"
    if mean_ps is None or not math.isfinite(mean_ps):
        return f"no end seen; longer than {_length(low_ps)}"
    high = _length(high_ps) if high_ps is not None and math.isfinite(high_ps) else "no bound"
    low, unit = _length(low_ps).split()
    low = low if high.endswith(f" {unit}") else f"{low} {unit}"
    return f"{_length(mean_ps)} ({low} to {high})"


def lifetimes_table(record: RunRecord) -> Table | None:
    """Write how long contacts last, folded over equivalent residues.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table or None
        Specific contacts before mere closeness, the most frequent first; None when the analysis
        has no table of lifetimes or saw no contact.
    """
    rows = [row for row in record.rows("contact_lifetimes") if row["level"] == "folded"]
    rows.sort(key=lambda row: (row["type"] == "close contact", -row["occupancy"]))
    rows = rows[:_MAX_LIFETIMES]
    if not rows:
        return None
    return Table(
        headings=(
            "residue", "ring", "interaction", "share of the time", "episodes", "breaks seen",
            "mean lifetime, 95 % interval", "longest", "note",
        ),
        rows=tuple(
            (
                row["residue"] or "",
                (row["ring"] or "").replace("_", " "),
                row["type"],
                f"{row['occupancy']:.2f}",
                _count(row["n_episodes"]),
                _count(row["n_breaks"]),
                lifetime_text(*(row[f"lifetime{end}_ps"] for end in ("", "_low", "_high"))),
                length_text(row["longest_ps"]) if _known(row["longest_ps"]) else "",
                row["note"] or "",
            )
            for row in rows
        ),
    )  # fmt: skip


def rates_table(record: RunRecord) -> Table | None:
    """Write how often waters and ions crossed, with the Poisson interval of the rate.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table or None
        None when the analysis has no table of rates.
    """
    rows = record.rows("permeation_rates")
    if not rows:
        return None
    direction = {"in": "inwards", "out": "outwards"}
    return Table(
        headings=("what", "crossed", "direction", "events", "in (ns)", "per ns, 95 %", "note"),
        rows=tuple(
            (
                row["kind"],
                place_text(row["place"]),
                direction.get(row["direction"], str(row["direction"])),
                _count(row["count"]),
                f"{row['time_ns']:.4g}",
                _rate_text(row),
                row["note"] or "",
            )
            for row in rows
        ),
    )


def permeation_sentence(record: RunRecord) -> str:
    """Say how many complete permeation events there were.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    text : str
        Empty when the analysis has no table of events.
    """
    if "permeation" not in record.tables:
        return ""
    if record.tables.get("permeation_rates") is not None and not record.rows("permeation_rates"):
        return "The trajectory holds neither water nor ions: nothing is known of what crosses."
    counts: dict[str, int] = {}
    for row in record.rows("permeation"):
        counts[row["kind"]] = counts.get(row["kind"], 0) + 1
    if not counts:
        return (
            f"No water and no ion crossed the whole pore in {length_text(record.duration_ps)}. "
            "That bounds the rates below; it does not show that nothing ever crosses."
        )
    listed = ", ".join(f"{count} of {kind}" for kind, count in sorted(counts.items()))
    return f"Complete crossings of the pore in {length_text(record.duration_ps)}: {listed}."


def place_text(place: str) -> str:
    """Write where something crosses as a reader says it.

    Parameters
    ----------
    place : str
        As in permeation_rates.parquet.

    Returns
    -------
    text : str

    Examples
    --------
    >>> place_text("hydrophobic_1 ring"), place_text("a652 ring"), place_text("whole pore")
    ('hydrophobic ring 1', 'A652 ring', 'whole pore')
    """
    return ring_title(place.removesuffix(" ring")) if place.endswith(" ring") else place


def regions_table(record: RunRecord) -> Table | None:
    """Write which face of the channel the ligand touches, and with which residues.

    Parameters
    ----------
    record : RunRecord

    Returns
    -------
    table : Table or None
        None when the analysis has no table of regions.
    """
    rows = record.rows("regions")
    if not rows:
        return None
    return Table(
        headings=("face of the channel", "share of the frames", "residues", "which", "note"),
        rows=tuple(
            (
                row["region"],
                estimate_text(row["occupancy"], row["occupancy_error"]),
                _count(row["n_touched"]),
                row["residues"] or "none",
                row["note"] or "",
            )
            for row in rows
        ),
    )


def _length(ps: float) -> str:
    """Write a time with three digits: an interval of counts does not carry more."""
    return length_text(float(f"{ps:.3g}"))


def _rate_text(row: Mapping) -> str:
    if not _known(row["rate_high_per_ns"]):
        return "not enough data"
    if not row["count"]:
        return f"less than {row['rate_high_per_ns']:.3g}"
    low, high = row["rate_low_per_ns"], row["rate_high_per_ns"]
    return f"{row['rate_per_ns']:.3g} ({low:.3g} to {high:.3g})"


def _in_ps(value_ns: float | None) -> float | None:
    return None if value_ns is None else 1000.0 * value_ns


def _count(value: float | None) -> str:
    return f"{value:.0f}" if _known(value) else ""


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
