"""What the tests of the generator share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastMRI.make_synthetic import make_volumes
from tests.fastMRI.synthetic.tiny_plans import SLICES, VOLUMES


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Raw volumes of seven widths; not to be changed."""
    out = tmp_path_factory.mktemp("knees") / "raw"
    make_volumes(out, VOLUMES, slices=SLICES, workers=1)
    return out
