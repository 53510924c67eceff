"""The words that users type. No science here; every verb calls the public API."""

import argparse
import json
import math
import os
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmdasim.errors import NmdasimError, ReceptorError, SimulationError, TrajectoryError

if TYPE_CHECKING:
    from nmdasim.campaign import Campaign, PlannedRun
    from nmdasim.ligand import LibraryEntry, Ligand
    from nmdasim.pose import Pose
    from nmdasim.rundir import RunStatus, RunSummary
    from nmdasim.stopping import StopRequest
    from nmdasim.system import Protocol

_EXIT_FAILED, _EXIT_MISUSE = 1, 2
#: Starts without progress after which a job no longer requeues itself.
_MAX_STALLED = 3
_SETTLED = ("finished", "analysed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after `nmdasim`; those of the process when left out.

    Returns
    -------
    status : int
        0 good, 1 failed while running, 2 wrong use or bad input, 75 interrupted and resumable.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.verb is None:
        parser.print_help()
        return 0
    try:
        return asked.call(asked)
    except (NmdasimError, OSError, MemoryError) as error:
        if asked.debug:
            traceback.print_exc()
        _say(f"nmdasim: {_sentence(error)}")
        return _EXIT_MISUSE if isinstance(error, ValueError) else _EXIT_FAILED
    except KeyboardInterrupt:
        _say("nmdasim: interrupted; run the same command again to resume")
        return 130


def _run(asked: argparse.Namespace) -> int:
    """Prepare, simulate, analyse and report; continue what the folder already holds."""
    from nmdasim.rundir import EXIT_RESUMABLE
    from nmdasim.stopping import Stopped, StopRequest, hand_over

    with StopRequest(leaves=True, requeue=not asked.no_requeue) as stop:
        try:
            return _start_run(asked, stop)
        except Stopped:
            with stop.finishing():
                hand_over(stop)
        return EXIT_RESUMABLE


def _start_run(asked: argparse.Namespace, stop: "StopRequest") -> int:
    from nmdasim.ligand import load_ligand, state_of
    from nmdasim.pose import place_ligand
    from nmdasim.receptor import load_receptor, receptor_file
    from nmdasim.rundir import RUN, check_run_folder, create_run_folder, run_name, sha256_of
    from nmdasim.simulation import choose_platform, run_inputs
    from nmdasim.system import find_protocol

    ligand = load_ligand(asked.ligand, ph=asked.ph)
    for note in ligand.notes:
        _say(f"{ligand.name}: {note}")
    state = state_of(ligand, asked.charge)
    receptor = receptor_file(asked.receptor)
    protocol = find_protocol(asked.protocol)
    inputs = run_inputs(
        protocol,
        ligand={
            "name": ligand.name,
            "smiles": state.smiles,
            "charge": state.charge,
            "pose": asked.pose,
        },
        receptor={"name": receptor.parent.name, "sha256": sha256_of(receptor)},
        production_ns=asked.production_ns,
        seed=asked.seed,
        replica=asked.replica,
    )
    name = run_name(
        state.name,
        receptor.parent.name,
        protocol.name,
        seed=asked.seed,
        replica=asked.replica,
        pose=asked.pose,
    )
    folder = Path(asked.out or Path("runs") / name)
    check_run_folder(folder, inputs, extend=asked.extend)
    if asked.platform:
        choose_platform(asked.platform)
    # What can be refused is refused before the folder is made.
    pose = None
    if not (folder / RUN).exists():
        pose = place_ligand(load_receptor(receptor), state, pose=asked.pose)
    create_run_folder(folder, inputs, extend=asked.extend)

    def build() -> None:
        _say(f"building {state.name} in {receptor.parent.name}, protocol {protocol.name}")
        placed = pose or place_ligand(load_receptor(receptor), state, pose=asked.pose)
        _build(folder, asked, ligand, placed, protocol, receptor, inputs)

    return _work_on_run(folder, asked, stop, build)


def _work_on_run(
    folder: Path, asked: argparse.Namespace, stop: "StopRequest", build: Callable[[], None]
) -> int:
    """Do what is left of a run; whatever ends it early is recorded in the folder."""
    from nmdasim.rundir import begin_start, failures_recorded, is_built, lock_run, remove_leftovers
    from nmdasim.simulation import simulate

    _say_who_holds(folder)
    with lock_run(folder) as lock, failures_recorded(lock):
        stop.lock = lock
        if not is_built(folder):
            remove_leftovers(folder)
            begin_start(folder, "building", simulates=False)
            build()
        status = simulate(folder, platform=asked.platform, progress=not asked.quiet, stop=stop)
        if status.state == "interrupted":
            _check_progress(status, stop)
        # Time may have run out while the last frames were written: the rest is for later.
        stop.check()
        return _read_run(folder, asked)


def _check_progress(status: "RunStatus", stop: "StopRequest") -> None:
    """Keep a job from requeueing itself for ever when its time is too short for anything."""
    from nmdasim.stopping import WARNING

    if stop.requested == WARNING and status.n_stalled >= _MAX_STALLED:
        raise SimulationError(
            f"{status.n_stalled} starts in a row ended before anything could be committed: ask "
            "for more time for each, and run the same command again"
        )


def _say_who_holds(folder: Path) -> None:
    """Tell why the start waits, where another computer may be working in the folder."""
    from nmdasim.rundir import STALE_S, lock_owner

    owner = lock_owner(folder)
    if owner is not None and owner.elsewhere:
        _say(
            f"{folder} is locked by process {owner.pid} on {owner.host}, last seen "
            f"{owner.age_s:.0f} s ago: watching it for up to {STALE_S:.0f} s"
        )


def _build(
    folder: Path,
    asked: argparse.Namespace,
    ligand: "Ligand",
    pose: "Pose",
    protocol: "Protocol",
    receptor: Path,
    inputs: dict[str, Any],
) -> None:
    from rdkit import Chem

    from nmdasim.pose import with_strain
    from nmdasim.simulation import create_run
    from nmdasim.system import build_system

    pose = with_strain(pose)
    state, prepared = pose.ligand, pose.receptor
    system = build_system(pose, protocol, seed=asked.seed)
    create_run(
        system,
        folder,
        inputs=inputs,
        receptor_file=receptor,
        ligand_sdf=Chem.MolToMolBlock(pose.ligand.mol) + "$$$$\n",
        provenance={
            "command": "nmdasim " + " ".join(asked.words),
            "receptor": dict(prepared.source),
            "parameters": dict(pose.parameters.record),
            "ligand": {
                "name": state.name,
                "ph": asked.ph,
                "population": _known(state.population),
                "pka": _known(ligand.pka),
                "pka_source": ligand.pka_source,
            },
            "pose": {
                "number": pose.start.number,
                "name": pose.start.name,
                "method": pose.start.method,
                "score_kcal_mol": _known(pose.start.score_kcal_mol),
                "shift_nm": pose.shift_nm,
                "closest_nm": pose.closest_nm,
                "strain": asdict(pose.strain) if pose.strain else None,
                "turned_amides": list(pose.turned_amides),
                "made_by": dict(pose.start.provenance),
            },
            "checks": [asdict(check) for check in (*prepared.checks, *pose.checks)],
        },
    )


def _read_run(folder: Path, asked: argparse.Namespace) -> int:
    """Analyse a finished run, write its report and print the outcome."""
    from nmdasim.analysis import analyse_run
    from nmdasim.report import write_report
    from nmdasim.rundir import change_status

    _say("analysing the trajectory")
    analysis = analyse_run(folder)
    report = write_report(folder, folder / "report.html")
    change_status(folder, "analysed")
    if asked.json:
        _print_json({"folder": folder, "report": report, **_outcome(analysis)})
    else:
        print(f"run     {folder}\nreport  {report}")
    return 0


def _outcome(analysis: Any) -> dict[str, Any]:  # noqa: ANN401 - any analysis result
    return {
        "estimates": [asdict(estimate) for estimate in analysis.estimates],
        "checks": [asdict(check) for check in analysis.checks],
    }


def _status(asked: argparse.Namespace) -> int:
    """Print where runs stand, from their files alone."""
    from nmdasim.rundir import find_runs, run_summary

    summaries = [run_summary(folder) for folder in find_runs(asked.runs)]
    if asked.json:
        # A folder in the field of its name, its own table as it is; unknown numbers are null.
        rows = [{**asdict(row), "hours_left": row.hours_left} for row in summaries]
        _print_json({"runs": rows})
        return 0
    width = max(len(str(row.folder)) for row in summaries)
    print(
        f"{'run':{width}s}  {'state':13s} {'done':>9s} {'asked':>9s}  {'ns/day':>7s} "
        f"{'left':>8s} {'starts':>6s}  note"
    )
    for row in summaries:
        print(
            f"{row.folder!s:{width}s}  {row.state:13s} {_length(row.production_ps_done):>9s} "
            f"{_length(row.production_ps_asked):>9s}  {_speed(row.ns_per_day):>7s} "
            f"{_time_left(row):>8s} {row.n_starts:6d}  {_note(row)}".rstrip()
        )
    if len(summaries) > 1:
        counts = Counter(row.state for row in summaries)
        print(f"{len(summaries)} runs: " + ", ".join(f"{n} {s}" for s, n in counts.most_common()))
    return 0


def _length(ps: float) -> str:
    return f"{ps:.4g} ps" if ps < 1000 else f"{ps / 1000:.4g} ns"


def _speed(ns_per_day: float) -> str:
    return "-" if math.isnan(ns_per_day) else f"{ns_per_day:.3g}"


def _time_left(row: "RunSummary") -> str:
    if row.state in _SETTLED or math.isnan(row.hours_left):
        return "-"
    return f"{row.hours_left:.1f} h" if row.hours_left >= 1 else f"{row.hours_left * 60:.0f} min"


def _note(row: "RunSummary") -> str:
    """Say why a run failed, who works on it, or that nobody does."""
    notes = [row.reason] if row.reason else []
    if row.live:
        notes.append(f"{row.owner}, seen {max(row.heartbeat_s, 0.0):.0f} s ago")
    elif row.state not in (*_SETTLED, "failed", "interrupted"):
        notes.append("no process works on it: run the same command again to resume")
    return "; ".join(notes)


def _analyse(asked: argparse.Namespace) -> int:
    from nmdasim.analysis import analyse_run

    runs = [_foreign_run(asked)] if asked.topology or asked.trajectory else asked.runs
    if not runs:
        raise TrajectoryError(
            "nothing to analyse: give folders of runs, or --topology, --trajectory and --ligand"
        )
    results = {}
    for run in runs:
        analysis = analyse_run(run, cores=asked.cores, progress=_progress(asked))
        results[str(analysis.run.folder)] = _outcome(analysis)
    if asked.json:
        _print_json(results)
        return 0
    for folder, outcome in results.items():
        _print_outcome(folder, outcome)
    return 0


def _print_outcome(folder: str, outcome: Mapping[str, Any]) -> None:
    print(folder)
    known = [estimate for estimate in outcome["estimates"] if estimate["n_frames"]]
    for estimate in known:
        error = estimate["error"]
        spread = f"± {error:.3g}" if error == error else f"({estimate['note']})"
        print(f"  {estimate['name']:34s} {estimate['mean']:.4g} {spread} {estimate['unit']}")
    missing = [e["name"] for e in outcome["estimates"] if not e["n_frames"]]
    if missing:
        print(f"  not defined in any frame: {', '.join(missing)}")
    for check in outcome["checks"]:
        if not check["passed"]:
            print(
                f"  check failed: {check['name']}: {check['value']:.3g}, limit {check['limit']:.3g}"
                f" {check['unit']}".rstrip()
                + f" ({check['detail']})"
            )
    print(f"  to see it: nmdasim report {shlex.quote(folder)} -o FILE.html")


def _foreign_run(asked: argparse.Namespace) -> Any:  # noqa: ANN401 - imported lazily
    """Open the trajectory of another program as the options say."""
    from nmdasim.trajectory import open_trajectory

    if asked.runs or not (asked.topology and asked.trajectory and asked.ligand):
        raise TrajectoryError(
            "a trajectory of another program needs --topology, --trajectory and --ligand, all "
            "three and no folder of a run"
        )
    run = open_trajectory(
        asked.trajectory,
        topology=asked.topology,
        ligand=asked.ligand,
        charge=asked.charge,
        ligand_residue=asked.ligand_residue,
        frame_ps=asked.frame_ps,
        stride=asked.stride,
        folder=asked.out,
    )
    return replace(run, source={**run.source, "command": "nmdasim " + " ".join(asked.words)})


def _progress(asked: argparse.Namespace) -> Callable[[int, int], None] | None:
    """Count frames on the terminal, where somebody watches."""
    if asked.json or not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{done} of {total} frames", end="\n" if done == total else "", file=sys.stderr)

    return show


def _report(asked: argparse.Namespace) -> int:
    from nmdasim.report import write_figures, write_report
    from nmdasim.rundir import FOREIGN, read_run_id

    folders = [Path(folder) for folder in asked.runs]
    for folder in folders:
        if not (folder / FOREIGN).is_file():
            read_run_id(folder)  # Refuses what is no run as wrong use, before any work.
    written = write_report(folders, Path(asked.out))
    figures = write_figures(folders, Path(asked.figures)) if asked.figures else []
    if asked.json:
        _print_json({"report": written, "figures": figures})
    else:
        print(written, *figures, sep="\n")
    return 0


def _ligands(asked: argparse.Namespace) -> int:
    """List the library, or write it as a page."""
    from nmdasim.ligand import library

    if asked.report:
        from nmdasim.catalogue import write_catalogue

        written = write_catalogue(Path(asked.report), ph=asked.ph)
        _print_json({"report": written}) if asked.json else print(written)
        return 0
    if asked.json:
        _print_json({"ph": asked.ph, "ligands": [_facts(e, asked.ph) for e in library()]})
        return 0
    _print_ligands(asked.ph)
    return 0


def _facts(entry: "LibraryEntry", ph: float) -> dict[str, Any]:
    """Everything that the library holds about one ligand."""
    from nmdasim.ligand import library_protomers, potencies

    return {
        **asdict(entry),
        "cip": ",".join(entry.cip),
        "pka": _known(entry.pka),
        "pka_range": entry.pka_range,
        "pka_source": entry.titration and entry.titration.source,
        "pka_mark": entry.pka_mark or None,
        "states": {f"{p.charge:+d}": _known(p.population) for p in library_protomers(entry, ph=ph)},
        "potencies": [asdict(finding) for finding in potencies(entry.name)],
    }


def _print_ligands(ph: float) -> None:
    from nmdasim.ligand import FAMILIES, library, library_protomers

    print(f"{'name':25s} {'CIP':6s} {f'charge at pH {ph:g}':22s} {'pKa':20s} also called")
    family = ""
    for entry in library():
        if entry.family != family:
            family = entry.family
            print(f"\n{FAMILIES[family]}")
        shares = [
            f"{p.charge:+d}" + ("" if math.isnan(p.population) else f" {p.population:.0%}")
            for p in library_protomers(entry, ph=ph)
        ]
        ends = (entry.pka,) if entry.titration else entry.pka_range or ()
        pka = f"{'-'.join(f'{end:g}' for end in ends)} {entry.pka_mark}" if ends else "-"
        others = sorted(set(entry.synonyms) - {entry.title}, key=len)[:1]
        called = ", ".join(name for name in (entry.title, *others) if name != entry.name)
        print(f"{entry.name:25s} {','.join(entry.cip) or '-':6s} {', '.join(shares):22s} "
              f"{pka:20s} {called}".rstrip())  # fmt: skip
    print("\nA charge without a share: the pKa is not known as one figure.")
    print("MEM: remembered, not confirmed. All figures and sources: --json, --report FILE.html")


def _ligand(asked: argparse.Namespace) -> int:
    """Prepare one ligand, or every stereoisomer of it."""
    from nmdasim.ligand import ligand_svg, load_ligand, stereoisomers, write_ligand
    from nmdasim.parameters import load_parameters, write_parameters

    given = stereoisomers(asked.ligand) if asked.enumerate_stereo else (asked.ligand,)
    ligands = [load_ligand(text, ph=asked.ph) for text in given]
    folder = Path(asked.out)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ligand in ligands:
        for note in ligand.notes:
            _say(f"{ligand.name}: {note}")
        for state in ligand.states:
            write_ligand(state, folder / f"{state.name}.sdf")
            write_parameters(load_parameters(state), folder / state.name)
            (folder / f"{state.name}.svg").write_text(ligand_svg(ligand, charge=state.charge))
            written += [folder / f"{state.name}{end}" for end in (".sdf", ".xml", ".json", ".svg")]
    if asked.json:
        notes = {ligand.name: list(ligand.notes) for ligand in ligands}
        _print_json({"written": written, "notes": notes})
    else:
        print(*written, sep="\n")
    return 0


def _poses(asked: argparse.Namespace) -> int:
    """List where a ligand may start; relax each when asked to."""
    from nmdasim.ligand import load_ligand, state_of
    from nmdasim.pose import list_poses, place_ligand, with_strain
    from nmdasim.receptor import load_receptor

    state = state_of(load_ligand(asked.ligand, ph=asked.ph), asked.charge)
    receptor = load_receptor(asked.receptor)
    rows: list[dict[str, Any]] = []
    for start in list_poses(receptor, state):
        row: dict[str, Any] = {
            "number": start.number,
            "name": start.name,
            "method": start.method,
            "score_kcal_mol": _known(start.score_kcal_mol),
            "made_by": dict(start.provenance),
        }
        if asked.relax:
            pose = with_strain(place_ligand(receptor, state, pose=start.number))
            row |= {
                "shift_nm": pose.shift_nm,
                "closest_nm": pose.closest_nm,
                "strain": asdict(pose.strain) if pose.strain else None,
                "turned_amides": list(pose.turned_amides),
                "checks": [asdict(check) for check in pose.checks],
            }
        rows.append(row)
    if asked.json:
        _print_json({"ligand": state.name, "receptor": receptor.name, "poses": rows})
        return 0
    for row in rows:
        score = row["score_kcal_mol"]
        scored = f", score {score:.2f} kcal/mol" if score is not None else ""
        print(f"{row['number']}  {row['name']} ({row['method']}{scored})")
        for check in row.get("checks", ()):
            mark = "ok  " if check["passed"] else "FAIL"
            text = f"{check['name']}: {check['value']:g} {check['unit']} {check['detail']}"
            print(f"   {mark} {text}".rstrip())
    return 0


def _receptors(asked: argparse.Namespace) -> int:
    from nmdasim.receptor import load_receptor, receptor_names

    loaded = [load_receptor(name) for name in receptor_names()]
    if asked.json:
        _print_json({r.name: {**r.source, "checks": [asdict(c) for c in r.checks]} for r in loaded})
        return 0
    for receptor in loaded:
        _print_receptor(receptor)
    return 0


def _receptor(asked: argparse.Namespace) -> int:
    from nmdasim.receptor import write_receptor
    from nmdasim.receptor.prepare import prepare_receptor

    path = Path(asked.receptor)
    if not path.exists() and len(asked.receptor) == 4:
        raise ReceptorError(
            f"{asked.receptor!r} is not a file here: this version reads entries from disk; "
            "download the mmCIF file of the entry and give its path"
        )
    _say(f"preparing {path}: about a minute")
    receptor = prepare_receptor(path, ph=asked.ph)
    written = write_receptor(receptor, Path(asked.out))
    if asked.json:
        checks = [asdict(check) for check in receptor.checks]
        _print_json({"written": written, "source": dict(receptor.source), "checks": checks})
    else:
        print(written)
        _print_receptor(receptor)
    return 0


def _print_receptor(receptor: Any) -> None:  # noqa: ANN401 - imported lazily
    print(f"{receptor.name}  {receptor.source['title']}")
    for key in ("subunits", "pieces", "gaps_rebuilt", "left_out", "protonation"):
        print(f"  {key.replace('_', ' ')}: {receptor.source[key]}")
    for check in receptor.checks:
        mark = "ok  " if check.passed else "FAIL"
        print(f"  {mark} {check.name}: {check.value:g} {check.unit} {check.detail}".rstrip())


# --- campaigns: each verb opens the file, calls the package, and prints ----------------


def _open_campaign(asked: argparse.Namespace) -> tuple["Campaign", tuple["PlannedRun", ...]]:
    from nmdasim.campaign import plan_runs, read_campaign

    campaign = read_campaign(asked.campaign)
    return campaign, plan_runs(campaign)


def _plan(asked: argparse.Namespace) -> int:
    """List the runs of a campaign and what they will cost."""
    from nmdasim.campaign import estimate_costs, read_calibrations
    from nmdasim.campaign.printing import print_plan

    campaign, runs = _open_campaign(asked)
    if asked.commands:
        print(*(run.command for run in runs), sep="\n")
        return 0
    measured = read_calibrations([*map(Path, asked.calibrate or ()), *(run.folder for run in runs)])
    costs = estimate_costs(campaign, runs, calibrations=measured, ns_per_day=asked.ns_per_day)
    if asked.json:
        rows = [{**asdict(run), "command": run.command} for run in runs]
        _print_json({"campaign": campaign.name, "costs": list(map(asdict, costs)), "runs": rows})
    else:
        print_plan(campaign, runs, costs, every=asked.all)
    return 0


def _submit(asked: argparse.Namespace) -> int:
    """Submit what is left of a campaign as one job array."""
    from nmdasim.campaign import slurm
    from nmdasim.campaign.printing import print_choice, print_submission

    asked.campaign = str(Path(asked.campaign).resolve())
    campaign, runs = _open_campaign(asked)
    choice = slurm.choose_runs(
        campaign, runs, resume=asked.resume, retry=asked.retry, dry=asked.dry_run
    )
    if not asked.json:
        print_choice(choice, sys.stderr if asked.dry_run else sys.stdout)
    if not choice.runs:
        if asked.json:
            _print_json({"submission": None, "choice": asdict(choice)})
        return 0
    if asked.dry_run:
        submission, script, _ = slurm.prepare_submission(
            campaign, choice.runs, bad_nodes=choice.bad_nodes
        )
        if asked.json:
            _print_json({"submission": asdict(submission), "script": script})
        else:
            print(script, end="")
        return 0
    submission = slurm.submit_runs(campaign, choice.runs, bad_nodes=choice.bad_nodes)
    if asked.json:
        _print_json({"submission": asdict(submission), "choice": asdict(choice)})
    else:
        print_submission(submission)
    return 0


def _campaign_status(asked: argparse.Namespace) -> int:
    """Say where the runs of a campaign stand, from their folders alone."""
    from nmdasim.campaign import run_standings
    from nmdasim.campaign.printing import print_standings, standing_row

    campaign, runs = _open_campaign(asked)
    standings = run_standings(campaign, runs, brief=not (asked.json or asked.all))
    if asked.json:
        _print_json({"campaign": campaign.name, "runs": [standing_row(s) for s in standings]})
    else:
        print_standings(campaign, standings, every=asked.all)
    return 0


def _collect(asked: argparse.Namespace) -> int:
    """Gather the results of a campaign across its replicas."""
    from nmdasim.campaign import run_standings
    from nmdasim.campaign.collecting import collect_runs

    campaign, runs = _open_campaign(asked)
    found = collect_runs(campaign, run_standings(campaign, runs), report=not asked.no_report)
    if asked.json:
        _print_json(asdict(found))
        return 0
    print(f"{found.n_analysed} of {found.n_runs} runs are analysed")
    print(found.folder, *found.reports, sep="\n")
    return 0


def _campaign_run(asked: argparse.Namespace) -> int:
    """Work through a campaign with processes of this computer."""
    from nmdasim.campaign import pick_runs, renew_budget, run_standings
    from nmdasim.campaign.printing import print_standings, standing_row
    from nmdasim.campaign.workers import exit_status, run_campaign
    from nmdasim.rundir import EXIT_RESUMABLE
    from nmdasim.stopping import StopRequest, hand_over

    campaign, runs = _open_campaign(asked)
    if asked.only:
        runs = pick_runs(campaign, runs, asked.only)
    if asked.retry:
        renew_budget(campaign, run_standings(campaign, runs))
    with StopRequest() as stop:
        standings = run_campaign(
            campaign, runs, workers=asked.workers, stop=stop, progress=not asked.quiet
        )
        status = exit_status(standings, stop)
        if status == EXIT_RESUMABLE:
            _say("nmdasim: all runs have committed; run the same command again to resume")
            hand_over(stop)
    if asked.json:
        rows = [standing_row(standing) for standing in standings.values()]
        _print_json({"campaign": campaign.name, "runs": rows})
    else:
        print_standings(campaign, standings.values(), every=False)
    return status


def _doctor(asked: argparse.Namespace) -> int:
    """Say what this machine can do, and measure it."""
    from nmdasim.doctor import examine

    findings = examine(measure=not asked.quick)
    if asked.json:
        _print_json(findings)
        return 0
    for topic, lines in findings.items():
        print(topic)
        for name, value in lines.items():
            print(f"  {name:28s} {value}")
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON document on standard output")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="nmdasim",
        description="Simulate and analyse how ketamine and its relatives block the NMDA receptor.",
        epilog="Exit status: 0 good, 1 failed while running, 2 bad input, 75 run again to resume.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    def verb(name: str, call: Callable[[argparse.Namespace], int], text: str) -> Any:  # noqa: ANN401
        added = verbs.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(call=call, words=sys.argv[1:])
        return added

    _add_run(verb("run", _run, "prepare, simulate, analyse and report; run it again to resume"))
    added = verb("status", _status, "say where runs stand; needs no scheduler")
    added.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or a folder of them")
    _add_analyse(verb("analyse", _analyse, "analyse runs, or a trajectory of another program"))
    added = verb("report", _report, "write one HTML report from analysed runs")
    added.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    added.add_argument("-o", "--out", default="report.html", metavar="FILE.html")
    added.add_argument("--figures", metavar="DIR", help="also write each figure as an SVG file")
    added = verb("ligands", _ligands, "list the ligands that ship, or write a page about them")
    added.add_argument("--ph", type=_ph, default=7.4)
    added.add_argument("--report", metavar="FILE.html", help="write formulae and potencies to it")
    added = verb("ligand", _ligand, "prepare one ligand: a file per charge state, parameters")
    added.add_argument("ligand", metavar="NAME|SMILES|FILE.sdf")
    added.add_argument("-o", "--out", required=True, metavar="DIR")
    added.add_argument("--ph", type=_ph, default=7.4)
    added.add_argument(
        "--enumerate-stereo",
        action="store_true",
        help="prepare every stereoisomer that the ligand leaves open",
    )
    added = verb("poses", _poses, "list where a ligand may start in a receptor")
    added.add_argument("ligand", metavar="LIGAND", help="library name, SMILES or SD file")
    added.add_argument("--receptor", default="7eu8", help="name, or a prepared receptor's folder")
    added.add_argument("--charge", type=int, help="charge state; the most positive by default")
    added.add_argument("--ph", type=_ph, default=7.4, help="for the populations of charge states")
    added.add_argument("--relax", action="store_true", help="relax each pose and print its checks")
    verb("receptors", _receptors, "list the receptors that ship, with their quality")
    added = verb("receptor", _receptor, "prepare a receptor from a deposited entry")
    added.add_argument("receptor", metavar="FILE", help="mmCIF or PDB file of the tetramer")
    added.add_argument("-o", "--out", required=True, metavar="DIR")
    added.add_argument("--ph", type=_ph, default=7.4)
    _add_campaign(verbs, common)
    added = verb("doctor", _doctor, "say what this machine can do, with a short self-test")
    added.add_argument("--quick", action="store_true", help="skip the speed measurement")
    return parser


def _add_campaign(verbs: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    text = "many runs from one file: plan, start on Slurm or here, watch, collect"
    parser = verbs.add_parser("campaign", help=text, description=text)
    parser.set_defaults(call=lambda _: _misuse(parser), debug=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")

    def action(name: str, call: Callable[[argparse.Namespace], int], text: str) -> Any:  # noqa: ANN401
        added = actions.add_parser(name, help=text, description=text, parents=[common])
        added.add_argument("campaign", metavar="CAMPAIGN.toml", help="file of the campaign")
        added.set_defaults(call=call, words=sys.argv[1:])
        return added

    added = action("plan", _plan, "list the runs and what they will cost")
    added.add_argument("--all", action="store_true", help="print every run")
    added.add_argument("--commands", action="store_true", help="print one command for each run")
    added.add_argument("--ns-per-day", type=_ns_per_day, metavar="X", help="speed of one run")
    added.add_argument(
        "--calibrate",
        nargs="+",
        metavar="RUN",
        help="runs to measure speed and size on",
    )
    for name, resume, text in (
        ("submit", False, "submit the unfinished runs as one Slurm job array"),
        ("resume", True, "submit again what is unfinished and not in the queue"),
    ):
        added = action(name, _submit, text)
        added.set_defaults(resume=resume)
        added.add_argument("--dry-run", action="store_true", help="print the script, do nothing")
        added.add_argument(
            "--retry", action="store_true", help="also runs stopped for want of progress"
        )
    added = action("status", _campaign_status, "say where the runs stand; needs no scheduler")
    added.add_argument("--all", action="store_true", help="print every run")
    added = action("collect", _collect, "gather the results across replicas, and compare")
    added.add_argument("--no-report", action="store_true", help="write the tables alone")
    added = action("run", _campaign_run, "work through the runs on this computer, without Slurm")
    added.add_argument("--workers", type=_count, default=1, metavar="N", help="runs at once")
    added.add_argument("--only", nargs="+", metavar="NAME", help="runs, by the name of the folder")
    added.add_argument(
        "--retry", action="store_true", help="also runs stopped for want of progress"
    )
    added.add_argument("--quiet", action="store_true", help="no progress")


def _misuse(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return _EXIT_MISUSE


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folder of a run")
    parser.add_argument("--cores", type=_count, metavar="N", help="threads; all by default")
    other = parser.add_argument_group("trajectory of another program")
    other.add_argument("--topology", metavar="FILE", help="PDB, GRO, PSF, prmtop, mmCIF")
    other.add_argument("--trajectory", nargs="+", metavar="FILE", help="XTC, TRR, DCD, NetCDF")
    other.add_argument("--ligand", help="library name, SMILES or SD file")
    other.add_argument("--charge", type=int, help="charge state; that of the hydrogens by default")
    other.add_argument("--ligand-residue", metavar="NAME", help="where several fit, such as LIG401")
    other.add_argument("--frame-ps", type=float, metavar="X", help="time between frames")
    other.add_argument("--stride", type=int, default=1, metavar="K", help="read every K-th frame")
    other.add_argument("-o", "--out", metavar="DIR", help="folder of the results")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ligand", metavar="LIGAND", help="library name, SMILES or SD file")
    parser.add_argument("--receptor", default="7eu8", help="name, or a prepared receptor's folder")
    parser.add_argument("--protocol", default="vestibule")
    parser.add_argument("--charge", type=int, help="charge state; the most positive by default")
    parser.add_argument("--ph", type=_ph, default=7.4, help="for the populations of charge states")
    parser.add_argument(
        "--pose", type=int, default=1, metavar="N", help="start pose, see nmdasim poses"
    )
    parser.add_argument("--production-ns", type=float, default=0.05, metavar="X")
    parser.add_argument("--replica", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--platform", help="CPU, CUDA, OpenCL, HIP; default: fastest that works")
    parser.add_argument("-o", "--out", metavar="DIR", help="run folder; default: under runs/")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--extend", action="store_true", help="let --production-ns grow beyond what was recorded"
    )
    parser.add_argument(
        "--no-requeue", action="store_true", help="under Slurm: leave requeueing to others"
    )


class _Version(argparse.Action):
    """Print the version without importing anything before it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"nmdasim {version('nmdasim')}")
        parser.exit()


def _ph(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 14:
        raise argparse.ArgumentTypeError(f"{text} is not a pH: give a number from 0 to 14")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few: give 1 or more")
    return value


def _ns_per_day(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a speed: give ns/day above 0")
    return value


def _sentence(error: BaseException) -> str:
    if isinstance(error, NmdasimError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the machine ran out of memory; use a smaller system or a machine with more"
    place, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
    return f"the system refused{f' {place}' if place else ''}: {reason or error}"


def _known(value: float) -> float | None:
    """Turn not-a-number, which stands for unknown, into None."""
    return None if math.isnan(value) else value


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value
    """Turn paths and arrays to plain values; not-a-number becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
