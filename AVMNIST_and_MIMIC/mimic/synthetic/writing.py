"""Writing the tables of the synthetic hospital: CSV, quoted and packed as MIMIC-III is."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from AVMNIST_and_MIMIC.mimic.synthetic.charts import chart_events
from AVMNIST_and_MIMIC.mimic.synthetic.events import Block, output_events
from AVMNIST_and_MIMIC.mimic.synthetic.hospital import Hospital, make_hospital
from AVMNIST_and_MIMIC.mimic.synthetic.labs import add_treatment, lab_events
from AVMNIST_and_MIMIC.mimic.synthetic.records import small_tables
from AVMNIST_and_MIMIC.mimic.synthetic.tables import TABLES

BLOCK_ROWS = 400_000  # chart rows made at once, which bounds memory
# Chart rows of a patient where their number is not given, about; four in five of needed items.
USUAL_ROWS = 180
# Given a number of chart rows, about this share is of items that the extraction needs.
NEEDED = 1 / 7
GZIP_LEVEL = 4


def write_tables(folder: Path, patients: int, seed: int, chart_rows: int | None) -> None:
    """Every table as .csv.gz; each has random numbers of its own."""
    hospital = make_hospital(patients, np.random.default_rng((seed, 0)))
    add_treatment(hospital.admissions, hospital.latents, np.random.default_rng((seed, 1)))
    for table, frame in small_tables(hospital, np.random.default_rng((seed, 2))).items():
        write_table(folder, table, [frame])
    labs = (lab_events(block) for block in _blocks(hospital, patients, USUAL_ROWS, (seed, 3)))
    write_table(folder, "LABEVENTS", labs)
    outputs = (output_events(block) for block in _blocks(hospital, patients, USUAL_ROWS, (seed, 4)))
    write_table(folder, "OUTPUTEVENTS", outputs)
    write_table(folder, "CHARTEVENTS", _charts(hospital, patients, (seed, 5), chart_rows))


def _blocks(hospital: Hospital, patients: int, rows: int, seed: tuple[int, int]) -> Iterator[Block]:
    """The hospital in runs of patients that have about BLOCK_ROWS rows together.

    `rows`: of each patient.
    """
    admissions, stays = hospital.admissions, hospital.stays
    ends = _ends(patients, rows)
    for block, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        a0, a1 = np.searchsorted(admissions["patient"], [first, last])
        s0, s1 = np.searchsorted(stays["admission"], [a0, a1])
        part = {name: values[a0:a1] for name, values in admissions.items()}
        part["subject_id"] = hospital.patients["subject_id"][part["patient"]]
        stay = {name: values[s0:s1] for name, values in stays.items()}
        stay["admission"] = stay["admission"] - a0
        latents = {name: values[a0:a1] for name, values in hospital.latents.items()}
        yield Block(part, latents, stay, np.random.default_rng((*seed, block)))


def _ends(patients: int, rows: int) -> list[int]:
    """Patient at which each block ends."""
    count = -(-patients * rows // BLOCK_ROWS)
    return np.linspace(0, patients, count + 1).round().astype(int)[1:].tolist()


def _charts(
    hospital: Hospital, patients: int, seed: tuple[int, int], total: int | None
) -> Iterator[pd.DataFrame]:
    rows = USUAL_ROWS if total is None else -(-total // patients)
    # More rows per patient mean closer charting of what the series use, too, as on real wards.
    density = max(1.0, NEEDED * rows / (0.8 * USUAL_ROWS))
    ends, written = _ends(patients, rows), 0
    blocks = _blocks(hospital, patients, rows, seed)
    blocks = tqdm(blocks, "CHARTEVENTS", len(ends), leave=False, disable=None)
    for end, block in zip(ends, blocks, strict=True):
        due = None if total is None else total * end // patients - written
        frame = chart_events(block, density, due)
        written += len(frame)
        yield frame


def write_table(folder: Path, table: str, frames: Iterable[pd.DataFrame]) -> None:
    """Write the frames one after the other to <table>.csv.gz.

    Columns, order, quotes and number format are MIMIC-III's. Columns that a frame lacks stay empty;
    ROW_ID counts.
    """
    columns, part, rows = TABLES[table], folder / "part.csv", 0
    quoted = ", ".join(name for name, kind in columns.items() if kind in "tv")
    target = str(part).replace("'", "''")
    options = f"HEADER false, FORCE_QUOTE ({quoted})"
    with (
        duckdb.connect(config={"threads": 1}) as database,
        open(folder / f"{table}.csv.gz", "wb") as file,
        # No time, no name: the bytes depend on the content alone.
        gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed,
    ):
        packed.write((",".join(f'"{name}"' for name in columns) + "\n").encode())
        for frame in frames:
            row_ids = np.arange(rows + 1, rows + len(frame) + 1)
            database.register("frame", frame.assign(ROW_ID=row_ids))
            selected = ", ".join(_expression(name, kind, frame) for name, kind in columns.items())
            database.execute(f"COPY (SELECT {selected} FROM frame) TO '{target}' ({options})")
            with open(part, "rb") as text:
                shutil.copyfileobj(text, packed, 1 << 20)
            rows += len(frame)
    part.unlink(missing_ok=True)


def _expression(name: str, kind: str, frame: pd.DataFrame) -> str:
    """SQL of one column; its kind is as in `tables`."""
    if name not in frame and name != "ROW_ID":
        return f"NULL AS {name}"
    if kind == "v":  # the text if there is one, else the number as text
        return f"coalesce(CAST({name} AS VARCHAR), format('{{:g}}', {name}NUM)) AS {name}"
    if kind == "n":  # the release writes .5, not 0.5
        number = f"format('{{:.10g}}', {name})"
        below_one = f"{name} > 0 AND {name} < 1"
        return f"CASE WHEN {below_one} THEN ltrim({number}, '0') ELSE {number} END AS {name}"
    sql_type = {"t": "VARCHAR", "d": "TIMESTAMP_S", "i": "BIGINT"}[kind]
    return f"CAST({name} AS {sql_type}) AS {name}"
