"""Files of pictures, found by their names without the ending: what they hold is told by content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from i2m2.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def by_name(files: Iterable[Path]) -> dict[str, list[Path]]:
    """{name without its ending: the pictures of that name}, whatever the case of the ending."""
    found: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in ENDINGS:
            found.setdefault(file.stem, []).append(file)
    return found


def one_of(found: Sequence[Path], folders: Sequence[Path], ending: str) -> Path:
    """Of pictures of one name that in the first of these `folders`, where they are published, and
    there that with the published ending. DataError names two between which that does not decide."""
    for folder in folders:
        if here := [path for path in found if path.parent == folder]:
            found = [path for path in here if path.suffix == ending] or here
            break
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1]}: two pictures of one name, and neither is "
            f"{folders[0] / found[0].stem}{ending}, where it is published; leave one of them there"
        )
    return found[0]
