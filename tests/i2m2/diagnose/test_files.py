"""A user's files become blocks, and a mistake in them one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import duckdb
import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from i2m2.diagnose.__main__ import main
from i2m2.diagnose.modalities import Source, blocks_of
from i2m2.diagnose.tables import column, read_table
from i2m2.errors import DataError, SettingsError
from i2m2.estimator.given.blocks import read_blocks

N = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """stays.csv, .parquet and .npz of the same rows, and files beside them."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"stay": [f"s{k}" for k in range(N)], "died": np.arange(N) % 2})
    table["age"] = rng.normal(60, 10, N)
    table["icu"] = rng.choice(["medical", "surgical"], N)
    table["vital_a"], table["vital_b"] = rng.normal(size=(2, N))
    table["one"], table["ward"] = 1, np.arange(N) % 2
    table["half"] = np.where(np.arange(N) % 2, 1.0, np.nan)
    table["comma"] = [f"0,{k}" for k in range(N)]
    table["size"] = np.where(np.arange(N) == 3, np.inf, 1.0)
    table.to_csv(folder / "stays.csv", index=False)
    frame = table  # noqa: F841, which the query names
    where = f"'{folder / 'stays.parquet'}'"
    duckdb.sql(f"COPY (SELECT * FROM frame) TO {where} (FORMAT parquet)")
    as_arrays = {name: table[name].to_numpy() for name in table}
    as_arrays |= {name: as_arrays[name].astype(str) for name in ("stay", "icu", "comma")}
    np.savez(folder / "stays.npz", **as_arrays)
    np.savez(folder / "vitals.npz", series=rng.normal(size=(N, 5, 2)))
    np.savez(folder / "kinds.npz", series=np.ones((N, 5, 2)), text=np.ones((N, 3)))
    np.savez(folder / "pickled.npz", series=np.array([[1], [1, 2]], dtype=object))
    table.sample(frac=1, random_state=0)[1:][["stay", "vital_a"]].to_csv(folder / "labs.csv")
    write_examples(folder, table)
    (folder / "cut.npz").write_bytes((folder / "vitals.npz").read_bytes()[:300])
    (folder / "junk.parquet").write_bytes(b"PAR1 junk")
    table[:3].to_csv(folder / "semicolons.csv", sep=";")
    table[:3].assign(stay=[None, "s1", "s2"]).to_csv(folder / "nobody.csv")
    (folder / "table.xlsx").write_bytes(bytes(range(256)))
    (folder / "junk.csv").write_bytes(bytes(range(256)))
    return folder


def write_examples(folder, table):
    for name in ("notes", "scans", "series"):
        (folder / name).mkdir()
    for k, stay in enumerate(table["stay"]):
        (folder / f"notes/{stay}.txt").write_text(f"patient {k} is well")
        Image.fromarray(np.full((4, 6), k, dtype=np.uint8)).save(folder / f"scans/{stay}.png")
        np.save(folder / f"series/{stay}.npy", np.full((1 + k % 3, 2), k))
    (folder / "notes/s7.txt").unlink()


def blocks(folder, *words, table="stays.csv", named=("died", "stay")):
    given = read_table(folder / table)
    ids = column(given, "stay", "--id")
    return blocks_of(Source(given, folder, list(named), "stay", ids), words)


@pytest.mark.parametrize("table", ["stays.csv", "stays.parquet", "stays.npz"])
def test_all_three_formats_give_the_same_columns(folder, table):
    expected = pd.read_csv(folder / "stays.csv")
    found, kinds = blocks(folder, "a=age,icu", "v=vital_*", "w=ward:table", table=table)
    assert found["a"].shape == found["v"].shape == (N, 2)
    assert np.allclose(np.asarray(found["a"])[:, 0].astype(float), expected["age"])
    assert list(np.asarray(found["a"])[:, 1]) == list(expected["icu"])
    assert np.allclose(found["v"], expected[["vital_a", "vital_b"]])
    assert list(found["w"]) == list(expected["ward"]) and kinds == {"w": "table"}


def test_an_empty_text_of_an_npz_is_missing_as_in_a_csv(tmp_path):
    words = np.array(["a b", "", "c"])
    np.savez(tmp_path / "t.npz", words=words)
    pd.DataFrame({"words": words}).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.npz", "t.csv"):
        found = read_table(tmp_path / name)["words"]
        assert list(pd.isna(found)) == [False, True, False]


def test_a_pattern_leaves_out_what_is_no_input(folder):
    found, _ = blocks(folder, "all=*")
    assert list(found["all"]) == [
        name for name in read_table(folder / "stays.csv") if name not in ("died", "stay")
    ]


def test_columns_are_as_many_as_they_are(folder):
    found, _ = blocks(folder, f"all={','.join(['age'] * 500)},icu")  # longer than a file's name
    assert list(found["all"]) == ["age", "icu"]


def test_a_file_per_example_belongs_to_the_row_of_its_name(folder):
    found, _ = blocks(folder, "n=notes/*.txt", "p=scans/*.png", "s=series/*.npy")
    assert found["n"][10] == "patient 10 is well" and found["n"][7] is None
    assert all(np.array_equal(scan, np.full((4, 6), k)) for k, scan in enumerate(found["p"]))
    assert [one.shape for one in found["s"][:3]] == [(1, 2), (2, 2), (3, 2)]
    assert all((one == k).all() for k, one in enumerate(found["s"]))


def test_a_series_file_without_rows_is_absent(tmp_path):
    table = pd.DataFrame({"stay": ["s0", "s1"]})
    source = Source(table, tmp_path, ["stay"], "stay", table["stay"].to_numpy())
    (tmp_path / "s0.csv").write_text("time,pulse\n")
    (tmp_path / "s1.csv").write_text("time,pulse\n1700000001,80\n1700000002,90\n")
    block = read_blocks(blocks_of(source, ["s=s*.csv"])[0])["s"]
    assert block.kind == "series" and block.present.tolist() == [False, True]
    assert block.values[1].tolist() == [[1700000001, 80], [1700000002, 90]]


def test_grey_files_beside_coloured_ones_are_of_one_size(tmp_path):
    table = pd.DataFrame({"stay": ["s0", "s1"]})
    source = Source(table, tmp_path, ["stay"], "stay", table["stay"].to_numpy())
    Image.new("L", (6, 5), 9).save(tmp_path / "s0.png")
    Image.new("RGB", (6, 5), (9, 9, 9)).save(tmp_path / "s1.png")
    block = read_blocks(blocks_of(source, ["p=*.png"])[0])["p"]
    np.testing.assert_array_equal(block.values, np.full((2, 3, 5, 6), 9))
    Image.new("RGB", (8, 5)).save(tmp_path / "s1.png")
    with pytest.raises(DataError, match="--modality p: pictures of 6 x 5 and 8 x 5; give one size"):
        blocks_of(source, ["p=*.png"])


@pytest.fixture
def of_ids(tmp_path):
    """A table of the ids s0 and s1 in a folder without any other file."""
    table = pd.DataFrame({"stay": ["s0", "s1"]})
    return Source(table, tmp_path, ["stay"], "stay", table["stay"].to_numpy())


def test_series_files_without_names_of_columns_are_refused(of_ids):
    for name, header in (("s0", "0,0.7"), ("s1", "0,-0.5")):
        (of_ids.folder / f"{name}.csv").write_text(f"{header}\n1,2\n")
    with pytest.raises(DataError, match="the first line of \\S*s0.csv holds numbers, as of others"):
        blocks_of(of_ids, ["s=s*.csv"])
    for name in ("s0", "s1"):  # a channel per frequency
        (of_ids.folder / f"{name}.csv").write_text("0.5,0.7\n1,2\n")
    assert list(blocks_of(of_ids, ["s=s*.csv"])[0]["s"][0].columns) == ["0.5", "0.7"]


def test_names_with_spaces_around_them_are_quoted(tmp_path):
    (tmp_path / "t.csv").write_text("y, x1,a b\n0,1,2\n")
    with pytest.raises(DataError, match="there are y, ' x1', a b$"):
        column(read_table(tmp_path / "t.csv"), "x1", "--target")


def test_two_files_of_one_example_are_refused_and_named(of_ids):
    for name in ("a/s0.txt", "a/s1.txt", "b/s1.txt"):
        (of_ids.folder / name).parent.mkdir(exist_ok=True)
        (of_ids.folder / name).write_text("a note")
    with pytest.raises(DataError, match=r"n: \S*a/s1.txt and \S*b/s1.txt are both of 's1'; give"):
        blocks_of(of_ids, ["n=*/*.txt"])


def test_two_stars_stand_for_folders_of_any_depth(of_ids):
    for place, name in enumerate(("notes/s0.txt", "notes/a/b/s1.txt")):
        (of_ids.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (of_ids.folder / name).write_text(f"note {place}")
    assert list(blocks_of(of_ids, ["n=notes/**/*.txt"])[0]["n"]) == ["note 0", "note 1"]


def test_a_tiff_of_several_pages_is_refused(of_ids):
    page = Image.new("L", (4, 4))
    page.save(of_ids.folder / "s0.tif")
    assert blocks_of(of_ids, ["p=*.tif"])[0]["p"][0].size == (4, 4)
    page.save(of_ids.folder / "s1.tif", save_all=True, append_images=[page, page])
    with pytest.raises(DataError, match="s1.tif has 3 pages; give a picture of one"):
        blocks_of(of_ids, ["p=*.tif"])


def test_a_photo_is_turned_as_its_camera_was_held(of_ids):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right
    for name, exif in {"s0.png": Image.Exif(), "s1.png": turned}.items():
        shown = pixels if name == "s0.png" else np.rot90(pixels)
        Image.fromarray(shown).save(of_ids.folder / name, exif=exif)
    for picture in blocks_of(of_ids, ["p=*.png"])[0]["p"]:
        np.testing.assert_array_equal(picture, pixels)


def test_another_table_is_matched_by_the_id(folder):
    table = read_table(folder / "stays.csv")
    labs = pd.read_csv(folder / "labs.csv").set_index("stay")["vital_a"]
    found, _ = blocks(folder, "labs=labs.csv:vital_a")
    known = table["stay"].isin(labs.index).to_numpy()
    assert (~known).sum() == 1 and np.isnan(found["labs"].to_numpy()[~known]).all()
    assert np.allclose(found["labs"].to_numpy()[known], table["vital_a"][known])


def test_an_id_of_digits_keeps_its_zeros(tmp_path):
    text = "stay,age\n" + "".join(f"{k:03},{k}\n" for k in range(9))
    (tmp_path / "stays.csv").write_text(text)
    for k in range(9):
        (tmp_path / f"{k:03}.txt").write_text(f"note {k}")
    table = read_table(tmp_path / "stays.csv", "stay")
    source = Source(table, tmp_path, ["stay"], "stay", column(table, "stay", "--id"))
    found, _ = blocks_of(source, ["notes=0*.txt", "ages=stays.csv:age"])
    assert list(found["notes"]) == [f"note {k}" for k in range(9)]
    assert list(found["ages"]) == list(range(9))


def test_the_index_that_pandas_wrote_is_no_input(tmp_path):
    frame = pd.DataFrame({"a": [5, 6], "index": [1, 2], "Unnamed: 00": [3, 4]})
    frame.to_csv(tmp_path / "once.csv")
    pd.read_csv(tmp_path / "once.csv").to_csv(tmp_path / "twice.csv")
    pd.read_csv(tmp_path / "twice.csv").to_csv(tmp_path / "thrice.tsv", sep="\t")
    filtered = frame.assign(__index_level_0__=[7, 9])
    duckdb.register("filtered", filtered)
    duckdb.sql(f"COPY filtered TO '{tmp_path / 'p.parquet'}' (FORMAT parquet)")
    names = ["once.csv", "twice.csv", "thrice.tsv", "p.parquet"]
    for name in names:
        assert list(read_table(tmp_path / name)) == list(frame), name
    words = [f"m{place}={name}" for place, name in enumerate(names)]
    found, _ = blocks_of(Source(frame, tmp_path, [], None, None), words)
    assert all(list(block) == list(frame) for block in found.values())


def test_a_class_or_a_category_may_be_called_none(tmp_path):
    frame = pd.DataFrame({"severity": ["None", "NA", "Mild", "", "nan"]})
    for name in ("site", "icu", "stay"):
        frame[name] = frame["severity"]
    frame["dose"], frame["sick"] = ["1", "None", "2", "", "NA"], ["True", "None", "False", "", "NA"]
    frame["both"] = ["None", "NA"] * 2 + [""]
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = read_table(tmp_path / "t.csv", "stay", ["severity", "site", "stay", "both"])
    assert found["both"].isna().tolist() == [False] * 4 + [True]
    for name in ("severity", "site", "stay"):
        assert found[name].fillna("lacks").tolist() == ["None", "NA", "Mild", "lacks", "lacks"]
    assert found["icu"].fillna("lacks").tolist() == ["None", "lacks", "Mild", "lacks", "lacks"]
    for name in ("dose", "sick"):  # among numbers and truths it is no text
        assert found[name].isna().tolist() == [False, True, False, True, True], name


def test_a_column_is_of_one_type_from_the_first_row_to_the_last(tmp_path):
    others = ",1" * 2047  # pandas reads so wide a table in parts of 512 rows
    text = "unit" + "".join(f",x{k}" for k in range(2047)) + f"\n1.0{others}" * 520
    (tmp_path / "t.csv").write_text(f"{text}\nunknown{others}\n")
    assert set(read_table(tmp_path / "t.csv")["unit"]) == {"1.0", "unknown"}


def test_a_suffix_in_capitals_is_the_same(folder, tmp_path):
    (tmp_path / "a.TSV").write_text("age\tdied\n60\t0\n")
    assert read_table(tmp_path / "a.TSV").to_dict("list") == {"age": [60], "died": [0]}
    for name in ("stays.parquet", "vitals.npz"):
        (tmp_path / name.upper()).write_bytes((folder / name).read_bytes())
        assert list(read_table(tmp_path / name.upper())) == list(read_table(folder / name))


def test_a_comma_at_the_end_of_rows_shifts_no_column(tmp_path):
    (tmp_path / "commas.csv").write_text("age,weight,died\n60,70,0,\n50,80,1,\n")
    found = read_table(tmp_path / "commas.csv")
    assert found.to_dict("list") == {"age": [60, 50], "weight": [70, 80], "died": [0, 1]}


def test_names_of_rows_as_r_writes_them_are_no_column(tmp_path):
    (tmp_path / "r.csv").write_text("age,died\nr1,60,0\nr2,50,1\n")
    assert read_table(tmp_path / "r.csv").to_dict("list") == {"age": [60, 50], "died": [0, 1]}


def test_rows_of_several_columns_more_than_the_header_are_refused(tmp_path):
    (tmp_path / "wide.csv").write_text("age,died\n1,2,60,0\n3,4,50,1\n")
    with pytest.raises(DataError, match="wide.csv .*several columns more than its header"):
        read_table(tmp_path / "wide.csv")


def test_a_column_or_an_array_called_like_a_kind_comes_first(folder):
    found, kinds = blocks(
        folder, "s=kinds.npz:series", "t=kinds.npz:text", "u=kinds.npz:text:table"
    )
    assert found["s"].shape == (N, 5, 2) and found["t"].shape == (N, 3) and kinds == {"u": "table"}
    found, kinds = blocks(folder, "p=series/*.npy:series", "v=vitals.npz:series")
    assert kinds == {"p": "series"} and found["v"].shape == (N, 5, 2)
    table = pd.DataFrame({"note:text": np.arange(3), "note": list("uvw")})
    found, kinds = blocks_of(Source(table, folder, [], None, None), ["n=note:text", "m=note:table"])
    assert list(found["n"]) == [0, 1, 2] and list(found["m"]) == list("uvw")
    assert kinds == {"m": "table"}


def test_a_column_with_a_comma_in_its_name_comes_before_several(tmp_path):
    table = pd.DataFrame({"a,2": [0, 1, 2], "a": [3, 4, 5], "b": list("uvw")})
    table.to_csv(tmp_path / "other.csv", index=False)
    words = ["t=a,2", "u=a,b", "k=a,2:table", "f=other.csv:a,2", "g=other.csv:a,b"]
    found, kinds = blocks_of(Source(table, tmp_path, [], None, None), words)
    assert [list(found[name]) for name in "tkf"] == [[0, 1, 2]] * 3 and kinds == {"k": "table"}
    assert list(found["u"]) == list(found["g"]) == ["a", "b"]


def test_lists_in_parquet_are_arrays(tmp_path):
    lists = [[[k, 1.0], [k, 2.0]][: 1 + k % 2] for k in range(4)]
    frame = pd.DataFrame({"steps": [*lists, None], "flat": [[1.0, 2.0]] * 5})
    path = tmp_path / "lists.parquet"
    duckdb.sql(f"COPY (SELECT * FROM frame) TO '{path}' (FORMAT parquet)")
    table = read_table(path)
    for found, given in zip(table["steps"], lists, strict=False):
        assert np.array_equal(found, given)
    assert len(frame) == len(table) == 5 and table["steps"].isna().tolist() == [False] * 4 + [True]
    assert np.array_equal(np.stack(table["flat"]), np.full((5, 2), [1.0, 2.0]))


USUAL = ("--target", "died", "--modality", "a=age")
SERIES = ("--modality", "s=vitals.npz:series")
MISTAKES = [  # words after the table, exit code, what the line says
    ((*USUAL,), 2, "--modality twice"),
    (("--modality", "a=age", *SERIES), 2, "give --target"),
    ((*USUAL, "--modality", "b"), 2, "NAME=COLUMNS"),
    ((*USUAL, "--modality", "a=icu"), 2, "given twice"),
    ((*USUAL, "--modality", "b=icu:sound"), 2, "'sound' is no kind"),
    ((*USUAL, *SERIES, "--metric", "fun"), 2, "metric 'fun' is unknown; choose one of accuracy"),
    ((*USUAL, *SERIES, "--metric", "r2"), 2, "metric 'r2' is unknown"),
    ((*USUAL, *SERIES, "--folds", "1"), 2, "folds=1"),
    ((*USUAL, *SERIES, "--seeds", "0"), 2, "seeds=0"),
    ((*USUAL, *SERIES, "--jobs", "0"), 2, "jobs=0"),
    ((*USUAL, *SERIES, "--margin", "0"), 2, "margin=0.0"),
    (("--target", "died", "--modality", "a+b=age", *SERIES), 2, "cannot be called 'a+b'"),
    (("--target", "died", "--modality", "inter=age", *SERIES), 2, "cannot be called 'inter'"),
    ((*USUAL, *SERIES, "--out", "stays.csv"), 2, "stays.csv is a file"),
    ((*USUAL, "--modality", "b=bad"), 3, "no column 'bad'; there are stay, died"),
    ((*USUAL, "--modality", "b=died,icu"), 3, "'died' is the target"),
    ((*USUAL, "--groups", "ward", "--modality", "b=ward"), 3, "'ward' is the target, the group"),
    ((*USUAL, "--groups", "ward", *SERIES), 3, "2 groups: too few"),
    ((*USUAL, "--groups", "half", *SERIES), 3, "groups hold NaN"),
    ((*USUAL, "--id", "icu", *SERIES), 3, "stands for several rows"),
    ((*USUAL, "--modality", "b=size"), 3, "infinity (row 3)"),
    ((*USUAL, "--modality", "b=none.npz:x"), 3, "there is no such file"),
    ((*USUAL, "--modality", "b=vitals.npz:x"), 3, "no array 'x'; it has series"),
    ((*USUAL, "--modality", "b=pickled.npz:series"), 3, "Object arrays cannot be loaded"),
    ((*USUAL, "--modality", "b=cut.npz:series"), 3, "cut.npz cannot be read"),
    ((*USUAL, "--modality", "b=junk.csv"), 3, "junk.csv cannot be read"),
    ((*USUAL, "--modality", "b=semicolons.csv"), 3, "are separated by ';', not by ','"),
    ((*USUAL, "--modality", "b=table.xlsx:age"), 3, "table.xlsx cannot be read"),
    ((*USUAL, "--id", "stay", "--modality", "b=nobody.csv"), 3, "its stay hold NaN or None (row 0"),
    ((*USUAL, "--modality", "b=junk.parquet"), 3, "junk.parquet cannot be read"),
    ((*USUAL, "--modality", "b=scans/*.txt"), 3, "there is no file scans/*.txt"),
    ((*USUAL, "--modality", "b=notes/*.txt"), 2, "give --id COLUMN"),
    ((*USUAL, "--id", "ward", "--modality", "b=notes/*.txt"), 3, "is of no row"),
    (("--target", "bad", "--modality", "a=age", *SERIES), 3, "no such column"),
    (("--target", "one", "--modality", "a=age", *SERIES), 3, "has one class"),
    (("--target", "stay", "--modality", "a=age", *SERIES), 3, "1 examples of the most frequent"),
    (("--target", "comma", *USUAL[2:], *SERIES), 3, "'0,0' looks like a number with a dec"),
    (("--target", "half", "--modality", "a=age", *SERIES), 3, "y holds NaN or None (row 0)"),
]


@pytest.mark.parametrize("words, code, line", MISTAKES, ids=[one[2] for one in MISTAKES])
def test_a_mistake_is_one_line_before_any_training(folder, monkeypatch, words, code, line):
    monkeypatch.chdir(folder)
    with pytest.raises((SettingsError, DataError)) as raised:
        main(["stays.csv", *words])
    assert raised.value.exit_code == code
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("table", ["none.csv", "junk.csv", "junk.parquet", "cut.npz"])
def test_a_table_that_cannot_be_read_is_named(folder, table):
    with pytest.raises(DataError, match=table):
        main([os.fspath(folder / table), *USUAL, *SERIES])


def test_blocks_of_unequal_length_are_refused(folder, monkeypatch, tmp_path):
    np.savez(tmp_path / "short.npz", x=np.zeros((N - 1, 2)))
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match="unequal numbers of rows: a 40, b 39"):
        main(["stays.csv", *USUAL, "--modality", f"b={tmp_path / 'short.npz'}:x"])


def test_a_command_that_is_killed_takes_its_workers_with_it(folder, tmp_path):
    words = [folder / "stays.csv", "--target", "died", "--modality", "static=age"]
    words += ["--modality", "vital=vital_a,vital_b", "--jobs", "2", "--out", tmp_path / "results"]
    command = subprocess.Popen(
        [sys.executable, "-m", "i2m2.diagnose", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    found = psutil.Process(command.pid)
    while len(workers := found.children(recursive=True)) < 2 and command.poll() is None:
        time.sleep(0.1)
    command.terminate()
    assert "interrupted" in command.communicate()[1] and command.returncode == 130
    assert not psutil.wait_procs(workers, timeout=20)[1]
