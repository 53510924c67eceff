"""A real Slurm of our own on the loopback: one controller, two nodes, fake GPUs.

Everything lives in one new folder: keys, sockets, settings, logs. Nothing of the system's own
Slurm or MUNGE is read or written, ports are free ones, and leaving the ``with`` ends every process
that carries this cluster's settings, the jobs' own included.

Also a program, to try things by hand: ``python slurm_cluster.py`` starts a cluster, says how to
use it, and stops it at Ctrl-C.
"""

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NEEDED = "NMDASIM_NEED_SLURM"
"""Variable of the environment that makes a missing Slurm a failure instead of a skip."""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("near", "far")
GRACE_S = 6
REQUEUE_S = 5
#: A job in one of these states will not run again.
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}

# cred_expire is also how long a requeued job is held before it starts again: 120 s by default, 5 s
# at least.
SETTINGS = """\
ClusterName=nmdasim
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_s}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
PlugStackConfig={folder}/plugstack.conf
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
MinJobAge=3600
InactiveLimit=0
SlurmdTimeout=20
ReturnToService=2
GresTypes=gpu
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 Gres=gpu:h100:1
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 Gres=gpu:h100:1
PartitionName=preempt Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE \
GraceTime={grace_s}
PartitionName=high Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


class SlurmError(RuntimeError):
    """The cluster did not do what a test needs; the message ends with its logs."""


def missing() -> str:
    """Say why there can be no cluster here; an empty string where there can."""
    absent = [name for name in PROGRAMS if _find(name) is None]
    if absent:
        return f"Slurm is not installed (no {', '.join(absent)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a private Slurm is started as root here, and this is another user"
    return ""


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the controller says of a job, or of one task of an array."""

    id: str
    """``4711``, or ``4711_3`` for a task of an array."""
    state: str
    """``PENDING``, ``RUNNING``, ``COMPLETED`` and so on; empty once forgotten."""
    reason: str
    """Why it waits or failed."""
    restarts: int
    """Times it was started again."""
    node: str
    """Where it runs; empty while it waits."""
    exit_code: str
    """``0:0``: exit status and signal."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster."""

    folder: Path
    """Its settings, logs and state."""
    environment: dict[str, str]
    """Variables with which Slurm's commands reach this cluster and no other."""
    daemons: dict[str, subprocess.Popen]
    """Its processes by name: ``munged``, ``slurmctld`` and one for each node."""

    def command(self, *words: object, check: bool = True, **variables: str) -> str:
        """Run a program in the cluster's environment and return what it prints."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment | variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise SlurmError(f"{words}: {done.stderr or done.stdout}\n{self.diagnosis()}")
        return done.stdout.strip()

    def submit(self, *words: object, **variables: str) -> str:
        """Submit a batch job with options and script as given; return its number."""
        return self.command("sbatch", "--parsable", *words, **variables)

    def job(self, job_id: str) -> Job:
        """Ask the controller about one job."""
        line = self.command("scontrol", "show", "job", "--oneliner", job_id, check=False)
        fields = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
        return Job(
            id=job_id,
            state=fields.get("JobState", ""),
            reason=fields.get("Reason", ""),
            restarts=int(fields.get("Restarts", 0)),
            node=fields.get("NodeList", "").replace("(null)", ""),
            exit_code=fields.get("ExitCode", ""),
        )

    def wait_for(self, met: Callable[[], object], *, what: str, at_most_s: float = 60.0) -> None:
        """Look again and again until `met` gives something true.

        Raises
        ------
        SlurmError
            If it does not in time.
        """
        end = time.monotonic() + at_most_s
        while not met():
            if time.monotonic() > end:
                raise SlurmError(f"not within {at_most_s:g} s: {what}\n{self.diagnosis()}")
            time.sleep(0.1)

    def wait_for_state(self, job_id: str, *states: str, at_most_s: float = 60.0) -> Job:
        """Wait until a job is in one of these states; one that ended otherwise is an error."""

        def met() -> bool:
            state = self.job(job_id).state
            if state in ENDED - set(states):
                raise SlurmError(f"job {job_id} is {state}, not {states}\n{self.diagnosis()}")
            return state in states

        self.wait_for(met, what=f"job {job_id} {' or '.join(states)}", at_most_s=at_most_s)
        return self.job(job_id)

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self.daemons[name] = _start(self, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """Let a node die as by a power cut: its daemon, and every process of its jobs."""
        node = self.daemons.pop(name)
        node.kill()
        node.wait()
        # A job says in its environment where it runs; the process that watches over it only
        # in its name.
        jobs = {self.job(i).id for i in self.job_ids() if self.job(i).node == name}
        for pid, variables in cluster_processes(self.folder / "slurm.conf"):
            on_node = variables.get("SLURMD_NODENAME") == name
            if on_node or any(_is_step(pid, job) for job in jobs):
                _kill(pid)

    def job_ids(self) -> list[str]:
        """Name every job that the controller remembers, ended ones too."""
        return self.command("squeue", "--all", "--states=all", "--noheader", "-o", "%A").split()

    def diagnosis(self) -> str:
        """Collect what helps to find out why something did not happen."""
        parts = []
        for words in (["squeue", "--all", "--states=all", "-r"], ["sinfo", "-N", "-l"]):
            done = subprocess.run(
                words, env=self.environment, capture_output=True, text=True, timeout=30, check=False
            )
            parts.append(f"--- {' '.join(words)}\n{done.stdout}{done.stderr}")
        for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")]):
            lines = path.read_text(errors="replace").splitlines()[-25:]
            parts.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)


def cluster_processes(settings: Path) -> list[tuple[int, dict[str, str]]]:
    """Find the living processes that carry a cluster's settings in their environment.

    Parameters
    ----------
    settings : Path
        The cluster's ``slurm.conf``.

    Returns
    -------
    list of (int, dict)
        Process numbers and variables: daemons, steps, and whatever the jobs started.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            content = (path / "environ").read_bytes().decode(errors="replace")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            variables = dict(entry.partition("=")[::2] for entry in content.split("\0"))
            if variables.get("SLURM_CONF") == str(settings) and state not in "ZX":
                found.append((int(path.name), variables))
    return found


def _is_step(pid: int, job: str) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        return words.startswith(f"slurmstepd: [{job}.")
    return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def slurm_cluster() -> Iterator[Cluster]:
    """Start a cluster, and stop all of it however the ``with`` is left.

    Yields
    ------
    Cluster

    Raises
    ------
    SlurmError
        If a daemon does not come up.
    """
    # A socket's path must be short, which pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="nmdasim-slurm-"))
    cluster = Cluster(folder=folder, environment=_environment(folder), daemons={})
    try:
        _write_settings(folder)
        _start_daemons(cluster)
        yield cluster
    finally:
        _stop(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Take the variables of this process, less those of a Slurm job that it may belong to."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM", "SBATCH", "SQUEUE", "SINFO", "SCANCEL"))
    }
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return inherited | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}


def _write_settings(folder: Path) -> None:
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "state").mkdir()
    (folder / "plugstack.conf").touch()
    (folder / "gres.conf").write_text(
        "".join(
            f"NodeName={node} Name=gpu Type=h100 File={device}\n"
            for node, device in zip(NODES, ("/dev/null", "/dev/zero"), strict=True)
        )
    )
    (folder / "slurm.conf").write_text(
        SETTINGS.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            ports=_free_ports(3),
            nodes=NODES,
            grace_s=GRACE_S,
            requeue_s=REQUEUE_S,
        )
    )


def _free_ports(n_ports: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n_ports)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start_daemons(cluster: Cluster) -> None:
    folder = cluster.folder
    cluster.daemons["munged"] = _start(
        cluster,
        "munged",
        "--foreground",
        "--force",
        f"--socket={folder}/munge.socket",
        f"--key-file={folder}/munge.key",
        f"--log-file={folder}/munged.log",
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
    )
    cluster.wait_for((folder / "munge.socket").exists, what="a socket of munged", at_most_s=20)
    cluster.daemons["slurmctld"] = _start(cluster, "slurmctld", "-D", "-c")
    for node in NODES:
        cluster.start_node(node)
    cluster.wait_for(
        lambda: (
            cluster.command("sinfo", "-h", "-N", "-p", "high", "-o", "%T", check=False).split()
            == ["idle"] * len(NODES)
        ),
        what="idle nodes",
        at_most_s=60,
    )


def _start(cluster: Cluster, name: str, *words: str) -> subprocess.Popen:
    """Start a daemon that does not outlive this process, even if this one is killed."""
    program = _find(name)
    assert program is not None, f"{name} has vanished"
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with (cluster.folder / f"{name}.out").open("a") as output:
        return subprocess.Popen(
            [*guard, program, *words],
            env=cluster.environment,
            cwd=cluster.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _stop(cluster: Cluster) -> None:
    """End every process of the cluster; look again until there is none."""
    for name in ("slurmctld", *NODES, "munged"):
        if daemon := cluster.daemons.get(name):
            daemon.kill()
            daemon.wait()
    settings = cluster.folder / "slurm.conf"
    end = time.monotonic() + 20
    while left := cluster_processes(settings):
        if time.monotonic() > end:
            raise SlurmError(f"processes that do not die: {left}")
        for pid, _ in left:
            _kill(pid)
        time.sleep(0.05)


if __name__ == "__main__":
    if why := missing():
        sys.exit(why)
    with slurm_cluster() as running:
        print(f"export SLURM_CONF={running.folder}/slurm.conf", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
