"""The campaign file: strict reading, one sentence for whatever is not allowed."""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmdasim.errors import CampaignError

MOST_POSITIVE, ALL_CHARGES = "most positive", "all"
"""Words that `Campaign.charges` may hold in place of numbers."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WORD = re.compile(r"[^\s'\"\\]+")
# minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on, as sbatch reads them.
_TIME = re.compile(r"(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})")
_LINE = re.compile(r"[^\n\r]+")
_OPTION = re.compile(r"-[^\n\r]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """What a job of the campaign asks of Slurm."""

    partition: str = ""
    """Partition or comma-separated partitions; empty: the site's default."""
    account: str = ""
    """Account that is charged; empty: the user's default."""
    qos: str = ""
    """Quality of service; empty: the default."""
    constraint: str = ""
    """Features that a node must have."""
    time: str = ""
    """Limit of one start, as sbatch reads it; empty: the partition's default."""
    cpus: int = 4
    """Processor cores of a task."""
    mem: str = ""
    """Memory of a task, such as ``4G``."""
    gres: str = ""
    """Generic resources of a task, such as ``gpu:1``."""
    exclude: tuple[str, ...] = ()
    """Nodes never to be used."""
    setup: tuple[str, ...] = ()
    """Lines of bash before the run, such as ``module load`` or activating an environment."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, one each."""
    warn_s: int = 120
    """Seconds before the limit at which Slurm warns the run."""
    max_array_size: int = 0
    """Most tasks in an array; 0: ask Slurm."""
    max_running: int = 0
    """Most tasks that run at once; 0: as many as Slurm starts."""
    max_tasks: int = 0
    """Most tasks that this user may have in the queue; 0: no limit."""
    runs_per_task: int = 1
    """Runs that one task works through."""
    runs_at_once: int = 1
    """Runs of a task that work side by side, for instance on one card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Combinations that are left out: those that agree with every key given."""

    number: int
    """Position in the file, from 1."""
    match: Mapping[str, tuple[Any, ...]]
    """Allowed values by key: ligand, charge, receptor, protocol, voltage_mV, pose, replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """The content of a campaign file."""

    path: Path
    """The file."""
    name: str
    """Name of the campaign; Slurm shows it."""
    seed: int
    """Seed from which that of every run is derived."""
    production_ns: float
    """Length of each run, in ns."""
    ligands: tuple[str, ...]
    """Library names, SMILES, or SD files relative to the campaign file."""
    charges: str | tuple[int, ...] = MOST_POSITIVE
    """Charge states, in e, or one of `MOST_POSITIVE` and `ALL_CHARGES`."""
    receptors: tuple[str, ...] = ("7eu8",)
    """Names, or folders of prepared receptors relative to the campaign file."""
    protocols: tuple[str, ...] = ("vestibule",)
    """Names of protocols."""
    voltages_mv: tuple[float, ...] = (0.0,)
    """Membrane voltages, in mV."""
    poses: tuple[int, ...] = (1,)
    """Numbers of start poses."""
    replicas: int = 1
    """Replicas of each combination."""
    ph: float = 7.4
    """For the populations of the charge states."""
    platform: str = ""
    """Platform of OpenMM; empty: the fastest that works."""
    exclusions: tuple[Exclusion, ...] = ()
    """What is left out."""
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    """What jobs ask for."""

    @property
    def runs_folder(self) -> Path:
        """Folder that holds the runs, beside the campaign file."""
        return self.path.parent / "runs"

    @property
    def folder(self) -> Path:
        """Folder of the campaign's own records, named after the file."""
        return self.path.with_suffix("")


def read_campaign(path: str | Path) -> Campaign:
    """Read a campaign file.

    Parameters
    ----------
    path : str or Path
        File in TOML; ``docs/reference.md`` lists its keys.

    Returns
    -------
    Campaign

    Raises
    ------
    CampaignError
        If the file is absent or no TOML, or a key is unknown, missing, of another type or
        outside what is allowed. Ligands, receptors and protocols are looked up by `plan_runs`.
    """
    path = Path(path)
    if path.suffix != ".toml":
        raise CampaignError(f"{path} is no campaign file: its name must end in .toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CampaignError(f"{path} does not exist: give the campaign's TOML file") from error
    except OSError as error:
        raise CampaignError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path} is not readable TOML: {error}") from error
    table = _Table(path, "", content)
    campaign = Campaign(
        path=path,
        name=table.text("name", pattern=_NAME, kind="letters, digits, dots, - and _"),
        seed=table.whole("seed", least=0),
        production_ns=table.number("production_ns", positive=True),
        ligands=table.texts("ligands"),
        charges=table.charges("charges"),
        receptors=table.texts("receptors", default=("7eu8",)),
        protocols=table.texts("protocols", default=("vestibule",)),
        voltages_mv=table.numbers("voltages_mV", default=(0.0,)),
        poses=table.wholes("poses", least=1, default=(1,)),
        replicas=table.whole("replicas", least=1, default=1),
        ph=table.number("ph", default=7.4),
        platform=table.text("platform", default="", pattern=_WORD, kind="one word"),
        exclusions=_read_exclusions(table),
        slurm=_read_slurm(table.table("slurm")),
    )
    table.refuse_unknown()
    _check_voltages(campaign)
    if not 0 <= campaign.ph <= 14:
        raise CampaignError(f"{path}: ph is {campaign.ph:g}; allowed are numbers from 0 to 14")
    return campaign


def _check_voltages(campaign: Campaign) -> None:
    """Refuse what no protocol of this version can simulate."""
    for voltage in campaign.voltages_mv:
        if voltage != 0:
            raise CampaignError(
                f"{campaign.path}: voltages_mV holds {voltage:g}; the protocols of this version "
                "have no membrane and so no voltage: give [0] or leave the key out"
            )


def _read_slurm(table: "_Table") -> SlurmSettings:
    def word(key: str) -> str:
        return table.text(key, default="", pattern=_WORD, kind="one word")

    settings = SlurmSettings(
        partition=word("partition"),
        account=word("account"),
        qos=word("qos"),
        constraint=word("constraint"),
        time=table.text(
            "time", default="", pattern=_TIME, kind="minutes, hours:minutes:seconds or days-hours"
        ),
        cpus=table.whole("cpus", least=1, default=4),
        mem=word("mem"),
        gres=word("gres"),
        exclude=table.texts("exclude", default=(), pattern=_WORD, kind="names of nodes"),
        setup=table.texts("setup", default=(), pattern=_LINE, kind="lines of bash"),
        options=table.texts(
            "options", default=(), pattern=_OPTION, kind="options, each with its -"
        ),
        warn_s=table.whole("warn_s", least=1, default=120),
        max_array_size=table.whole("max_array_size", least=0, default=0),
        max_running=table.whole("max_running", least=0, default=0),
        max_tasks=table.whole("max_tasks", least=0, default=0),
        runs_per_task=table.whole("runs_per_task", least=1, default=1),
        runs_at_once=table.whole("runs_at_once", least=1, default=1),
    )
    table.refuse_unknown()
    if settings.runs_at_once > settings.runs_per_task:
        raise table.error(
            "runs_at_once",
            settings.runs_at_once,
            f"at most runs_per_task, which is {settings.runs_per_task}: raise that too",
        )
    return settings


_EXCLUSION_KEYS = {
    "ligand": str,
    "charge": int,
    "receptor": str,
    "protocol": str,
    "voltage_mV": float,
    "pose": int,
    "replica": int,
}


def _read_exclusions(table: "_Table") -> tuple[Exclusion, ...]:
    entries = table.take("exclude", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise table.error("exclude", entries, "tables, each headed [[exclude]]")
    exclusions = []
    for number, entry in enumerate(entries, start=1):
        part = _Table(table.path, f"exclude {number}", entry)
        match = {}
        for key, kind in _EXCLUSION_KEYS.items():
            given = part.take(key, None)
            if given is None:
                continue
            values = given if isinstance(given, list) else [given]
            if not values or not all(_is_of(kind, value) for value in values):
                raise part.error(key, given, f"{_KIND_WORDS[kind]} or a list of them")
            match[key] = tuple(kind(value) for value in values)
        part.refuse_unknown()
        if not match:
            raise CampaignError(
                f"{table.path}: exclude {number} is empty and would leave out everything: give at "
                f"least one of {', '.join(_EXCLUSION_KEYS)}"
            )
        exclusions.append(Exclusion(number=number, match=match))
    return tuple(exclusions)


_KIND_WORDS = {str: "text", int: "a whole number", float: "a number"}


def _is_of(kind: type, value: object) -> bool:
    if kind is float:
        kinds: tuple[type, ...] = (int, float)
    else:
        kinds = (kind,)
    finite = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, kinds) and not isinstance(value, bool) and finite


class _Table:
    """One table of the file; remembers which keys are known, to refuse the others."""

    def __init__(self, path: Path, where: str, content: Mapping[str, Any]) -> None:
        self.path, self._where, self._content = path, where, content
        self._known: list[str] = []

    def take(self, key: str, default: Any = ...) -> Any:  # noqa: ANN401
        """Give what the file holds under a key; `default` where it holds nothing."""
        self._known.append(key)
        if key in self._content:
            return self._content[key]
        if default is ...:
            raise CampaignError(f"{self.path}: {self._name(key)} is missing: it must be given")
        return default

    def error(self, key: str, value: object, allowed: str) -> CampaignError:
        """Say what was given and what is allowed."""
        return CampaignError(f"{self.path}: {self._name(key)} is {value!r}; allowed: {allowed}")

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def refuse_unknown(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._content:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]}? " if near else ""
                raise CampaignError(
                    f"{self.path}: unknown key {self._name(key)}: {hint}allowed are "
                    f"{', '.join(self._known)}"
                )

    def table(self, key: str) -> "_Table":
        """Give a table below this one; an empty one where the file has none."""
        content = self.take(key, {})
        if not isinstance(content, dict):
            raise self.error(key, content, f"a table, headed [{key}]")
        return _Table(self.path, self._name(key), content)

    def text(
        self,
        key: str,
        *,
        default: Any = ...,  # noqa: ANN401
        pattern: re.Pattern[str] = _LINE,
        kind: str = "text",
    ) -> str:
        """Give a text that matches a pattern, or the default."""
        value = self.take(key, default)
        if key not in self._content:
            return str(value)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(key, value, f"text of {kind}" if kind != "text" else kind)
        return value

    def whole(self, key: str, *, least: int, default: Any = ...) -> int:  # noqa: ANN401
        """Give a whole number of at least `least`."""
        value = self.take(key, default)
        if not _is_of(int, value) or value < least:
            raise self.error(key, value, f"whole numbers from {least}")
        return int(value)

    def number(
        self,
        key: str,
        *,
        positive: bool = False,
        default: Any = ...,  # noqa: ANN401
    ) -> float:
        """Give a finite number."""
        value = self.take(key, default)
        if not _is_of(float, value) or (positive and value <= 0):
            raise self.error(key, value, "numbers above 0" if positive else "numbers")
        return float(value)

    def texts(
        self,
        key: str,
        *,
        default: Any = ...,  # noqa: ANN401
        pattern: re.Pattern[str] = _LINE,
        kind: str = "text",
    ) -> tuple[str, ...]:
        """Give a list of texts, each once; only a list with a default may be empty."""
        values = self._list(key, default)
        if not all(isinstance(value, str) and pattern.fullmatch(value) for value in values):
            raise self.error(key, self._content.get(key), f"a list of {kind}")
        return self._each_once(key, values, may_repeat=key in ("setup", "options"))

    def wholes(self, key: str, *, least: int, default: Any = ...) -> tuple[int, ...]:  # noqa: ANN401
        """Give a list of whole numbers, each once."""
        values = self._list(key, default)
        if not all(_is_of(int, value) and value >= least for value in values):
            raise self.error(key, self._content.get(key), f"a list of whole numbers from {least}")
        return self._each_once(key, values)

    def numbers(self, key: str, *, default: Any = ...) -> tuple[float, ...]:  # noqa: ANN401
        """Give a list of numbers, each once."""
        values = self._list(key, default)
        if not all(_is_of(float, value) for value in values):
            raise self.error(key, self._content.get(key), "a list of numbers")
        return self._each_once(key, [float(value) for value in values])

    def charges(self, key: str) -> str | tuple[int, ...]:
        """Give the charge states as numbers or as a word."""
        value = self.take(key, MOST_POSITIVE)
        if value in (MOST_POSITIVE, ALL_CHARGES):
            return str(value)
        if isinstance(value, list) and value and all(_is_of(int, item) for item in value):
            return self._each_once(key, value)
        raise self.error(
            key, value, f"'{MOST_POSITIVE}', '{ALL_CHARGES}' or a list of whole numbers"
        )

    def _list(self, key: str, default: Any) -> Sequence[Any]:  # noqa: ANN401
        values = self.take(key, default)
        if key not in self._content:
            return values
        may_be_empty = default == ()
        if not isinstance(values, list) or not (values or may_be_empty):
            raise self.error(key, values, "a list" if may_be_empty else "a list that is not empty")
        return values

    def _each_once(
        self, key: str, values: Sequence[Any], *, may_repeat: bool = False
    ) -> tuple[Any, ...]:
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice and not may_repeat:
            raise CampaignError(
                f"{self.path}: {self._name(key)} holds {twice[0]!r} twice: give each once"
            )
        return tuple(values)
