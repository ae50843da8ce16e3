"""The parts of an extraction put together into the arrays of its folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from i2m2.errors import DataError
from i2m2.files import write_json, write_text
from i2m2.reading.arrays import ArrayFile, open_array
from VQA_and_NLVR2.features.plan import AGAIN, hash_of, read_facts
from VQA_and_NLVR2.features.shards import Work


def put_together(work: Work, folder: Path, files: Mapping[int, Path], seconds: float) -> None:
    """The arrays, then features.json that says so; the parts are then removed. If features.json
    says which parts were `todo`, they replace those of before.

    DataError names images that cannot be used, unless those are to be skipped; all of them stand in
    unreadable.txt.
    """
    plan, shapes = work.plan, _shapes(work)
    whole = read_facts(folder)["todo"] is None
    temporary = {name: folder / f".tmp.{name}" for name in shapes}
    arrays = _new_arrays(work, shapes, temporary) if whole else _copied_arrays(folder, temporary)
    known = _read_complaints(folder) | _fill(arrays, work, files)
    broken = [plan.images[row] for row in np.flatnonzero(~arrays["readable.npy"])]
    complaints = {name: known.get(name, "could not be used") for name in broken}
    lines = [f"{name}: {text}\n" for name, text in complaints.items()]
    write_text(folder / "unreadable.txt", "".join(lines))
    first = lines[0].rstrip("\n") if lines else ""
    affected = int((~arrays["readable.npy"][plan.pairs[:, 0]]).sum())
    if complaints and not work.settings.skip_missing:
        raise DataError(
            f"{len(complaints):,} of {len(plan.images):,} images cannot be used, "
            f"which {affected:,} pairs need; first: {first} "
            f"(all: {folder / 'unreadable.txt'}); fix them and give the same command, "
            "or set features.skip_missing"
        )
    for name, array in arrays.items():
        array.flush()
        temporary[name].replace(folder / name)
    counts = {"images": len(plan.images), "texts": len(plan.texts), "pairs": len(plan.pairs)}
    size = sum((folder / name).stat().st_size for name in shapes)
    left_out = {"images": len(complaints), "of": len(plan.images), "pairs": affected}
    made = {"complete": True, "todo": None, "shapes": shapes, "bytes": size}
    known_by = {"bytes": np.load(folder / "pictures.npy"), "readable": arrays["readable.npy"]}
    made |= {"left_out": left_out | {"first": first}, "pictures": hash_of("", known_by), **counts}
    write_json(folder / "features.json", read_facts(folder) | made)
    shutil.rmtree(folder / "parts", ignore_errors=True)
    without = f"; left out: {len(complaints):,} images, {affected:,} pairs" if complaints else ""
    listed = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    about = f"{listed}, {size / 1e6:,.1f} MB, {seconds:.0f} s{without}"
    print(f"{folder}: complete: {about}", flush=True)


def _shapes(work: Work) -> dict[str, tuple[int, ...]]:
    """Of every file of features."""
    plan, widths, views = work.plan, work.frozen.backbone.widths, work.settings.views
    shapes = {
        "image.npy": (len(plan.images), widths["image"]),
        "text.npy": (len(plan.texts), widths["text"]),
        "fused.npy": (len(plan.pairs), widths["fused"]),
        "readable.npy": (len(plan.images),),
    }
    if views > 1:
        shapes["image_views.npy"] = (plan.varied_images, views - 1, widths["image"])
        shapes["fused_views.npy"] = (plan.varied_pairs, views - 1, widths["fused"])
    return shapes


def _new_arrays(
    work: Work, shapes: Mapping[str, tuple[int, ...]], files: Mapping[str, Path]
) -> dict[str, np.ndarray]:
    kinds = dict.fromkeys(shapes, work.settings.dtype) | {"readable.npy": bool}
    return {
        name: open_memmap(files[name], "w+", kinds[name], shape) for name, shape in shapes.items()
    }


def _copied_arrays(folder: Path, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    for name in files:
        open_array(folder / name, AGAIN)  # DataError for one that is missing or cut short
    return {
        name: np.load(shutil.copy(folder / name, file), mmap_mode="r+")
        for name, file in files.items()
    }


def _read_complaints(folder: Path) -> dict[str, str]:
    """{image: what is wrong} as far as unreadable.txt, a report that anyone may edit, says it."""
    path = folder / "unreadable.txt"
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def _fill(
    arrays: Mapping[str, np.ndarray], work: Work, files: Mapping[int, Path]
) -> dict[str, str]:
    """Every part to its rows -> {image: what is wrong}. A part with any such is removed and made
    again, unless they are skipped."""
    plan, complaints = work.plan, {}
    for k, file in files.items():
        part = _read_part(file)
        if len(part["complaints"]) and not work.settings.skip_missing:
            file.unlink()
        complaints |= dict(line.split(": ", 1) for line in part["complaints"].tolist())
        rows, pairs = work.rows(k), work.pairs(k)
        texts = np.unique(plan.pairs[pairs, 1])
        texts = texts[work.first[texts] == k]
        arrays["image.npy"][rows] = part["image_0"]
        arrays["text.npy"][texts] = part["text"]
        arrays["fused.npy"][pairs] = part["fused_0"]
        arrays["readable.npy"][rows] = part["readable"]
        rows, pairs = rows[rows < plan.varied_images], pairs[pairs < plan.varied_pairs]
        for view in range(1, work.settings.views):
            arrays["image_views.npy"][rows, view - 1] = part[f"image_{view}"]
            arrays["fused_views.npy"][pairs, view - 1] = part[f"fused_{view}"]
    return complaints


def _read_part(file: Path) -> dict[str, np.ndarray]:
    remedy = "it is removed, and the same command makes it again"
    try:
        return dict(ArrayFile(file, remedy))
    except DataError:
        file.unlink(missing_ok=True)
        raise
