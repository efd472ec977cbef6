"""The one place where numba meets the house: a typed decorator for compiled loops.

Room: models. Called by the index builders and the query kernels. Compiled code is cached on disk beside the
sources (or in NUMBA_CACHE_DIR), so that `models.warm()` at installation leaves nothing to compile for a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled_sum(function: Function) -> Function:
    """As `compiled`, and sums may be taken in any order, which lets them run eight at a time."""
    return cast(Function, numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function))


def compiled(function: Function) -> Function:
    """Compile a loop over arrays with numba: cached on disk, without the interpreter lock."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))
