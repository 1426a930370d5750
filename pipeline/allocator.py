"""Keep freed memory for the next array, in worker processes.

Dask's nannies start workers with MALLOC_TRIM_THRESHOLD_, so that memory goes back to the system soon. The C library
then also asks the system for every array above 128 KiB anew, and gives it back at once: each page of each intermediate
result is mapped, zeroed and unmapped again, and preparing and fitting a spectrum take almost twice as long. Dask's
arrays are large and few; those here are a few hundred KiB, thousands a second.
"""

import ctypes
from functools import cache
from typing import Final

#: Parameters of glibc's `mallopt` (malloc.h), and their values: arrays up to 32 MiB, the most that it takes, come from
#: memory that is kept, up to 128 MiB of which may be unused.
_TRIM_THRESHOLD: Final = (-1, 128 * 1024**2)
_MMAP_THRESHOLD: Final = (-3, 32 * 1024**2)


@cache
def keep_freed_memory() -> None:
    """Tell the C library, if it can be told; once in a process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        for parameter, value in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(parameter, value)
