"""Files of named values, JSON and YAML, read by their schema: types as annotations say them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from i2m2.reading.paths import damaged, require_file
from i2m2.reading.yaml12 import load_yaml

Record = TypeVar("Record")


def read_record(path: Path, kind: type[Record], remedy: str) -> Record:
    """What a JSON or YAML file holds. DataError names the file, the field, what was expected there
    and what to do; DamagedError if the file is there."""
    try:
        text = require_file(path, remedy).read_text(encoding="utf-8")
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=kind)
        return msgspec.convert(load_yaml(text), kind)
    except (ValueError, RecursionError) as error:
        raise damaged(path, fault(error), remedy) from error


def as_record(path: Path, content: object, kind: type[Record], remedy: str) -> Record:
    """`content`, which was read of a file, by its schema; errors as of `read_record`."""
    try:
        return msgspec.convert(content, kind)
    except ValueError as error:
        raise damaged(path, fault(error), remedy) from error


def fault(error: Exception) -> str:
    """`data.variant: expected str, got int`; other errors as they are."""
    text = str(error).replace("Expected", "expected")
    found = re.fullmatch(r"(.*) - at `(?:key in )?\$\.?(.*)`", text)
    text = f"{found[2]}: {found[1]}" if found and found[2] else text
    return text.replace("`", "")
