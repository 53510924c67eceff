"""Campaigns: the file, the plan, where runs stand, the script, the workers, the collection."""

import json
import math
import os
import re
import shutil
import subprocess
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmdasim import cli
from nmdasim.campaign import (
    BadNode,
    estimate_costs,
    find_bad_nodes,
    log_file,
    pick_runs,
    plan_runs,
    read_calibrations,
    read_campaign,
    record_stopped,
    renew_budget,
    run_seed,
    run_standings,
    slurm,
)
from nmdasim.campaign.standing import BAD_NODE_RUNS, RunStanding, start_line
from nmdasim.errors import CampaignError, SchedulerError
from nmdasim.ligand import library
from nmdasim.rundir import (
    begin_start,
    change_status,
    create_run_folder,
    read_status,
    write_json,
)

SMALLEST = 'name = "c"\nseed = 1\nproduction_ns = 1\nligands = ["S-ketamine"]\n'


def opened(folder, text=SMALLEST):
    path = folder / "campaign.toml"
    path.write_text(textwrap.dedent(text))
    return read_campaign(path)


def planned(folder, text=SMALLEST):
    campaign = opened(folder, text)
    return campaign, plan_runs(campaign)


def with_lines(**changes):
    """The smallest file with keys replaced, added, or removed (None); values as in the file."""
    lines = dict(line.split(" = ", 1) for line in SMALLEST.splitlines())
    lines |= changes
    return "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)


# ------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_lines(name=None), ("name is missing",)),
        (with_lines(seed=None), ("seed is missing",)),
        (with_lines(ligands=None), ("ligands is missing",)),
        (with_lines(production_ns=None), ("production_ns is missing",)),
        (with_lines(name='"two words"'), ("name", "two words")),
        (with_lines(name='"../up"'), ("name", "../up")),
        (with_lines(seed="-1"), ("seed is -1", "from 0")),
        (with_lines(seed="true"), ("seed is True",)),
        (with_lines(seed="1.5"), ("seed is 1.5",)),
        (with_lines(production_ns="0"), ("production_ns is 0", "above 0")),
        (with_lines(production_ns="inf"), ("production_ns is inf",)),
        (with_lines(production_ns='"1"'), ("production_ns is '1'",)),
        (with_lines(ligands='"S-ketamine"'), ("ligands is 'S-ketamine'", "a list")),
        (with_lines(ligands="[]"), ("ligands is []", "not empty")),
        (with_lines(ligands="[1]"), ("ligands is [1]", "list of text")),
        (with_lines(ligands='["S-ketamine", "S-ketamine"]'), ("'S-ketamine' twice",)),
        (with_lines(ligands='["S-ketamin"]'), ("ligands: unknown ligand", "S-ketamine")),
        (with_lines(ligands='["ketamine"]'), ("ligands:", "mixture", "R-ketamine")),
        (with_lines(ligands='["none.sdf"]'), ("ligands:", "none.sdf")),
        (with_lines(ligands='["S-ketamine", "esketamine"]'), ("S-ketamine twice", "two names")),
        (with_lines(charges='"some"'), ("charges is 'some'", "most positive", "all")),
        (with_lines(charges="[3]"), ("charges: S-ketamine", "+3", "+1 and +0")),
        (with_lines(charges="[]"), ("charges is []",)),
        (with_lines(receptors='["7eu9"]'), ("receptors: unknown receptor", "7eu8")),
        (with_lines(protocols='["vestibul"]'), ("protocols: unknown protocol", "vestibule")),
        (with_lines(voltages_mV="[-50]"), ("voltages_mV holds -50", "give [0]")),
        (with_lines(voltages_mV="[0, 0.0]"), ("voltages_mV holds 0.0 twice",)),
        (with_lines(poses="[0]"), ("poses is [0]", "from 1")),
        (with_lines(replicas="0"), ("replicas is 0", "from 1")),
        (with_lines(ph="15"), ("ph is 15", "0 to 14")),
        (with_lines(platform='"two words"'), ("platform",)),
        (with_lines(replica="2"), ("unknown key replica", "did you mean replicas")),
        (with_lines(colour='"red"'), ("unknown key colour", "allowed are name, seed")),
        (with_lines(slurm="1"), ("slurm is 1", "[slurm]")),
        (SMALLEST + "[slurm]\nparitition = 'a'\n", ("slurm.paritition", "mean partition")),
        (SMALLEST + "[slurm]\ntime = 'soon'\n", ("slurm.time is 'soon'", "hours:minutes")),
        (SMALLEST + "[slurm]\npartition = 'a b'\n", ("slurm.partition",)),
        (SMALLEST + '[slurm]\nsetup = ["a\\nb"]\n', ("slurm.setup",)),
        (SMALLEST + "[slurm]\noptions = ['nice']\n", ("slurm.options", "-")),
        (SMALLEST + "[slurm]\nruns_at_once = 2\n", ("slurm.runs_at_once", "runs_per_task")),
        (SMALLEST + "[slurm]\ncpus = 0\n", ("slurm.cpus is 0",)),
        (SMALLEST + "[[exclude]]\n", ("exclude 1 is empty", "everything")),
        (SMALLEST + "[exclude]\nligand = 'S-ketamine'\n", ("[[exclude]]",)),
        (SMALLEST + "[[exclude]]\nligands = 'S-ketamine'\n", ("exclude 1.ligands", "mean ligand")),
        (SMALLEST + "[[exclude]]\nligand = 1\n", ("exclude 1.ligand is 1", "text")),
        (SMALLEST + "[[exclude]]\nligand = 'R-ketamine'\n", ("exclude 1.ligand", "S-ketamine")),
        (SMALLEST + "[[exclude]]\nreplica = 5\n", ("exclude 1 matches no run",)),
        (SMALLEST + "[[exclude]]\nreplica = 0\n", ("exclusions leave no run",)),
        ("name = [", ("not readable TOML",)),
    ],
)
def test_what_is_not_allowed_is_told_in_one_sentence(tmp_path, text, expected):
    with pytest.raises(CampaignError) as refusal:
        planned(tmp_path, text)
    said = str(refusal.value)
    assert "\n" not in said
    assert str(tmp_path / "campaign.toml") in said
    for part in expected:
        assert part in said


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(CampaignError, match="does not exist"):
        read_campaign(tmp_path / "none.toml")
    with pytest.raises(CampaignError, match=r"must end in \.toml"):
        read_campaign(tmp_path)


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=40))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "campaign.toml"
    path.write_text(SMALLEST + text, encoding="utf-8", errors="replace")
    try:
        campaign = read_campaign(path)
    except CampaignError:
        return
    assert campaign.name == "c"


# ------------------------------------------------------------------------- the plan


def test_every_combination_is_planned_once_in_the_order_of_the_file(tmp_path):
    _, runs = planned(
        tmp_path,
        with_lines(
            ligands='["memantine", "S-ketamine"]', charges='"all"', poses="[1, 2]", replicas="2"
        ),
    )
    assert [(r.ligand, r.charge, r.pose, r.replica) for r in runs] == [
        (ligand, charge, pose, replica)
        for ligand in ("memantine", "S-ketamine")
        for charge in (1, 0)
        for pose in (1, 2)
        for replica in (0, 1)
    ]
    assert len({run.name for run in runs}) == len({run.seed for run in runs}) == len(runs)


def test_exclusions_leave_out_what_agrees_with_every_key(tmp_path):
    text = with_lines(ligands='["memantine", "S-ketamine"]', charges='"all"', replicas="3")
    text += "[[exclude]]\nligand = 'memantine'\ncharge = 0\n[[exclude]]\nreplica = [1, 2]\n"
    _, runs = planned(tmp_path, text)
    assert [(run.ligand, run.charge, run.replica) for run in runs] == [
        ("memantine", 1, 0), ("S-ketamine", 1, 0), ("S-ketamine", 0, 0),
    ]  # fmt: skip


def test_a_charge_that_a_ligand_has_not_can_be_excluded(tmp_path):
    text = with_lines(ligands='["S-ketamine", "Mg2+"]', charges="[1, 2]")
    with pytest.raises(CampaignError, match="no state of charge"):
        planned(tmp_path, text)
    text += "[[exclude]]\nligand = 'S-ketamine'\ncharge = 2\n"
    text += "[[exclude]]\nligand = 'Mg2+'\ncharge = 1\n"
    _, runs = planned(tmp_path, text)
    assert [(run.ligand, run.charge) for run in runs] == [("S-ketamine", 1), ("magnesium", 2)]


NAMES = sorted(entry.name for entry in library())


@settings(deadline=None, max_examples=30)
@given(
    few=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    more=st.lists(st.sampled_from(NAMES), max_size=4, unique=True),
    replicas=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_more_ligands_and_replicas_change_no_other_run(tmp_path_factory, few, more, replicas, seed):
    folder = tmp_path_factory.mktemp("grown")

    def plan(ligands, n):
        text = with_lines(ligands=json.dumps(ligands), replicas=str(n), seed=str(seed))
        return {run.name: run for run in planned(folder, text)[1]}

    before = plan(few, replicas)
    # In another order too: where a ligand stands in the file does not matter.
    after = plan([*(name for name in more if name not in few), *reversed(few)], replicas + 1)
    assert before.items() <= after.items()
    assert len({run.seed for run in after.values()}) == len(after)


@settings(deadline=None)
@given(seed=st.integers(0, 2**63), other=st.integers(0, 2**63), voltage=st.floats(-200, 200))
def test_seeds_are_positive_and_follow_what_the_run_is(seed, other, voltage):
    mine = run_seed(seed, ligand="a", voltage_mV=voltage)
    assert 1 <= mine < 2**31
    assert mine == run_seed(seed, voltage_mV=float(voltage), ligand="a")
    if seed != other:
        assert mine != run_seed(other, ligand="a", voltage_mV=voltage)
    assert mine != run_seed(seed, ligand="b", voltage_mV=voltage)


def test_a_command_is_whole_and_its_folder_is_the_one_it_would_make(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, (run,) = planned(Path())
    words = list(run.words)
    assert run.command.startswith("nmdasim run S-ketamine --charge=1 --receptor=7eu8 ")
    assert words[-1] == f"--out=runs/{run.name}"
    # Left to itself the same command chooses the same folder: it refuses the file that lies there.
    place = tmp_path / "runs" / run.name
    place.parent.mkdir()
    place.write_text("in the way")
    assert cli.main(words[:-1]) == 2
    assert f"runs/{run.name} is, or lies under, a file" in capsys.readouterr().err


def test_an_sd_file_and_a_receptor_lie_beside_the_campaign(tmp_path):
    from nmdasim.ligand import load_ligand, state_of, write_ligand
    from nmdasim.receptor import receptor_file

    (tmp_path / "mine").mkdir()
    write_ligand(state_of(load_ligand("memantine")), tmp_path / "mine" / "guest.sdf")
    shutil.copytree(receptor_file("7eu8").parent, tmp_path / "mine" / "own")
    text = with_lines(ligands='["mine/guest.sdf"]', receptors='["mine/own"]')
    _, (run,) = planned(tmp_path, text)
    assert (run.ligand, run.receptor) == (load_ligand(run.words[1]).name, "own")
    assert run.words[1] == str(tmp_path / "mine" / "guest.sdf")
    assert f"--receptor={tmp_path / 'mine' / 'own'}" in run.words


# ------------------------------------------------------------------------- costs


def test_costs_follow_from_speed_length_and_what_a_task_asks_for(tmp_path):
    text = with_lines(replicas="6", production_ns="10")
    text += "[slurm]\ngres = 'gpu:h100:2'\ncpus = 8\nruns_per_task = 2\nruns_at_once = 2\n"
    campaign, runs = planned(tmp_path, text)
    (cost,) = estimate_costs(campaign, runs, ns_per_day=120.0)
    assert cost.ns == 60
    # 60 ns at 120 ns/day are 12 h, two at a time 6 h, each with 2 cards and 8 cores.
    assert (cost.node_hours, cost.gpu_hours, cost.cpu_hours) == (6, 12, 48)
    assert cost.particles_source == "shipped"
    (unknown,) = estimate_costs(campaign, runs)
    assert math.isnan(unknown.gpu_hours)
    assert "--ns-per-day" in unknown.speed_source


def test_costs_are_measured_on_runs_that_are_there(tmp_path):
    campaign, runs = planned(tmp_path, with_lines(replicas="2"))
    folder = runs[1].folder
    inputs = {
        "receptor": {"name": "7eu8"},
        "protocol": {"name": "vestibule"},
        "simulation": {"production_ns": 1.0},
    }
    create_run_folder(folder, inputs)
    # Magic number and atoms begin an XTC file, each in four bytes, the largest first.
    (folder / "segments" / "00000.xtc").write_bytes(b"\0\0\x07\xcb\0\0\x03\xe8" + b"\0" * 992)
    write_json(
        folder / "segments" / "00000.json",
        {"xtc_bytes": 1000, "n_frames": 4, "ns_per_day": 50, "platform": "CUDA", "device": "X"},
    )
    measured = read_calibrations(run.folder for run in runs)
    (cost,) = estimate_costs(campaign, runs, calibrations=measured)
    assert (cost.n_particles, cost.particles_source, cost.ns_per_day) == (1000, "measured", 50)
    assert "CUDA X" in cost.speed_source
    # 2 ns at a frame each 0.5 ps, and 250 bytes a frame.
    assert cost.disk_bytes >= 4000 * 250


# ------------------------------------------------------------------------- standing


@pytest.fixture
def one(tmp_path):
    campaign, (run,) = planned(tmp_path, with_lines(production_ns="0.01"))
    return campaign, run


def stand(campaign, run):
    (standing,) = run_standings(campaign, [run])
    return standing


def make_folder(run, **status):
    create_run_folder(run.folder, {"simulation": {"production_ns": run.production_ns}})
    if status:
        change_status(run.folder, production_ps_asked=run.production_ns * 1000, **status)


def write_log(campaign, run, *lines):
    path = log_file(campaign, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"state": "building"}, "interrupted"),
        ({"state": "running", "production_ps_done": 5.0}, "interrupted"),
        ({"state": "interrupted", "reason": "stopped by SIGTERM"}, "interrupted"),
        ({"state": "failed", "reason": "it broke"}, "failed"),
        ({"state": "finished", "production_ps_done": 10.0}, "finished"),
        ({"state": "analysed", "production_ps_done": 10.0}, "analysed"),
        ({"state": "analysed", "production_ps_done": 5.0}, "interrupted"),
    ],
)
def test_standing_follows_the_folder(one, status, expected):
    campaign, run = one
    assert stand(campaign, run).standing == "waiting"
    make_folder(run, **status)
    found = stand(campaign, run)
    assert found.standing == expected
    assert found.reason.startswith(status.get("reason", ""))
    assert bool(found.reason) is (expected in ("interrupted", "failed"))
    assert found.may_start is (expected != "analysed")


def test_a_folder_that_is_held_is_running(one):
    from nmdasim.rundir import lock_run

    campaign, run = one
    make_folder(run, state="running")
    with lock_run(run.folder):
        found = stand(campaign, run)
    assert (found.standing, found.reason, found.may_start) == ("running", "", False)


def test_three_starts_without_progress_stop_a_run_until_it_is_renewed(one):
    campaign, run = one
    make_folder(run, state="failed", reason="it broke")
    for n in range(3):
        assert stand(campaign, run).standing == "failed", n
        begin_start(run.folder, "running", simulates=True)
        change_status(run.folder, "failed", "it broke")
    found = stand(campaign, run)
    assert (found.standing, found.may_start) == ("stopped", False)
    assert "3 starts without progress" in found.reason
    assert "it broke" in found.reason
    assert renew_budget(campaign, [found]) == [run.name]
    assert read_status(run.folder).n_stalled == 0
    assert stand(campaign, run).standing == "failed"


def test_the_record_of_stopped_runs_keeps_what_was_not_looked_at(tmp_path):
    campaign, runs = planned(tmp_path, with_lines(replicas="2"))
    for run in runs:
        for _ in range(3):
            write_log(campaign, run, start_line("a"), "nmdasim: no such pose")
        record_stopped(campaign, run_standings(campaign, [run]))
    record = campaign.folder / "stopped.json"
    assert json.loads(record.read_text()).keys() == {run.name for run in runs}
    renew_budget(campaign, run_standings(campaign, runs[:1]))
    record_stopped(campaign, run_standings(campaign, runs[:1]))
    assert json.loads(record.read_text()).keys() == {runs[1].name}


def test_a_start_that_advanced_costs_nothing(one):
    campaign, run = one
    make_folder(run, state="running")
    for _ in range(10):
        begin_start(run.folder, "running", simulates=True)
        change_status(run.folder, "running", n_stalled=0)  # as whoever commits does
        change_status(run.folder, "failed", "it broke")
    assert stand(campaign, run).standing == "failed"


def test_starts_that_never_made_a_folder_are_told_by_the_log(one):
    campaign, run = one
    for n in range(3):
        write_log(campaign, run, f"{start_line('node1')} job 7 task {n}", "nmdasim: no such pose")
        found = stand(campaign, run)
        assert found.standing == ("stopped" if n == 2 else "failed")
        assert found.reason.endswith("no such pose")
        assert (found.n_stalled, found.node) == (n + 1, "node1")
    renew_budget(campaign, [found])
    assert stand(campaign, run).standing == "waiting"


def test_a_start_that_was_stopped_or_is_at_work_is_no_failure(one):
    campaign, run = one
    write_log(campaign, run, start_line("a"), "nmdasim: stopped by SIGTERM; run the same again")
    write_log(campaign, run, start_line("a"), "nmdasim: job 7_0 is requeued: waiting")
    write_log(campaign, run, start_line("a"))
    assert stand(campaign, run).standing == "waiting"
    write_log(campaign, run, start_line("a"))
    found = stand(campaign, run)
    assert (found.standing, found.reason) == ("failed", "ended without a word")


def test_refusals_of_a_folder_that_holds_another_run_stop_it(one):
    campaign, run = one
    make_folder(run, state="interrupted", reason="stopped by SIGTERM")
    write_log(campaign, run, "== start 2001-01-01T00:00:00+00:00 on a", "nmdasim: long ago")
    assert stand(campaign, run).standing == "interrupted"
    for n in range(3):
        write_log(campaign, run, f"== start 2999-01-0{n + 1}T00:00:00+00:00 on a",
                  "nmdasim: holds a run with other inputs")  # fmt: skip
    assert stand(campaign, run).standing == "stopped"


def standings_at(run, *rows):
    """Make standings from (host, state, minutes after midnight)."""
    noon = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        RunStanding(
            run=run,
            standing=state,
            reason="disk gone" if state == "failed" else "",
            production_ps_done=0.0,
            n_frames=0 if state == "failed" else 5,
            n_starts=1,
            n_stalled=1,
            ns_per_day=math.nan,
            node=host,
            updated=(noon + timedelta(minutes=minutes)).isoformat(timespec="seconds"),
        )
        for host, state, minutes in rows
    ]


def test_a_node_on_which_several_runs_fail_at_once_is_bad(one):
    _, run = one
    bad = [("bad.site", "failed", n) for n in range(BAD_NODE_RUNS)]
    good = ("good", "analysed", 0)
    (found,) = find_bad_nodes(standings_at(run, *bad, good))
    assert found.node == "bad"
    assert f"{BAD_NODE_RUNS} runs failed" in found.reason
    assert "disk gone" in found.reason
    assert not find_bad_nodes(standings_at(run, *bad)), "the only node that anybody has seen"
    assert not find_bad_nodes(standings_at(run, *bad[1:], good)), "too few"
    slow = [("bad", "failed", 70 * n) for n in range(BAD_NODE_RUNS)]
    assert not find_bad_nodes(standings_at(run, *slow, good)), "not at once"
    later = ("bad", "running", 30)
    assert not find_bad_nodes(standings_at(run, *bad, good, later)), "it works again"


# ------------------------------------------------------------------------- the script


def script_of(folder, text=SMALLEST, bad_nodes=()):
    campaign, runs = planned(folder, text)
    return slurm.prepare_submission(campaign, runs, bad_nodes=bad_nodes)


def test_script_asks_for_what_the_file_says(tmp_path):
    text = (
        with_lines(replicas="4")
        + """\
[slurm]
partition = "gpu"
account = "abc"
time = "1-00"
cpus = 6
mem = "8G"
gres = "gpu:1"
exclude = ["n1"]
setup = ["module load cuda"]
options = ["--nice=100"]
max_running = 3
"""
    )
    submission, script, listed = script_of(tmp_path, text, [BadNode(node="n2", reason="broken")])
    asked = [line.split(" ", 1)[1] for line in script.splitlines() if line.startswith("#SBATCH")]
    expected = {
        "--array=0-3%3", "--partition=gpu", "--account=abc", "--time=1-00", "--cpus-per-task=6",
        "--mem=8G", "--gres=gpu:1", "--exclude=n1,n2", "--nice=100", "--signal=B:USR1@120",
        "--requeue", "--open-mode=append",
    }  # fmt: skip
    assert expected <= set(asked)
    assert "module load cuda" in script
    assert "left out: n2: broken" in script
    assert submission.n_tasks == 4
    assert [line.split(" ", 1)[1] for line in listed.splitlines()] == [
        run.command for run in planned(tmp_path, text)[1]
    ]


@pytest.mark.parametrize(
    ("n_runs", "limits", "per_task", "n_tasks"),
    [
        (10, "", 1, 10),
        (10, "max_array_size = 4", 3, 4),
        (10, "max_tasks = 2", 5, 2),
        (10, "runs_per_task = 4", 4, 3),
        (10, "max_array_size = 100\nruns_per_task = 2\nmax_tasks = 3", 4, 3),
    ],
)
def test_runs_are_put_into_as_many_tasks_as_the_limits_allow(
    tmp_path, n_runs, limits, per_task, n_tasks
):
    text = with_lines(replicas=str(n_runs)) + f"[slurm]\n{limits}\n"
    submission, script, _ = script_of(tmp_path, text)
    assert (submission.runs_per_task, submission.n_tasks) == (per_task, n_tasks)
    assert f"--array=0-{n_tasks - 1}\n" in script


@pytest.mark.parametrize("limits", ["", "runs_per_task = 3\nruns_at_once = 2"])
def test_each_task_of_the_script_starts_its_runs(tmp_path, limits):
    """The real script under bash; a program that prints its words stands where nmdasim is."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    place = tmp_path / "a place"
    place.mkdir()
    text = with_lines(replicas="4") + f'[slurm]\nsetup = ["PATH=$PROGRAMS:$PATH"]\n{limits}\n'
    submission, script, listed = script_of(place, text)
    campaign, runs = planned(place, text)
    submission.folder.mkdir(parents=True)
    (submission.folder / "runs.txt").write_text(listed)
    log_file(campaign, runs[0]).parent.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nmdasim").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{tmp_path}/words"\n')
    (programs / "nmdasim").chmod(0o755)
    started = []
    for task in range(submission.n_tasks):
        environment = os.environ | {
            "PROGRAMS": str(programs),
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_JOB_ID": "9",
        }
        (tmp_path / "words").write_text("")
        subprocess.run(["bash", "-c", script], check=True, env=environment)
        started.append((tmp_path / "words").read_text().splitlines())
    if not limits:
        assert started == [list(run.words) for run in runs]
        assert "job 9 task 2" in log_file(campaign, runs[2]).read_text()
    else:
        head = ["campaign", "run", str(campaign.path), "--workers", "2", "--only"]
        names = [run.name for run in runs]
        assert started == [[*head, *names[:3]], [*head, names[3]]]


def test_a_program_that_cannot_be_started_leaves_its_reason(tmp_path):
    """As on a node that lacks a file system: the log must tell, for nmdasim cannot."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    text = with_lines(replicas="3")
    submission, script, listed = script_of(tmp_path, text)
    campaign, runs = planned(tmp_path, text)
    submission.folder.mkdir(parents=True)
    (submission.folder / "runs.txt").write_text(listed)
    log_file(campaign, runs[0]).parent.mkdir()
    script = script.replace("exec $command", "PATH=/nowhere; exec $command")
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        env=os.environ
        | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "9", "SLURMD_NODENAME": "n7"},
    )
    assert done.returncode == 1
    found = [(s.standing, s.node, s.reason) for s in run_standings(campaign, runs)]
    assert found[0] == found[2] == ("waiting", "", "")
    assert found[1] == ("failed", "n7", "cannot be started here: see the line above")


def test_the_brief_look_agrees_with_the_whole(one):
    campaign, run = one
    for status in (
        {"state": "running", "production_ps_done": 5.0},
        {"state": "analysed", "production_ps_done": 5.0},
        {"state": "analysed", "production_ps_done": 10.0},
    ):
        make_folder(run, **status)
        (brief,) = run_standings(campaign, [run], brief=True)
        whole = stand(campaign, run)
        assert (brief.standing, brief.reason) == (whole.standing, whole.reason)
        assert brief.production_ps_done == whole.production_ps_done


def test_without_slurm_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    campaign, runs = planned(tmp_path)
    with pytest.raises(SchedulerError, match="no sbatch"):
        slurm.submit_runs(campaign, runs)
    assert slurm.queued_runs(campaign) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


# ------------------------------------------------------------------------- the verbs


def test_plan_prints_costs_commands_and_json(tmp_path, capsys):
    opened(tmp_path, with_lines(replicas="30"))
    path = str(tmp_path / "campaign.toml")
    assert cli.main(["campaign", "plan", path, "--ns-per-day", "100"]) == 0
    text = capsys.readouterr().out
    assert "30 runs of 1 ns" in text
    assert "and 10 more" in text
    assert "6539 (shipped)" in text
    assert cli.main(["campaign", "plan", path, "--commands"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 30
    assert cli.main(["campaign", "plan", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["command"] for row in document["runs"]] == commands
    assert document["costs"][0]["gpu_hours"] is None


def test_dry_run_prints_a_script_and_writes_nothing(tmp_path, capsys):
    opened(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for verb in ("submit", "resume"):
        assert cli.main(["campaign", verb, str(tmp_path / "campaign.toml"), "--dry-run"]) == 0
        assert capsys.readouterr().out.startswith("#!/bin/bash\n#SBATCH --job-name=c-0001\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_status_counts_and_gives_reasons(tmp_path, capsys):
    campaign, runs = planned(tmp_path, with_lines(replicas="3", production_ns="0.01"))
    make_folder(runs[0], state="analysed", production_ps_done=10.0)
    make_folder(runs[1], state="failed", reason="it broke")
    path = str(campaign.path)
    assert cli.main(["campaign", "status", path]) == 0
    text = capsys.readouterr().out
    assert "3 runs, 0.01 of 0.03 ns" in text
    assert "it broke" in text
    assert runs[0].name not in text
    assert cli.main(["campaign", "status", path, "--all"]) == 0
    text = capsys.readouterr().out
    assert all(run.name in text for run in runs)
    assert cli.main(["campaign", "status", path, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["standing"] for row in rows] == ["analysed", "failed", "waiting"]


def test_wrong_use_ends_with_2(tmp_path, capsys):
    opened(tmp_path)
    path = str(tmp_path / "campaign.toml")
    assert cli.main(["campaign", "run", path, "--only", "nobody"]) == 2
    assert cli.main(["campaign", "collect", path]) == 2
    assert cli.main(["campaign"]) == 2
    assert "holds no run 'nobody'" in capsys.readouterr().err


def test_runs_are_picked_by_name(tmp_path):
    campaign, runs = planned(tmp_path, with_lines(replicas="3"))
    assert pick_runs(campaign, runs, [runs[2].name, runs[0].name]) == (runs[2], runs[0])
    with pytest.raises(CampaignError, match=re.escape(f"did you mean {runs[1].name}?")):
        pick_runs(campaign, runs, [runs[1].name[:-1]])
