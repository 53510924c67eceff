"""Loops over atoms as machine code: the one place that knows the compiler."""

import warnings
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable)


def kernel(function: _Function) -> _Function:
    """Compile a function of numbers and arrays at its first call, and keep the result on disk.

    The compiled function releases the interpreter's lock, so that threads run it side by
    side. Divisions follow numpy (1/0 is inf); sums are not reordered, so results do not
    depend on the number of threads.

    Parameters
    ----------
    function : callable
        Written in what numba compiles. Compiled again when its own file changes, but not
        when only the file of another kernel that it calls does: keep kernels that call each
        other in one file.

    Returns
    -------
    compiled : callable

    Warns
    -----
    RuntimeWarning
        If neither the package's folder nor the user's cache can be written. Each process
        compiles anew then; `NUMBA_CACHE_DIR` names a folder that helps.
    """
    try:
        return cast(_Function, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError as reason:
        # An installation and a home that are both read-only, as in containers.
        warnings.warn(
            f"compiled code cannot be kept and is made anew by each process ({reason}): "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        return cast(_Function, njit(nogil=True, error_model="numpy")(function))
