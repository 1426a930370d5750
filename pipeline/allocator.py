"""Keep freed memory for the next array, in worker processes.

Dask's nannies start workers with MALLOC_TRIM_THRESHOLD_, so that memory goes back to the system soon. The C library
then also asks the system for every array above 128 KiB anew, and gives it back at once: each page of each intermediate
result is mapped, zeroed and unmapped again, and preparing and fitting a spectrum take almost twice as long. Dask's
arrays are large and few; those here are a few hundred KiB, thousands a second.
"""

import ctypes
import gc
from functools import cache
from typing import Final

#: Parameters of glibc's `mallopt` (malloc.h), and their values: arrays up to 8 MiB come from memory that is kept, of
#: which up to 32 MiB at its end may be unused. As fast as with the most that it takes, 32 MiB and any, and half of a
#: chunk's memory lies in larger arrays, which go back to the system.
_TRIM_THRESHOLD: Final = (-1, 32 * 1024**2)
_MMAP_THRESHOLD: Final = (-3, 8 * 1024**2)


@cache
def keep_freed_memory() -> None:
    """Tell the C library, if it can be told; once in a process.

    Python's collector is told to leave alone what imports have made: its looks would copy the pages that forked workers
    share.
    """
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        for parameter, value in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(parameter, value)
