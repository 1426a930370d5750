"""In how many bits the network's largest layers are run: a name for settings, which do without torch."""

from typing import Literal

Precision = Literal["float32", "bfloat16", "int8"]
