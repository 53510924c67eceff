"""The documents tell the truth: snippets run, numbers and names are those of the code."""

import argparse
import dataclasses
import doctest
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import nmdasim
from nmdasim import cli, rundir
from nmdasim.campaign import STANDINGS, SlurmSettings, read_campaign
from nmdasim.errors import CampaignError
from nmdasim.ligand import MARKS, conformers, library, load_ligand
from nmdasim.subunits import RING_NAMES, subunits
from nmdasim.system import PROTOCOLS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
DOCTEST = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def blocks(page, *languages):
    """Give language and text of the fenced blocks of a page, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    return [(language, text) for language, text in found if language in languages]


def section(page, heading):
    """Give the text below a heading, down to the next one of the same level or above."""
    level = heading.split(" ")[0]
    text = page.read_text()
    assert f"\n{heading}\n" in text, f"{page.name} has no heading {heading!r}"
    below = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", below, maxsplit=1, flags=re.M)[0]


def rows(text):
    """Give the cells of the table rows in a text, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(table) if set("".join(row)) <= {"-", ":"}]
    skipped = {*rules, *(number - 1 for number in rules)}
    return [row for number, row in enumerate(table) if number not in skipped]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


# ------------------------------------------------------------------- the tutorial, as written


def run_command(line, folder):
    """Run one line as a reader would, with the programs of this environment."""
    words = shlex.split(line, comments=True)
    command = {"nmdasim": [sys.executable, "-m", "nmdasim.cli"], "python": [sys.executable]}
    expected = int(line.rpartition("exit code ")[2]) if "# exit code" in line else 0
    done = subprocess.run(
        command[words[0]] + words[1:], cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == expected, f"{line}\n{done.stdout}\n{done.stderr}"


def run_examples(text, namespace, name):
    test = doctest.DocTestParser().get_doctest(text, namespace, name, name, 0)
    output = []
    result = doctest.DocTestRunner(optionflags=DOCTEST).run(
        test, out=output.append, clear_globs=False
    )
    assert not result.failed, "".join(output)
    namespace.update(test.globs)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """Work through the tutorial once; give the folder in which it was done."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, text in blocks(DOCS / "tutorial.md", "console", "pycon"):
            if language == "console":
                for line in text.splitlines():
                    run_command(line.removeprefix("$ "), folder)
            else:
                run_examples(text, namespace, "tutorial.md")
    return folder


@pytest.mark.slow
def test_every_snippet_of_the_tutorial_runs_in_order(tutorial):
    assert (tutorial / "runs" / "S-ketamine" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_snippet_of_the_readme_prints_every_estimate(tutorial, monkeypatch, capsys):
    monkeypatch.chdir(tutorial)
    ((_, snippet),) = blocks(ROOT / "README.md", "python")
    exec(compile(snippet, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    table = pq.read_table("runs/S-ketamine/analysis/estimates.parquet")
    assert [line.split()[0] for line in printed] == table["name"].to_pylist()


@pytest.mark.slow
def test_tables_have_the_documented_columns(tutorial):
    folder = tutorial / "runs" / "S-ketamine" / "analysis"
    documented = re.findall(r"^### (\w+\.parquet)$", (DOCS / "reference.md").read_text(), re.M)
    assert sorted(documented) == sorted(path.name for path in folder.glob("*.parquet"))
    for name in documented:
        columns = [names(row[0])[0] for row in rows(section(DOCS / "reference.md", f"### {name}"))]
        assert columns == pq.read_schema(folder / name).names, name


@pytest.mark.slow
def test_run_folder_holds_the_documented_files(tutorial):
    folder = tutorial / "runs" / "S-ketamine"
    text = section(DOCS / "reference.md", "## The run folder")
    documented = {names(row[0])[0] for row in rows(text)}
    there = {path.name for path in folder.iterdir()} - {"equilibration"}
    there.add("equilibration/00.state.xml.gz")
    assert documented == there | {rundir.LOCK}
    tree = re.search(r"^runs/S-ketamine/\n((?:  .*\n)+)", (ROOT / "README.md").read_text(), re.M)
    shown = {line.split()[0].split("/")[0] for line in tree[1].splitlines()}
    assert shown <= {path.name for path in folder.iterdir()}


def test_contributing_builds_an_observable_that_passes_its_tests():
    namespace = {"__name__": "contributing"}
    for _, text in blocks(ROOT / "CONTRIBUTING.md", "python"):
        exec(compile(text, "CONTRIBUTING.md", "exec"), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


# --------------------------------------------------------------- the reference and the code


def verbs():
    (action,) = (
        action
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return action.choices


def actions_of_campaign():
    (action,) = (
        action
        for action in verbs()["campaign"]._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {f"campaign {name}": parser for name, parser in action.choices.items()}


def parsers():
    """Everything that takes options: the verbs, and the actions of the one that has several."""
    return {name: p for name, p in verbs().items() if name != "campaign"} | actions_of_campaign()


@pytest.mark.parametrize(
    "page",
    ["pore-and-blockade", "contacts", "blockade-and-permeation", "statistics", "own-trajectory",
     "report"],
)  # fmt: skip
def test_pages_on_observables_say_when_not_to_trust_them(page):
    assert re.search(r"not (to )?trust", (DOCS / f"{page}.md").read_text(), re.I)


def test_every_verb_is_documented_and_no_other():
    text = section(DOCS / "reference.md", "## Commands")
    assert re.findall(r"^### `nmdasim (\w+)`$", text, re.M) == list(verbs())
    shown = re.findall(r"^#### `nmdasim (campaign \w+)`$", text, re.M)
    assert shown == list(actions_of_campaign())
    readme = blocks(ROOT / "README.md", "text")[-1][1]
    assert {line.split()[1] for line in readme.splitlines()} == set(verbs())


@pytest.mark.parametrize("verb", parsers())
def test_options_of_a_verb_are_documented_with_their_defaults(verb):
    documented = {
        tuple(names(row[0])): names(row[1])
        for row in rows(
            section(DOCS / "reference.md", f"{'#' * (3 + (' ' in verb))} `nmdasim {verb}`")
        )
    }
    common = {"--json", "--debug", "--help", "-h"}
    actions = [a for a in parsers()[verb]._actions if not common & set(a.option_strings)]
    options = {tuple(a.option_strings): a.default for a in actions if a.option_strings}
    given = {key for key in documented if key[0].startswith("-")}
    assert given == options.keys()
    assert len(documented) - len(given) == len(actions) - len(options)
    for option, default in options.items():
        if default not in (None, False):
            assert documented[option] == [str(default)], option


def test_keys_of_a_campaign_file_are_documented_with_their_defaults(tmp_path):
    path = tmp_path / "campaign.toml"

    def allowed(text):
        path.write_text('name = "c"\nseed = 1\nproduction_ns = 1\nligands = ["a"]\n' + text)
        with pytest.raises(CampaignError, match="unknown key") as refusal:
            read_campaign(path)
        return str(refusal.value).rpartition("allowed are ")[2].split(", ")

    for heading, text in (
        ("### campaign.toml", "zzz = 1\n"),
        ("#### The table slurm", "[slurm]\nzzz = 1\n"),
        ("#### Tables exclude", "[[exclude]]\nzzz = 1\n"),
    ):
        table = rows(section(DOCS / "reference.md", heading).split("\n#### ")[0])
        assert [names(row[0])[0] for row in table] == allowed(text), heading
    defaults = {
        names(row[0])[0]: names(row[1])[0]
        for row in rows(section(DOCS / "reference.md", "#### The table slurm"))
        if names(row[1])
    }
    settings = SlurmSettings()
    assert {key: str(getattr(settings, key)) for key in defaults} == defaults


def test_the_campaign_file_of_the_how_to_is_accepted(tmp_path):
    ((_, text),) = blocks(DOCS / "campaigns.md", "toml")
    (tmp_path / "campaign.toml").write_text(text)
    campaign = read_campaign(tmp_path / "campaign.toml")
    assert campaign.slurm.setup
    assert campaign.exclusions


def test_standings_of_a_campaign_are_documented():
    table = rows(section(DOCS / "campaigns.md", "## Watch it"))
    assert tuple(names(row[0])[0] for row in table) == STANDINGS


def test_exit_codes_are_those_of_the_program():
    text = section(DOCS / "reference.md", "### Exit codes")
    codes = {int(row[0]) for row in rows(text)}
    assert codes == {0, cli._EXIT_FAILED, cli._EXIT_MISUSE, rundir.EXIT_RESUMABLE, 130}


def test_states_of_a_run_are_documented():
    text = section(DOCS / "reference.md", "## The run folder")
    (sentence,) = re.findall(r"^`state` is one of (.*?)\.$", text, re.M)
    assert tuple(sentence.split(", ")) == rundir.STATES


def test_every_public_name_is_in_the_reference():
    shown = re.findall(r"^::: (nmdasim\.[\w.]+)$", (DOCS / "reference.md").read_text(), re.M)
    homes = {f"nmdasim.{home}.{name}" for name, home in nmdasim._HOME_OF.items()}
    assert sorted(shown) == sorted(homes)


def test_protocol_numbers_are_those_of_the_code():
    text = section(DOCS / "reference.md", "## The protocol")
    protocol = dataclasses.asdict(PROTOCOLS["vestibule"])
    fields = [row for row in rows(text) if names(row[0])]
    documented = {names(row[0])[0]: float(row[1]) for row in fields}
    assert documented == {
        name: value for name, value in protocol.items() if isinstance(value, int | float)
    }
    stages = [row for row in rows(text) if not names(row[0])]
    assert stages == [
        [
            stage["name"],
            f"{stage['ps']:g}",
            f"{stage['timestep_fs']:g}",
            f"{stage['restraint_extra']:g}",
            "yes" if stage["barostat"] else "no",
        ]
        for stage in protocol["equilibration"]
    ]


def test_rings_are_those_of_the_code_and_of_the_receptor(receptor):
    heights = {ring: [] for ring in RING_NAMES}
    for residue, atoms in zip(receptor.residues, receptor.topology.residues(), strict=True):
        for ring, number in subunits()[residue.subunit].rings.items():
            if number == residue.number and residue.status != "cap":
                (ca,) = (atom.index for atom in atoms.atoms() if atom.name == "CA")
                heights[ring].append(receptor.positions[ca, 2])
    documented = rows(section(DOCS / "science.md", "## The channel"))
    assert [row[0] for row in documented] == list(RING_NAMES)
    for ring, *residues, height, _ in documented:
        assert float(height) == pytest.approx(sum(heights[ring]) / 4, abs=0.01)
        for cell, name in zip(residues, ("GluN1", "GluN2A", "GluN2B"), strict=True):
            number = subunits()[name].rings[ring]
            assert cell == f"{subunits()[name].sequence[number - 1]}{number}"


# ------------------------------------------------------------------------ the receptor's page


def test_quality_of_the_receptor_is_what_its_file_says(receptor):
    text = section(DOCS / "receptor-7eu8.md", "## Its quality")
    assert rows(text) == [
        [
            check.name,
            f"{check.value:g}",
            f"{check.limit:g}",
            "passed" if check.passed else "failed",
        ]
        for check in receptor.checks
    ]
    failed = [check for check in receptor.checks if not check.passed]
    assert all(residue in text for check in failed for residue in check.detail.split(", "))


def test_pieces_and_origins_of_the_receptor_are_what_its_file_says(receptor):
    text = section(DOCS / "receptor-7eu8.md", "## What is in it")
    chains = [row for row in rows(text) if row[0] in "ABCD"]
    pieces = "; ".join(f"{letter} {numbers}" for letter, _, numbers in chains)
    assert pieces == receptor.source["pieces"]
    kinds = ", ".join(f"{letter} {subunit}" for letter, subunit, _ in chains)
    assert kinds == receptor.source["subunits"]
    counts = Counter(residue.status for residue in receptor.residues)
    origins = {row[0]: int(row[1]) for row in rows(text) if row[0] not in "ABCD"}
    assert origins == {status: counts[status] for status in origins}
    assert len(origins) == len(counts) - 1  # without the caps
    readme = " ".join((ROOT / "README.md").read_text().split())
    total = sum(origins.values())
    assert f"{counts['side chain rebuilt']} of its {total} modelled residues" in readme
    assert f"and {counts['rebuilt']} were rebuilt whole" in readme
    assert receptor.source["revision"] in (DOCS / "receptor-7eu8.md").read_text()


# ------------------------------------------------------------------------ the ligand library


def test_the_library_is_documented_row_by_row():
    documented = rows(section(DOCS / "ligands.md", "## What is in it"))
    assert [(names(row[0])[0], row[1], row[2]) for row in documented] == [
        (entry.name, ",".join(entry.cip), entry.family) for entry in library()
    ]
    for row, entry in zip(documented, library(), strict=True):
        ends = (entry.pka,) if entry.titration else entry.pka_range or ()
        assert row[3] == f"{'-'.join(f'{end:g}' for end in ends)} {entry.pka_mark}".strip()
        assert set(row[4].split("; ")) <= {entry.title, *entry.synonyms, ""}


def test_marks_are_documented():
    documented = rows(section(DOCS / "ligands.md", "## Marks"))
    assert dict(documented) == dict(MARKS)


@pytest.mark.slow
def test_forms_of_the_rings_are_those_that_are_found():
    documented = rows(section(DOCS / "ligands.md", "## Conformers and strain"))
    assert documented
    for name, lowest, following, energy in documented:
        found = conformers(load_ligand(name).states[0].mol)
        other = next(c for c in found if c.form != found[0].form)
        assert (found[0].form, other.form) == (lowest, following)
        assert other.energy_kj_mol == pytest.approx(float(energy), abs=0.3)


# -------------------------------------------------------------------- packages and citation


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def package(requirement):
    return re.match(r"[\w-]+", requirement)[0]


def test_dependencies_are_those_of_the_project():
    page = DOCS / "dependencies.md"
    always = [row[0] for row in rows(section(page, "## Always installed"))]
    assert always == [package(requirement) for requirement in project()["dependencies"]]
    extras = [(row[0], row[1]) for row in rows(section(page, "## Extras"))]
    wanted = project()["optional-dependencies"]
    assert sorted(extras) == sorted(
        (extra, package(requirement)) for extra, needed in wanted.items() for requirement in needed
    )


def test_every_dependency_names_its_licence_and_size():
    page = DOCS / "dependencies.md"
    for row in rows(section(page, "## Always installed")) + rows(section(page, "## Extras")):
        assert row[-2], row
        assert re.match(r"(< )?\d+", row[-1]), row


def test_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    fields = dict(re.findall(r"^([\w-]+): +(\S.*)$", text, re.M))
    assert fields["version"] == project()["version"] == importlib.metadata.version("nmdasim")
    assert fields["license"] == project()["license"]
    assert re.search(r"^authors:\n  - name: The nmdasim developers$", text, re.M)


# ----------------------------------------------------------------------- links and the site


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if not link.startswith(("http:", "https:"))]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert not missing
    assert local or page.name not in ("README.md", "index.md")


@pytest.mark.slow
def test_site_builds_and_asks_no_other_server(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip('needs the docs extra: pip install ".[docs]"')
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "load_ligand" in (site / "reference" / "index.html").read_text()
    fetched = re.compile(
        r"""<(?:script|img|iframe|link)[^>]*(?:src|href)=["']?(?:https?:)?//"""
        r"""|url\(["']?(?:https?:)?//|@import"""
    )
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not fetched.search(path.read_text()), path.relative_to(site)


# ------------------------------------------------------------------------ the script for Slurm


@pytest.fixture
def job(tmp_path):
    """Start a real run under the real script; only `scontrol` is a stand-in for Slurm."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    python = shlex.quote(sys.executable)
    (programs / "nmdasim").write_text(f'#!/bin/sh\nexec {python} -m nmdasim.cli "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "1",
    }
    with subprocess.Popen(
        ["bash", ROOT / "scripts" / "run_on_slurm.sbatch", "S-ketamine", "-o", "run"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        try:
            wait_for(lambda: state_of(tmp_path / "run") == "equilibrating", started)
            yield started
        finally:
            os.killpg(started.pid, signal.SIGKILL)


@pytest.mark.slow
def test_job_requeues_itself_when_slurm_warns_it(job, tmp_path):
    os.kill(job.pid, signal.SIGUSR1)
    wait_for((tmp_path / "asked").exists, job)
    wait_for(lambda: (tmp_path / "asked").read_text() == "requeue 4711\n", job)
    assert state_of(tmp_path / "run") == "interrupted"
    assert job.poll() is None  # Slurm ends it; a script that leaves is booked as failed.


@pytest.mark.slow
def test_cancelled_job_commits_and_is_not_requeued(job, tmp_path):
    os.kill(job.pid, signal.SIGTERM)
    wait_for(lambda: state_of(tmp_path / "run") == "interrupted", job)
    time.sleep(3.0)  # The run ends, and the script decides.
    assert not (tmp_path / "asked").exists()
    assert job.poll() is None


def state_of(folder):
    return rundir.read_status(folder).state if folder.is_dir() else ""


def wait_for(condition, job, *, at_most_s=240):
    end = time.monotonic() + at_most_s
    while not condition():
        assert job.poll() is None, job.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.2)
