import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nmdasim.compiled import kernel

MODULE = """
from nmdasim.compiled import kernel

@kernel
def thirds(n):
    total = 0.0
    for i in range(n):
        total += i / 3.0
    return total

print(thirds(10), len(thirds.stats.cache_hits), thirds.stats.cache_path)
"""


@kernel
def inverse(x):
    return 1.0 / x


@kernel
def busy(values, rounds):
    total = 0.0
    for _ in range(rounds):
        for value in values:
            total += np.sqrt(value + total % 1.0)
    return total


@pytest.fixture
def start(tmp_path):
    """Start a module of a package in a new process, with a cache folder of its own."""
    (tmp_path / "module.py").write_text(MODULE)

    def run():
        cache = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
        environment = {name: os.environ[name] for name in os.environ if name != "NUMBA_CACHE_DIR"}
        done = subprocess.run(
            [sys.executable, str(tmp_path / "module.py")],
            env=environment | cache,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return *done.stdout.split(), done.stderr

    return run


def test_division_by_zero_follows_numpy():
    assert inverse(0.0) == np.inf


def test_the_lock_is_released_while_a_kernel_runs():
    values = np.linspace(0.0, 1.0, 1000)
    busy(values, 1)
    worker = threading.Thread(target=busy, args=(values, 50_000))
    worker.start()
    ticks = 0
    while worker.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks > 20


def test_compiled_code_is_kept(start, tmp_path):
    assert start() == ("15.0", "0", str(tmp_path / "__pycache__"), "")
    assert start()[1] == "1"


# A file in the place of a folder stops even the superuser from writing there.


def test_a_package_that_is_read_only_keeps_it_in_the_users_cache(start, tmp_path):
    (tmp_path / "__pycache__").touch()
    _, hits, place, said = start()
    assert (hits, said) == ("0", "")
    assert place.startswith(str(tmp_path / "home"))
    assert start()[1] == "1"


def test_where_nothing_can_be_kept_it_says_so_and_works(start, tmp_path):
    (tmp_path / "__pycache__").touch()
    (tmp_path / "home").touch()
    value, hits, _, said = start()
    assert (value, hits) == ("15.0", "0")
    assert "set NUMBA_CACHE_DIR" in said
