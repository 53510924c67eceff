"""Typed contacts between a ligand and the residues around it, frame by frame.

The ligand's chemistry comes from its molecule, the protein's from residue templates; nothing is
guessed from coordinates. Each contact belongs to a type, and each type has thresholds that equal
those of a named convention: `PLIP` (the default) or `PROLIF`, or the user's own. Where the answers
differ from those two programs, `docs/interactions-agreement.md` says why.

The work is in three steps, so that long trajectories stream: `interaction_sites` reads topology
and chemistry once, `find_interactions` measures a chunk of frames, `merge_interactions` joins the
chunks. `interactions` does all three.
"""

from nmdasim.contacts.chemistry import interaction_sites
from nmdasim.contacts.geometry import (
    InteractionsBuilder,
    find_interactions,
    interactions,
    merge_interactions,
)
from nmdasim.contacts.lifetimes import contact_lifetimes, contact_lifetimes_table
from nmdasim.contacts.model import (
    INTERACTION_TYPES,
    PLIP,
    PROLIF,
    ContactLifetime,
    ContactOccupancy,
    ContactResidue,
    ContactSeries,
    Interactions,
    InteractionSites,
    InteractionThresholds,
    RingOccupancy,
)
from nmdasim.contacts.regions import REGIONS, ResidueRegions, regions_table, residue_regions
from nmdasim.contacts.store import StoredInteractions
from nmdasim.contacts.tables import (
    contact_occupancies,
    contacts_by_frame_table,
    contacts_table,
    ring_contacts_table,
    ring_occupancies,
)

__all__ = [
    "INTERACTION_TYPES",
    "PLIP",
    "PROLIF",
    "REGIONS",
    "ContactLifetime",
    "ContactOccupancy",
    "ContactResidue",
    "ContactSeries",
    "InteractionSites",
    "InteractionThresholds",
    "Interactions",
    "InteractionsBuilder",
    "ResidueRegions",
    "RingOccupancy",
    "StoredInteractions",
    "contact_lifetimes",
    "contact_lifetimes_table",
    "contact_occupancies",
    "contacts_by_frame_table",
    "contacts_table",
    "find_interactions",
    "interaction_sites",
    "interactions",
    "merge_interactions",
    "regions_table",
    "residue_regions",
    "ring_contacts_table",
    "ring_occupancies",
]
