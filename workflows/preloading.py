"""PyTorch's library is loaded in a way that leaves Python awake, so that Ctrl-C is answered meanwhile.

Python's own import holds its lock while the dynamic linker works: a third of a second in which no thread can answer.
"""

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def preload_torch() -> None:
    """Load the library of a CPU build of PyTorch; whatever else there is, the import loads as ever."""
    found = find_spec("torch")
    if sys.platform != "linux" or found is None or not found.submodule_search_locations:
        return
    folder = Path(found.submodule_search_locations[0]) / "lib"
    if (folder / "libtorch_cpu.so").is_file() and not (folder / "libtorch_cuda.so").exists():
        ctypes.CDLL(None).dlopen(str(folder / "libtorch_cpu.so").encode(), os.RTLD_NOW)
