"""The stations of the main job on the receptor that ships, each computed once."""

from pathlib import Path

import pytest

DEPOSITED = Path(__file__).parents[2] / "shared" / "structures"


@pytest.fixture(scope="session")
def receptor():
    from nmdasim.receptor import load_receptor

    return load_receptor("7eu8")


@pytest.fixture(scope="session")
def ketamine():
    from nmdasim.ligand import load_ligand, state_of

    return state_of(load_ligand("S-ketamine"))


@pytest.fixture(scope="session")
def pose(receptor, ketamine):
    from nmdasim.pose import place_ligand

    return place_ligand(receptor, ketamine)


@pytest.fixture(scope="session")
def system(pose):
    from nmdasim.system import build_system

    return build_system(pose, seed=1)


@pytest.fixture(scope="session")
def deposited_7eu8():
    path = DEPOSITED / "7eu8.cif"
    if not path.is_file():
        pytest.skip(f"the deposited entry 7EU8 is not beside the checkout ({path})")
    return path


def pytest_collection_modifyitems(items):
    # In the same process, OpenMM has crashed in tests that followed these; the cause is not found.
    items.sort(key=lambda item: item.path.name == "test_exactly_once.py")
