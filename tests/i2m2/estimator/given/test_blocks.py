"""What a user gives as `X` is read as the same blocks, however it is given; mistakes are one line
that names them."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from i2m2.errors import DataError
from i2m2.estimator.given.blocks import read_blocks
from i2m2.estimator.given.kinds import KINDS, infer_kind, warn_of_unique_texts
from i2m2.estimator.given.values import InputError

RNG = np.random.default_rng(0)
N = 6
TABLE = RNG.normal(size=(N, 3))
SERIES = RNG.normal(size=(N, 4, 2)).astype(np.float32)
PICTURES = RNG.integers(0, 255, (N, 5, 7)).astype(np.uint8)
TEXTS = ["a good day", None, "a bad night", "rain all day", "", "sun and wind"]
FRAME = pd.DataFrame(TABLE, columns=["a", "b", "c"]).assign(series=list(SERIES), notes=TEXTS)


def read_one(values, kind=None):
    kinds = None if kind is None else {"x": kind}
    return read_blocks({"x": values}, kinds=kinds)["x"]


@pytest.mark.parametrize(
    "values, kind",
    [
        (TABLE, "table"),
        (TABLE.tolist(), "table"),
        (pd.DataFrame(TABLE), "table"),
        (["u", "v", "w"] * 2, "table"),
        (pd.Series(["u", "v", None] * 2, dtype="category"), "table"),
        (TABLE > 0, "table"),
        (SERIES, "series"),
        (list(SERIES), "series"),
        ([one[: 1 + k % 4] for k, one in enumerate(SERIES)], "series"),
        ([one[: 1 + k % 4, 0] for k, one in enumerate(SERIES)], "series"),
        (torch.from_numpy(SERIES), "series"),
        (PICTURES, "picture"),
        (list(PICTURES), "picture"),
        (RNG.random((N, 5, 7, 3)), "picture"),
        ([Image.fromarray(one > 9) for one in PICTURES], "picture"),
        ([Image.fromarray(one.astype(np.uint16)) for one in PICTURES], "picture"),
        (TEXTS, "text"),
        (pd.Series(TEXTS, dtype="string"), "text"),
        (RNG.random((N, 200)), "embedding"),
        ([[0.5, 1.0, 2.0]] * N, "table"),
        (pd.Series([[0.5, 1.0, 2.0]] * N), "embedding"),
    ],
)
def test_the_kind_follows_from_type_and_shape(values, kind):
    assert infer_kind("x", values) == kind
    assert read_one(values).kind == kind and len(read_one(values)) == N


def test_all_ways_to_deal_out_a_table_give_the_same_blocks():
    flat = np.concatenate([TABLE, SERIES.reshape(N, -1)], axis=1)
    frame = pd.DataFrame(flat, columns=[f"c{k}" for k in range(flat.shape[1])])
    steps = list(frame.columns[3:])
    ways = [
        read_blocks({"static": TABLE, "series": SERIES}),
        read_blocks(flat, {"static": slice(0, 3), "series": (slice(3, None), (4, 2))}),
        read_blocks(flat, {"static": [0, 1, 2], "series": (range(3, 11), (4, 2))}),
        read_blocks(frame, {"static": ["c0", "c1", "c2"], "series": (steps, (4, 2))}),
        read_blocks(frame, {"static": slice("c0", "c2"), "series": (slice(3, 11), [4, 2])}),
        read_blocks(FRAME, {"static": ["a", "b", "c"], "series": "series"}),
    ]
    for blocks in ways:
        np.testing.assert_array_equal(blocks["static"].values.to_numpy(), TABLE)
        np.testing.assert_array_equal(blocks["series"].values, SERIES)


def test_a_modality_can_name_its_kind_in_place_of_its_column():
    block = read_blocks(FRAME, {"notes": "text"})["notes"]
    assert block.kind == "text" and block.values.tolist() == TEXTS
    assert block.present.tolist() == [True, False, True, True, True, True]


def test_numbers_of_every_type_are_float64_with_nan_where_missing():
    want = [1.0, np.nan, 0.0]
    columns = {
        "Int64": pd.array([1, None, 0], dtype="Int64"),
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "Float32": pd.array([1, None, 0], dtype="Float32"),
        "objects": np.array([1, None, 0.0], dtype=object),
        "objects and NaT": np.array([1, pd.NaT, 0.0], dtype=object),
        "booleans and None": np.array([True, None, False], dtype=object),
        "float16": np.array([1, np.nan, 0], dtype=np.float16),
    }
    for name, column in columns.items():
        values = read_one(pd.DataFrame({"c": column})).values["c"]
        assert values.dtype == np.float64, name
        np.testing.assert_array_equal(values, want, err_msg=name)
    pairs = pd.DataFrame({"u": columns["Int64"], "v": columns["Float32"]})
    shaped = read_blocks(pairs, {"x": (["u", "v"], (2, 1))})["x"]
    np.testing.assert_array_equal(shaped.values[:, :, 0], np.stack([want, want], axis=1))


def test_numbers_that_float32_would_round_stay_as_they_are():
    seconds = 1.7e9 + np.arange(N * 6.0).reshape(N, 6)
    columns = pd.DataFrame(seconds)
    for values, kind in {
        "an array": (seconds[..., None], "series"),
        "whole numbers": (seconds.astype(np.int64)[..., None], "series"),
        "an array each": (list(seconds), "series"),
        "tables": ([pd.DataFrame({"t": one}) for one in seconds], "series"),
        "an embedding": (seconds, "embedding"),
    }.values():
        block = read_one(values, kind)
        np.testing.assert_array_equal(block.values.reshape(N, -1), seconds)
    shaped = read_blocks(columns, {"x": (list(columns), (6, 1))})["x"]
    np.testing.assert_array_equal(shaped.values[..., 0], seconds)
    for kind in (np.float16, np.float32, np.uint8, np.int16, bool):
        assert read_one(SERIES.astype(kind), "series").values.dtype == np.float32
    assert read_one(np.ones((N, 4, 4)), "picture").values.dtype == np.float32


def test_what_is_masked_is_missing():
    hidden = np.arange(N * 8).reshape(N, 4, 2) % 5 == 0
    masked = np.ma.array(SERIES, mask=hidden)
    want = np.where(hidden, np.nan, SERIES)
    for given in (masked, list(masked), pd.Series(list(masked))):
        np.testing.assert_array_equal(read_one(given, "series").values, want)
    flat, wanted = (
        np.ma.array(TABLE, mask=hidden[:, :3, 0]),
        np.where(hidden[:, :3, 0], np.nan, TABLE),
    )
    np.testing.assert_array_equal(read_blocks(flat, {"x": [0, 1, 2]})["x"].values, wanted)
    picture = read_one(np.ma.array(PICTURES, mask=PICTURES < 50))
    assert picture.kind == "picture" and (np.isnan(picture.values[:, 0]) == (PICTURES < 50)).all()
    words = np.ma.array(["u", "v", "w"], mask=[0, 1, 0])
    assert read_one(words).values[0].tolist() == ["u", None, "w"]
    whole = np.ma.array([1, 2, 3], mask=[0, 1, 0])
    for given in (whole, list(whole)):
        np.testing.assert_array_equal(read_one(given).values[0], [1, np.nan, 3])


def test_tensors_and_numbers_of_every_size_are_read():
    tensor = torch.from_numpy(SERIES).requires_grad_()
    for given in (tensor, list(tensor), tensor.to(torch.bfloat16), SERIES.astype(">f8")):
        np.testing.assert_allclose(read_one(given).values, SERIES, rtol=0.01)
    assert read_one(TABLE.astype(np.longdouble)).values[0].dtype == np.float64


def test_an_example_without_steps_is_absent():
    block = read_one([np.zeros(0), SERIES[1, :2], [], SERIES[3]])
    assert block.kind == "series" and block.present.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    "values",
    [
        [np.zeros((0, 2))],
        [[]],
        [(), None],
        [np.zeros(0)],
        [torch.zeros(0, 2), np.zeros(0)],
        pd.Series([[]]),
        pd.Series([None, np.zeros((0, 2))]),
        [pd.DataFrame({"a": [], "b": []})],
    ],
)
def test_series_none_of_which_has_a_step_are_absent(values):
    block = read_one(values, "series")
    assert len(block) == len(values) and not block.present.any()


def test_categories_are_texts_and_a_whole_number_has_one_name():
    columns = {
        "texts": (["u", None, "v"], ["u", None, "v"]),
        "category of ints": (pd.Categorical([7, None, 8]), ["7", None, "8"]),
        "category of floats": (pd.Categorical([7.0, None, 8.5]), ["7", None, "8.5"]),
        "pandas' own texts": (pd.array(["u", None, "v"], dtype="string"), ["u", None, "v"]),
        "long numbers": (pd.Categorical([90210123, None, 1]), ["90210123", None, "1"]),
    }
    for name, (column, want) in columns.items():
        assert read_one(pd.DataFrame({"c": column})).values["c"].tolist() == want, name


def test_texts_that_arrow_stores_are_texts():
    pytest.importorskip("pyarrow")
    column = pd.array(["u", None, "v"], dtype="string[pyarrow]")
    assert read_one(pd.DataFrame({"c": column})).values["c"].tolist() == ["u", None, "v"]


def test_a_row_is_absent_where_nothing_of_it_is_known():
    table, series, wide = TABLE.copy(), SERIES.copy(), RNG.random((N, 200))
    picture = PICTURES.astype(float)[:, None]
    for block in (table, series, wide, picture):
        block[0] = np.nan
        block[1].flat[0] = np.nan
    want = [False] + [True] * (N - 1)
    for block in (table, series, wide, picture):
        assert read_one(block).present.tolist() == want
    nested = [None, *PICTURES[1:]]
    assert read_one(nested).present.tolist() == want


@pytest.mark.parametrize("kind", ["series", "picture", "embedding", "text"])
@pytest.mark.parametrize("nothing", [None, np.nan])
def test_a_block_of_nothing_is_absent_from_every_row(kind, nothing):
    block = read_one([nothing] * N, kind)
    assert len(block) == N and not block.present.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_of_no_rows_has_none(kind):
    for values in ([], np.ones((0, 1)), np.ones((0, 3))):
        if kind != "text" or np.shape(values) != (0, 3):
            assert len(read_one(values, kind)) == 0


def test_shorter_series_end_in_nan():
    values = read_one([SERIES[0, :2], SERIES[1], None]).values
    np.testing.assert_array_equal(values[0, :2], SERIES[0, :2])
    assert np.isnan(values[0, 2:]).all() and np.isnan(values[2]).all()


def arrays_of_arrays(array):
    """Nested object arrays, as pandas reads lists of lists in Parquet."""
    if array.ndim == 1:
        return array
    found = np.empty(len(array), dtype=object)
    found[:] = [arrays_of_arrays(part) for part in array]
    return found


def test_arrays_of_arrays_are_one_array_an_example():
    steps = [one[: 1 + k % 3] for k, one in enumerate(SERIES)]
    for given in (steps, SERIES):
        assert read_one(list(map(arrays_of_arrays, given))).kind == "series"
        found = read_one(pd.Series([None, *map(arrays_of_arrays, given)]))
        assert found.kind == "series" and not found.present[0]
        np.testing.assert_array_equal(found.values, read_one([None, *given]).values)
    coloured = RNG.random((N, 5, 7, 3)).astype(np.float32)
    found = read_one(pd.Series([arrays_of_arrays(one) for one in coloured]))
    np.testing.assert_array_equal(found.values, read_one(coloured).values)


def test_none_in_nested_lists_is_a_missing_number():
    block = read_one([[[1.0, None], [2.0, 3.0]], [[None, None], [None, None]]])
    assert block.kind == "series" and block.present.tolist() == [True, False]
    np.testing.assert_array_equal(block.values[0], [[1.0, np.nan], [2.0, 3.0]])
    assert read_one([[[[1.0], [None]]]] * N).kind == "picture"


def test_pictures_come_with_channels_first():
    coloured = RNG.random((N, 5, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(read_one(coloured).values, coloured.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(read_one(PICTURES).values[:, 0], PICTURES)


@pytest.mark.parametrize("channels", [2, 10])
def test_the_last_axis_of_a_picture_is_its_channels_however_many(channels):
    many = RNG.random((N, 12, 11, channels)).astype(np.float32)
    np.testing.assert_array_equal(read_one(many).values, many.transpose(0, 3, 1, 2))
    with pytest.warns(UserWarning, match=r"x: pictures of the shape \(2, 11, 12\) are read as"):
        read_one(RNG.random((N, 2, 11, 12)))


def test_colours_of_a_palette_are_colours():
    colours = [Image.new("RGB", (7, 5), (40 * k, 9, 0)) for k in range(N)]
    found = read_one([one.convert("P", palette=Image.Palette.ADAPTIVE) for one in colours]).values
    np.testing.assert_array_equal(found, read_one(colours).values)


@pytest.mark.parametrize("other", ["L", "LA", "RGBA", "1", "P"])
def test_pictures_of_several_modes_are_colours(other):
    colours = [Image.new("RGB", (7, 5), (80, 80, 80)), None, Image.new("RGB", (7, 5), (255,) * 3)]
    mixed = [colours[0], None, colours[2].convert(other)]
    np.testing.assert_array_equal(read_one(mixed).values, read_one(colours).values)


def test_pictures_of_16_bits_beside_8_are_refused():
    pictures = [Image.new("I;16", (7, 5)), Image.new("L", (7, 5))]
    with pytest.raises(InputError, match="x: pictures of the modes I;16 and L; convert all to one"):
        read_one(pictures)


class OtherTable:
    """A table as polars or Arrow have it."""

    columns = ["a", "b", "c"]

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        if self.frame is None:
            raise ModuleNotFoundError("pyarrow is required")
        return self.frame


def test_a_table_of_another_library_is_read_as_that_of_pandas():
    frame = FRAME[["a", "b", "c"]]
    for given, dealt in (({"x": OtherTable(frame)}, None), (OtherTable(frame), {"x": ["a", "c"]})):
        columns = list(read_blocks(given, dealt)["x"].values)
        assert columns == (["a", "b", "c"] if dealt is None else ["a", "c"])


def test_texts_that_hardly_occur_again_are_named_as_no_categories():
    numbers = [f"{k},5" for k in range(40)]
    mistaken = {"x": read_one(pd.DataFrame({"age": numbers, "icu": ["u", "v"] * 20}))}
    with pytest.warns(UserWarning, match="x: column 'age' holds 40 different texts in 40 rows"):
        warn_of_unique_texts(mistaken)


@pytest.mark.parametrize("odd", ["?", "-", "1,234", "$5"])
def test_a_text_among_numbers_is_named_once_a_column(odd):
    ages = ["41", "52.5", odd, None, odd]
    frame = pd.DataFrame({"age": ages, "grade": ["1", "a", "b", "1", "c"]})
    with pytest.warns(UserWarning) as caught:
        warn_of_unique_texts({"x": read_one(frame)})
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"x: column 'age' holds {odd!r} among numbers")


def test_indexes_of_the_same_labels_in_another_order_are_refused():
    table = pd.DataFrame(TABLE, index=list("abcdef"))
    with pytest.raises(InputError, match="x and z have the same labels of rows in another order"):
        read_blocks({"x": table, "n": SERIES, "z": table[::-1]})
    for other in (table, table.reset_index(drop=True), table.set_axis(list("uvwxyz"))):
        assert len(read_blocks({"x": table, "z": other})) == 2


MISTAKES = [
    (FRAME, {"x": ["zz"]}, None, "x: there is no column 'zz'"),
    (FRAME, {"x": []}, None, "x: names no column"),
    (FRAME, {"x": 3.5}, None, "x: there is no column 3.5"),
    (FRAME, {"x": None}, None, "x: None names no columns"),
    (FRAME, {"x": slice(7, 9)}, None, "x: a block without columns"),
    (FRAME, {"x": (["a"], (3, 2))}, None, "x: 1 columns cannot be of the shape (3, 2)"),
    (FRAME, {"x": (["notes", "a"], (2, 1))}, None, "x: column 'notes' holds texts"),
    (FRAME, {"x": ["series"]}, None, "x: column 'series' holds ndarray objects"),
    (FRAME, {"x": (["a", "b"], 2)}, None, "x: (columns, 2): give the shape of an example"),
    (FRAME, {"x": (["a", "b"], ("a", 2))}, None, "x: (columns, ('a', 2)): give the shape"),
    (FRAME, {"x": slice("zz", "b")}, None, "x: there is no column 'zz'"),
    (FRAME, {"x": slice("a", 2)}, None, "x: slice('a', 2, None) names no columns"),
    (FRAME, {"x": {"a", "b"}}, None, "names no columns in an order"),
    (FRAME, {"x": [["a"]]}, None, "x: there is no column ['a']"),
    (FRAME, {"x": [True, False, True]}, None, "x: [True, False, True] is a mask; give the columns"),
    (TABLE, {"x": np.array([True, False, True])}, None, "is a mask; give the columns where it is"),
    (TABLE, {"x": slice("a", "b")}, None, "x: slice('a', 'b', None) holds no column"),
    (TABLE, {"x": slice(0.5, 2)}, None, "x: slice(0.5, 2, None) holds no column"),
    ({"x": dict.fromkeys(range(99), TABLE)}, None, None, "x needs one row per example, not {0: ar"),
    ({"x": (one for one in TABLE)}, None, None, "x needs one row per example, not <generator"),
    ({"x": [["a", "b"]] * N}, None, {"x": "series"}, "x holds what is no number (could not conv"),
    ({"x": [np.array(["a"]), np.array([])]}, None, {"x": "series"}, "x holds what is no number"),
    ({"x": [10**400] * N}, None, None, "x: column 0 holds what is no number (int too large"),
    ({"x": TABLE * 1e300}, None, None, "x: column 0 holds infinity (row 0), or a number above"),
    ({"x": SERIES.astype(float) * 1e300}, None, None, "x holds infinity (row 0), or a number"),
    ({"x": SERIES.astype("M8[s]")}, None, None, "x holds dates; give numbers"),
    ({"x": np.zeros(N, [("a", float)])}, None, None, "x is a structured array"),
    ({"x": torch.ones(N, 2).to_sparse()}, None, None, "x cannot be read as an array"),
    (FRAME, ["a"], None, "modalities=['a']: give a mapping"),
    (FRAME, {}, None, "X holds no modality"),
    (TABLE, {"x": ["a"]}, None, "x: ['a'] names no columns of an array of 3"),
    (TABLE, {"x": [5]}, None, "x: [5] names no columns of an array of 3"),
    ({"x": TABLE}, None, {"x": "tab"}, "kinds: x is 'tab'; choose one of table, series"),
    ({"x": TABLE}, None, {"z": "table"}, "kinds: there is no modality 'z'; there are x"),
    ({"x": TABLE}, None, ["x"], "kinds=['x']: give a mapping"),
    ({"x": TABLE, "z": TABLE[:2]}, None, None, "unequal numbers of rows: x 6, z 2"),
    ({"x": TABLE[:, :0]}, None, None, "x: a block without columns"),
    ({"x": np.full((N, 2), np.inf)}, None, None, "x: column 0 holds infinity (row 0)"),
    ({"x": SERIES * np.inf}, None, None, "x holds infinity (row 0)"),
    ({"x": np.zeros((N, 2, 2, 2, 2))}, None, None, "x: no kind of block has 5 axes"),
    ({"x": 5}, None, None, "x needs one row per example, not 5"),
    ({"x": [b"a day", b"b night"]}, None, None, "x: column 0 holds bytes objects"),
    ({"x": [bytearray(b"a"), None, bytearray(b"b")]}, None, None, "x holds bytes; decode them"),
    ({"x": pd.Series([bytearray(b"ab"), None])}, None, None, "x holds bytes; decode them first"),
    ({"x": FRAME[["a", "a"]]}, None, None, "x: two columns are called 'a'"),
    ({"x": TABLE.astype(complex)}, None, None, "x: column 0: Complex data not supported"),
    ({"x": pd.date_range("2020", periods=N).to_frame()}, None, None, "holds dates"),
    ({"x": pd.date_range("2020", periods=N, tz="UTC").to_frame()}, None, None, "holds dates;"),
    ({"x": pd.Series([date(2020, 1, 1), None])}, None, None, "x: column 0 holds dates; give"),
    ({"x": pd.DataFrame({"a": [timedelta(1), "u"]})}, None, None, "x: column 'a' holds dates"),
    ({"x": [pd.Timestamp("2020"), 1.5]}, None, None, "x: column 0 holds dates; give numbers"),
    ({"x": [p[: 3 + k % 2] for k, p in enumerate(PICTURES)]}, None, None, "have the shapes"),
    ({"x": [[1.0], [1.0, 2.0]]}, None, {"x": "embedding"}, "x: examples have the shapes"),
    ({"x": [SERIES[0], SERIES[1, :, :1]]}, None, None, "x: examples have the shapes"),
    (
        {"x": pd.Series([arrays_of_arrays(SERIES[0]), [[1.0], [2.0, 3.0]]])},
        None,
        None,
        "x: parts of",
    ),
    ({"x": None}, None, None, "X has no block 'x'"),
    ({"x": OtherTable(None)}, None, None, "x has no pandas form (pyarrow is required)"),
    (
        {"x": [pd.DataFrame(SERIES[0], columns=list(names)) for names in ("uv", "vu")]},
        None,
        None,
        "x: an example has the columns ['u', 'v'] and another ['v', 'u']",
    ),
]


@pytest.mark.parametrize("X, modalities, kinds, message", MISTAKES, ids=[m[-1] for m in MISTAKES])
def test_a_mistake_is_one_line_that_says_where(X, modalities, kinds, message):
    with pytest.raises(InputError) as caught:
        read_blocks(X, modalities, kinds)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_input_error_is_a_value_error_with_the_exit_code_of_data():
    assert issubclass(InputError, ValueError) and issubclass(InputError, DataError)
    assert InputError.exit_code == 3
