"""What the tests of the preparation share: raw volumes of every width, and five small ones."""

from __future__ import annotations

import numpy as np
import pytest

from fastMRI.prepare import main
from tests.fastMRI.preparation.tiny_raw import (
    WIDTHS,
    arguments,
    knee,
    write_few,
    write_lists,
    write_raw,
)


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """One volume of every width; two volumes of one patient, two annotated volumes, and the lists'
    irregularities."""
    folder = tmp_path_factory.mktemp("knees")
    names = [f"file10000{index:02}" for index in range(len(WIDTHS))]
    for index, (name, width) in enumerate(zip(names, WIDTHS, strict=True)):
        path = folder / f"singlecoil_{'val' if index > 6 else 'train'}" / f"{name}.h5"
        patient = f"p{min(index, 7)}"  # the last two are one patient's
        write_raw(path, knee(width), patient, bytes if index % 2 else str)
    write_lists(
        folder,
        [*names, "file1000099"],
        "file1000000,0,Yes,,,,,artifact\n"
        "file1000001,1,No,90,173,35,10,Joint Effusion \n"
        "file1000001,1,No,90,173,35,10,Joint Effusion \n"
        "file1000001,1,No,90,-1,35,0,Ligament - ACL Low Grade sprain\n"
        "file1000003,0,No,1,2,3,4,Baker's thing\n"
        "file1000003,0,No,1,2,3,4,Meniscus Tear\n",
    )
    (folder / "singlecoil_test").mkdir()
    write_raw(folder / "singlecoil_test/file1000077.h5", knee(368, 1), mask=np.ones(368))
    return folder


@pytest.fixture(scope="session")
def prepared(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "fastmri"
    main(arguments(raw, out))
    return out


@pytest.fixture
def few(tmp_path):
    """Five small volumes of their own: a folder that a test may spoil."""
    return write_few(tmp_path / "raw")


@pytest.fixture(scope="session")
def few_prepared(tmp_path_factory):
    """-> raw folder, prepared folder of five volumes of one slice; not to be changed."""
    folder = tmp_path_factory.mktemp("few")
    main(arguments(write_few(folder / "raw"), folder / "out", "--average", "4"))
    return folder / "raw", folder / "out"


@pytest.fixture(scope="session")
def published(shared):
    """Folder of fastMRI+'s lists."""
    folder = shared / "data/fastmri_plus"
    if not folder.is_dir():
        pytest.skip(f"no fastMRI+ annotations at {folder}")
    return folder
