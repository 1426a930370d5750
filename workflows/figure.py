"""Stub; to be replaced."""
from pathlib import Path


def draw_maps(store: Path, path: Path) -> None:
    """Draw."""
    path.write_bytes(b"")
