import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from nmdasim import cli
from nmdasim.receptor import receptor_file

VERBS = (
    "run", "status", "analyse", "report", "ligands", "ligand", "poses", "receptors", "receptor",
    "campaign", "doctor",
)  # fmt: skip
HEAVY = ("numpy", "scipy", "rdkit", "openmm", "mdtraj", "gemmi", "pyarrow", "plotly", "jinja2",
         "rich", "propka")  # fmt: skip


def tree(folder):
    """Everything under a folder with its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An own working folder, from which nothing of the checkout is touched."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here, capsys):
    """Run a command that must be refused in one line and change nothing; give the line."""

    def run(*words, status=2):
        before = tree(here)
        assert cli.main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        assert out == ""
        lines = [line for line in err.splitlines() if line.startswith("nmdasim: ")]
        assert len(lines) == 1
        assert lines[0] == err.splitlines()[-1]
        assert "Traceback" not in err
        assert tree(here) == before
        return lines[0]

    return run


# ---------------------------------------------------------------- starting and help


def test_help_of_everything_is_there(capsys):
    for words in ([], ["--help"], *([verb, "--help"] for verb in VERBS)):
        try:
            status = cli.main(words)
        except SystemExit as exit_:
            status = exit_.code
        assert status == 0
        assert capsys.readouterr().out.startswith("usage: nmdasim")


def test_help_names_every_verb(capsys):
    cli.main([])
    text = capsys.readouterr().out
    listed = re.findall(r"^    (\w+)\b", text, re.M)
    assert set(listed) - {"VERB"} == set(VERBS)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys\nfrom nmdasim.cli import main\n"
        f"try:\n    main({words})\nexcept SystemExit:\n    pass\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = {name.strip("' []").split(".")[0] for name in done.stderr.split(",")}
    assert "nmdasim" in loaded
    assert not loaded & set(HEAVY)


def test_importing_the_package_imports_nothing_heavy():
    program = "import nmdasim, sys; dir(nmdasim); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & set(HEAVY)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "S-ketamin"], ("unknown ligand", "S-ketamine")),
        (["run", "ketamine"], ("mixture", "S-ketamine", "R-ketamine")),
        (["run", "C1CC(=O"], ("C1CC(=O",)),
        (["run", "none.sdf"], ("none.sdf",)),
        (["run", "S-ketamine", "--receptor", "7eu9"], ("unknown receptor", "7eu8")),
        (["run", "S-ketamine", "--receptor", "folder"], ("unknown receptor", "folder")),
        (["run", "S-ketamine", "--protocol", "vestibul"], ("unknown protocol", "vestibule")),
        (["run", "S-ketamine", "--charge", "3"], ("no state of charge +3", "+1 and +0")),
        (["run", "S-ketamine", "--production-ns", "-1"], ("production_ns", "-1")),
        (["run", "S-ketamine", "--production-ns", "0"], ("production_ns",)),
        (["run", "S-ketamine", "--production-ns", "nan"], ("production_ns", "nan")),
        (["run", "S-ketamine", "--seed", "-5"], ("seed", "-5")),
        (["run", "S-ketamine", "--replica", "-1"], ("replica", "-1")),
        (["run", "S-ketamine", "--platform", "Quantum"], ("'Quantum'", "CPU")),
        (["run", "memantine", "--pose", "99"], ("no start pose 99", "choose one from 1 to")),
        (["run", "S-ketamine", "--pose", "0"], ("no start pose 0", "from 1")),
        (["status", "nothing"], ("nothing cannot be read", "folders of runs")),
        (["status", "."], (". holds no run", "one level below")),
        (["analyse", "nothing"], ("nothing holds no run", "run.toml")),
        (["report", "nothing"], ("nothing holds no run", "run.toml")),
        (["ligand", "nonsense!", "-o", "out"], ("unknown ligand",)),
        (["ligand", "CNC1(CCCCC1=O)c1ccccc1Cl", "-o", "out"], ("(S)", "--enumerate-stereo")),
        (["ligand", "CCN.CCCN", "-o", "out"], ("2 separate molecules",)),
        (["receptor", "none.cif", "-o", "out"], ("no such file", "none.cif")),
        (["receptor", "7eu8", "-o", "out"], ("7eu8", "download")),
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_in_one_line(refused, words, expected):
    line = refused(*words)
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["run"],
        ["run", "S-ketamine", "--production-ns", "long"],
        ["run", "S-ketamine", "--ph", "15"],
        ["run", "S-ketamine", "--ph", "acid"],
        ["report"],
        ["status"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_refused_with_the_usage(here, capsys, words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: nmdasim")
    assert "Traceback" not in err
    assert tree(here) == {}


# Phenylcyclohexylamine, which is not in the library.
NEW = "NC1(c2ccccc2)CCCCC1"


@pytest.mark.slow
def test_a_new_molecule_without_the_docking_extra_is_refused(refused, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("openff.toolkit", reason="needs the `parameters` extra")
    monkeypatch.setitem(sys.modules, "vina", None)
    assert 'pip install "nmdasim[docking]"' in refused("run", NEW)


def test_a_new_molecule_without_the_parameters_extra_is_refused_before_it_is_docked(
    refused, monkeypatch, here
):
    monkeypatch.setenv("NMDASIM_CACHE", str(here / "cache"))
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    # Were it to be docked first, that extra would be asked for.
    monkeypatch.setitem(sys.modules, "vina", None)
    assert 'pip install "nmdasim[parameters]"' in refused("run", NEW)


def test_a_folder_with_another_run_is_refused_with_the_difference(refused, here, capsys):
    from nmdasim.rundir import create_run_folder
    from nmdasim.simulation import run_inputs
    from nmdasim.system import VESTIBULE

    inputs = run_inputs(
        VESTIBULE,
        ligand={"name": "S-ketamine"},
        receptor={"name": "7eu8"},
        production_ns=1,
        seed=1,
    )
    create_run_folder(here / "run", inputs)
    line = refused("run", "S-ketamine", "-o", "run")
    assert "holds a run with other inputs" in line
    assert "production_ns" in line


def inputs_of(*words):
    """Give the inputs that a command would record."""
    from nmdasim.ligand import load_ligand, state_of
    from nmdasim.rundir import sha256_of
    from nmdasim.simulation import run_inputs
    from nmdasim.system import VESTIBULE

    asked = cli._parser().parse_args(["run", "S-ketamine", *words])
    ligand = load_ligand("S-ketamine")
    state = state_of(ligand)
    receptor = receptor_file("7eu8")
    return run_inputs(
        VESTIBULE,
        ligand={
            "name": ligand.name,
            "smiles": state.smiles,
            "charge": state.charge,
            "pose": asked.pose,
        },
        receptor={"name": receptor.parent.name, "sha256": sha256_of(receptor)},
        production_ns=asked.production_ns,
        seed=asked.seed,
    )


def test_another_run_is_refused_before_any_work(refused, here):
    """Placing the ligand would find that there is no such pose; it is not come to that."""
    from nmdasim.rundir import create_run_folder

    create_run_folder(here / "run", inputs_of())
    line = refused("run", "S-ketamine", "--pose", "99", "-o", "run")
    assert "ligand.pose: 1 there, 99 here" in line


def test_a_longer_run_is_pointed_to_extend(refused, here):
    from nmdasim.rundir import create_run_folder

    create_run_folder(here / "run", inputs_of())
    line = refused("run", "S-ketamine", "--production-ns", "0.1", "-o", "run")
    assert "extend the run to 0.1 ns with --extend" in line
    line = refused("run", "S-ketamine", "--production-ns", "0.01", "--extend", "-o", "run")
    assert "not shortened" in line


@pytest.mark.slow
def test_a_run_that_fails_while_it_is_built_says_so_in_its_folder(here, capsys):
    from nmdasim.rundir import LOCK, create_run_folder, read_status

    create_run_folder(here / "run", inputs_of("--pose", "99"))
    assert cli.main(["run", "S-ketamine", "--pose", "99", "-o", "run"]) == 2
    status = read_status(here / "run")
    assert status.state == "failed"
    assert "no start pose 99" in status.reason
    assert status.n_stalled == 1
    assert not (here / "run" / LOCK).exists()
    capsys.readouterr()
    assert cli.main(["status", "run"]) == 0
    assert "no start pose 99" in capsys.readouterr().out


def test_a_folder_with_foreign_files_is_refused(refused, here):
    (here / "thesis").mkdir()
    (here / "thesis" / "chapter.tex").write_text("years of work")
    line = refused("run", "S-ketamine", "-o", "thesis")
    assert "chapter.tex" in line


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_is_a_file_is_refused(refused, here, place):
    (here / "file").write_text("kept")
    assert "file" in refused("run", "S-ketamine", "-o", place)


@pytest.mark.parametrize(
    "words", [["ligand", "S-ketamine", "-o", "file"], ["ligand", "S-ketamine", "-o", "file/below"]],
    ids=" ".join,
)  # fmt: skip
def test_a_ligand_is_not_written_over_a_file(refused, here, words):
    (here / "file").write_text("kept")
    # The system refuses here, so this counts as failed while running.
    assert "file" in refused(*words, status=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_an_unwritable_folder_is_refused(refused, here):
    (here / "locked").mkdir(mode=0o500)
    assert "locked" in refused("run", "S-ketamine", "-o", "locked/run")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux")
def test_where_nobody_may_write_is_refused(refused):
    assert "/sys/nmdasim" in refused("run", "S-ketamine", "-o", "/sys/nmdasim")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_receptor_is_refused(refused, here, share):
    whole = receptor_file("7eu8").read_text()
    (here / "cut").mkdir()
    (here / "cut" / "receptor.cif").write_text(whole[: int(share * len(whole))])
    line = refused("run", "S-ketamine", "--receptor", "cut")
    assert "not a complete receptor file" in line


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_truncated_entry_is_refused(refused, here, share):
    whole = receptor_file("7eu8").read_text()
    (here / "entry.cif").write_text(whole[: int(share * len(whole))])
    assert "entry.cif" in refused("receptor", "entry.cif", "-o", "out")


def test_debug_shows_where_it_happened(here, capsys):
    assert cli.main(["run", "S-ketamin", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "LigandError" in err
    assert err.splitlines()[-1].startswith("nmdasim: unknown ligand")


def test_the_installed_command_gives_status_and_streams(tmp_path):
    command = Path(sys.executable).with_name("nmdasim")
    done = subprocess.run(
        [command, "run", "S-ketamin"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert tree(tmp_path) == {}


# ---------------------------------------------------------------- being asked to stop


def listens(process, number):
    """Say whether a process has a handler for a signal."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s+(\w+)$", text, re.M)[1], 16)
    return bool(caught >> (number - 1) & 1)


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("made", [False, True], ids=["before the folder", "while building"])
def test_a_signal_outside_the_dynamics_is_resumable_too(here, name, made):
    from nmdasim.rundir import LOCK, create_run_folder, read_status, run_summary

    number = getattr(signal, name)
    if made:
        create_run_folder(here / "run", inputs_of())
    command = [sys.executable, "-m", "nmdasim.cli", "run", "S-ketamine", "-o", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: listens(process, signal.SIGUSR1), process)  # the last to be installed
        if made:
            wait_for(lambda: run_summary("run").n_stalled == 1, process)
        process.send_signal(number)
        err = process.stderr.read()
    assert process.returncode == 75, err
    assert f"stopped by {name}; run the same command again to resume" in err
    assert (here / "run").exists() is made
    if made:
        status = read_status(here / "run")
        assert (status.state, status.reason) == ("interrupted", f"stopped by {name}")
        assert not (here / "run" / LOCK).exists()


# ---------------------------------------------------------------- what verbs print


@pytest.fixture
def document(here, capsys):
    def run(*words):
        assert cli.main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_ligands_as_json(document):
    found = document("ligands", "--ph", "7.4")
    by_name = {row["name"]: row for row in found["ligands"]}
    assert {"S-ketamine", "R-ketamine"} <= by_name.keys()
    states = by_name["S-ketamine"]["states"]
    assert sum(states.values()) == pytest.approx(1, abs=1e-3)
    assert by_name["S-ketamine"]["cip"] == "S"


def test_ligand_writes_what_it_says(document, here):
    found = document("ligand", "S-ketamine", "-o", "out")
    assert sorted(found["written"]) == sorted(str(p.relative_to(here)) for p in here.glob("out/*"))
    assert {Path(name).suffix for name in found["written"]} == {".sdf", ".xml", ".json", ".svg"}


def test_ligands_as_json_are_complete(document):
    rows = {row["name"]: row for row in document("ligands", "--ph", "7.4")["ligands"]}
    assert len(rows) >= 32
    hnk = rows["2R6R-hydroxynorketamine"]
    assert (hnk["pka"], hnk["pka_range"], hnk["pka_mark"]) == (None, [6.0, 7.0], "MEM-lo")
    assert {made["parent"] for made in hnk["reactions"]} == {"R-norketamine",
                                                             "2R6R-hydroxyketamine"}  # fmt: skip
    assert any(p["source"].startswith("Abbott") and p["value"] == 46 for p in hnk["potencies"])
    assert rows["magnesium"]["states"] == {"+2": 1.0}


def test_both_isomers_of_a_mixture_are_made(document, here):
    found = document("ligand", "ketamine", "--enumerate-stereo", "-o", "out")
    names = {Path(path).stem for path in found["written"]}
    assert names == {"S-ketamine+1", "S-ketamine+0", "R-ketamine+1", "R-ketamine+0"}


def test_a_salt_is_said_on_standard_error(here, capsys):
    assert cli.main(["ligand", "CN[C@@]1(CCCCC1=O)c1ccccc1Cl.Cl", "-o", "out", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "left out: hydrogen chloride" in err
    assert "left out: hydrogen chloride" in json.loads(out)["notes"]["S-ketamine"][0]


def test_receptors_as_json(document):
    found = document("receptors")
    assert found["7eu8"]["entry"] == "7EU8"
    assert {"name", "value", "limit", "passed"} <= found["7eu8"]["checks"][0].keys()


@pytest.fixture
def runs(here):
    """A folder with a finished run, a failed one and one whose process is gone."""
    from nmdasim.rundir import RunStatus, create_run_folder, segment_file, write_status

    for name, state, reason in (
        ("a", "analysed", ""), ("b", "failed", "the disk is full"), ("c", "running", ""),
    ):  # fmt: skip
        folder = here / "runs" / name
        create_run_folder(folder, inputs_of())
        done = 1500 if state == "analysed" else 30
        manifest = {"index": 0, "first_frame": 0, "n_frames": done, "frame_interval_ps": 1.0,
                    "ns_per_day": 14.4}  # fmt: skip
        segment_file(folder, 0, "json").write_text(json.dumps(manifest))
        asked = 1500.0 if state == "analysed" else 1230.0
        status = RunStatus(state=state, reason=reason, production_ps_asked=asked, n_starts=2)
        write_status(folder, status)
    return here / "runs"


def test_status_as_json(document, runs):
    rows = document("status", "runs")["runs"]
    assert [Path(row["folder"]).name for row in rows] == ["a", "b", "c"]
    assert [row["state"] for row in rows] == ["analysed", "failed", "running"]
    assert rows[1]["reason"] == "the disk is full"
    # 1.2 ns are left, at 0.6 ns in an hour
    assert rows[2]["hours_left"] == pytest.approx(2.0)
    assert rows[2]["heartbeat_s"] is None


def test_status_for_people(runs, capsys):
    assert cli.main(["status", "runs/a", "runs/b", "runs/c"]) == 0
    head, *rows, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "done", "asked", "ns/day", "left", "starts", "note"]
    assert rows[0].split() == ["runs/a", "analysed", "1.5", "ns", "1.5", "ns", "14.4", "-", "2"]
    assert rows[1].endswith("the disk is full")
    assert "2.0 h" in rows[2]
    assert rows[2].endswith("no process works on it: run the same command again to resume")
    assert total == "3 runs: 1 analysed, 1 failed, 1 running"


def test_doctor_as_json(document):
    assert document("doctor", "--quick")["platforms"]["used by default"]


@pytest.mark.parametrize("words", [["ligands"], ["receptors"], ["doctor", "--quick"]])
def test_words_for_people_go_to_standard_output(here, capsys, words):
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) > 5
    assert err == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"nmdasim {version('nmdasim')}\n"
