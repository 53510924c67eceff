"""Two ways to say that something is wrong.

What cannot continue raises an `NmdasimError` of the stage where it happened. What can
continue but is scientifically doubtful is recorded as a failed `Check`, which travels
with the result and reaches the report.
"""

from dataclasses import dataclass


class NmdasimError(Exception):
    """Base of every error that nmdasim raises on purpose.

    The message is one sentence for the user: what was given, what is allowed, what to do.
    """


class LigandError(NmdasimError, ValueError):
    """The given molecule cannot be used as a ligand."""


class ReceptorError(NmdasimError, ValueError):
    """The given structure is not a usable NMDA receptor."""


class PoreError(NmdasimError, ValueError):
    """The pore geometry cannot be defined for these coordinates."""


class ParametersError(NmdasimError, ValueError):
    """No force-field parameters are available for this ligand."""


class PoseError(NmdasimError, ValueError):
    """The ligand cannot be placed in this receptor."""


class SelectionError(NmdasimError, ValueError):
    """A selection of atoms is empty or does not fit the coordinates."""


class ProtocolError(NmdasimError, ValueError):
    """A setting of the simulation is outside what is allowed."""


class RunFolderError(NmdasimError, ValueError):
    """The folder cannot be used for this run."""


class RunStorageError(NmdasimError, RuntimeError):
    """The disk refused or lost data of a run."""


class TrajectoryError(NmdasimError, ValueError):
    """The trajectory cannot be read or does not fit its topology."""


class TrajectoryDamageError(NmdasimError, RuntimeError):
    """A file of the trajectory is truncated or damaged, or holds what is no number."""


class StatisticsError(NmdasimError, ValueError):
    """The series cannot be averaged: it is empty or holds values that are not numbers."""


class PlatformError(NmdasimError, ValueError):
    """The asked compute platform is absent or fails its test."""


class SimulationError(NmdasimError, RuntimeError):
    """The dynamics failed while running."""


class CampaignError(NmdasimError, ValueError):
    """The campaign file, or what was asked of the campaign, is not allowed."""


class SchedulerError(NmdasimError, RuntimeError):
    """Slurm is absent or refused what was asked of it."""


class ReportError(NmdasimError, RuntimeError):
    """The report cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One quality criterion, its measured value and its limit."""

    name: str
    """What is checked, in words a reader of the report understands."""
    value: float
    """Measured value, in the unit that `name` or `unit` states."""
    limit: float
    """Limit that `value` is held against."""
    passed: bool
    """Whether `value` respects `limit`."""
    unit: str = ""
    """Unit of `value` and `limit`; empty for counts."""
    detail: str = ""
    """Which residues or atoms, where that helps."""
