"""The order of examples, the division of an update, and the checks on loading."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn

from i2m2.errors import DataError, SettingsError
from i2m2.model import ProductOfExperts, UnimodalExpert
from i2m2.training.data import (
    ArrayDataset,
    ResidentDataset,
    check_dataset,
    check_facts,
    first_of,
    loader,
    resident,
    seed_everything,
    training_plan,
)


def split(n=6, first_id=0, **changes):
    values = {
        "inputs": {"image": np.arange(n * 4, dtype=np.float32).reshape(n, 4)},
        "y": np.arange(n) % 3,
        "rows": np.arange(n),
    }
    return ArrayDataset(**{**values, "id": np.arange(n) + first_id, **changes})


@pytest.mark.parametrize("micro_batches, world_size", [(1, 1), (3, 1), (1, 2), (2, 4)])
def test_every_division_of_an_epoch_sees_each_example_once_with_the_weight_of_its_update(
    micro_batches, world_size
):
    division = {"micro_batches": micro_batches, "world_size": world_size}
    ranks = range(world_size)
    plans = [training_plan(43, 10, seed=5, epoch=2, rank=rank, **division) for rank in ranks]
    whole = training_plan(43, 10, seed=5, epoch=2)
    seen = np.concatenate([part.positions for plan in plans for part in plan if part.scale])
    assert sorted(seen) == list(range(43))
    # Each device takes part in every update, and the weights of an update sum to one over the
    # devices.
    assert {sum(part.last for part in plan) for plan in plans} == {5}
    weights = [part.scale * len(part.positions) for plan in plans for part in plan]
    assert sum(weights) == pytest.approx(5)
    first_update = set()
    for plan in plans:
        end = next(place for place, part in enumerate(plan) if part.last)
        first_update |= {position for part in plan[: end + 1] for position in part.positions}
    assert first_update == set(whole[0].positions)


def test_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        parts = training_plan(30, 7, seed, epoch)
        return np.concatenate([part.positions for part in parts]).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_rows_asked_for_in_their_stored_type(workers):
    data = split(inputs={"image": (np.arange(24) % 251).astype(np.uint8).reshape(6, 4)})
    batches = list(loader(data, [np.array([5, 0]), np.array([3])], workers))
    assert [batch["y"].tolist() for batch in batches] == [[2, 0], [0]]
    assert batches[0]["inputs"]["image"].dtype == torch.uint8
    assert batches[0]["inputs"]["image"].tolist() == [[20, 21, 22, 23], [0, 1, 2, 3]]


def test_no_more_workers_than_processors_load_data():
    cores, data = len(os.sched_getaffinity(0)), split()
    assert loader(data, [np.arange(6)], workers=1000).num_workers == cores
    assert loader(data, [np.arange(6)], workers=1).num_workers == 1


def test_workers_draw_none_of_the_random_numbers_that_a_model_draws():
    states, seeds = [], []
    for epoch in range(2):
        seed_everything(0, epoch)
        before = torch.get_rng_state()
        batches = loader(split(), [np.arange(6)], workers=1)
        list(batches)
        states.append(torch.equal(torch.get_rng_state(), before))
        seeds.append(batches.generator.initial_seed())
    assert states == [True, True] and seeds[0] != seeds[1]


def test_a_value_that_is_not_finite_is_reported_with_file_and_row():
    data = split(source={"image": "image/train_data.npy"})
    data.inputs["image"][4, 1] = np.nan
    with pytest.raises(DataError, match="image/train_data.npy: row 4 holds NaN or infinity"):
        data[np.array([0, 4])]


def table(**changes):
    """A data set of one's own: numbers in a DataFrame, a measurement that two of four lack."""
    frame = pd.DataFrame({"age": [30, 41, 52, 63], "weight": [60.5, 71.5, 82.5, 93.5]})
    lab = np.array([[1.0], [np.nan], [3.0], [np.inf]])
    values = {
        "inputs": {"static": frame, "lab": lab},
        "y": pd.Series([True, False, True, True]),
        "id": pd.Series(["a", "bb", "ccc", "d"]),
        "present": {"lab": pd.Series([1, 0, 1, 0])},
    }
    return ArrayDataset(**{**values, **changes})


def test_what_users_have_becomes_what_models_take():
    data = table()
    batch = data[np.array([3, 0])]
    expected = torch.tensor([[63.0, 93.5], [30.0, 60.5]])
    torch.testing.assert_close(batch["inputs"]["static"], expected)
    assert batch["inputs"]["lab"].dtype == torch.float32
    assert batch["y"].tolist() == [1, 1] and batch["y"].dtype == torch.int64
    assert batch["present"]["lab"].tolist() == [False, True]
    assert data.id.dtype == data.group.dtype == np.dtype("<U3")  # read again without unpickling
    of_int32 = table(y=np.array([0, 1, 2, 0], np.int32), id=None)
    assert of_int32[[2]]["y"].tolist() == [2] and of_int32.id.tolist() == [0, 1, 2, 3]
    named = table(y=["dead", "alive", "dead", "dead"], classes=("alive", "dead"))
    assert named[[0, 1]]["y"].tolist() == [1, 0]


def test_numbers_of_a_table_are_floats_and_integers_of_an_array_stay():
    given = {
        "table": pd.DataFrame({"age": [30, 41], "smokes": [True, False]}),
        "column": pd.Series([1, 2], dtype="Int64"),
        "mixed": np.array([[1, 2.5], [True, None]], dtype=object),
        "tokens": np.array([[1, 2], [3, 4]]),
        "pixels": np.array([[1, 2], [3, 4]], np.uint8),
        "foreign": np.array([[1.5], [2.5]], ">f8"),
        "tensor": torch.ones(2, 1, requires_grad=True),
        "wide": np.ones((2, 1), np.longdouble),
        "spectrum": np.ones((2, 1), np.complex128),
        "masked": np.ma.array([[1, 2], [3, 4]], mask=[[0, 0], [0, 1]]),
    }
    present = {"mixed": [[1], [0]], "masked": np.array([True, False], object)}
    data = ArrayDataset(given, np.ma.array([0, 1]), id=[[5], [6]], present=present)
    found = data[np.arange(2)]["inputs"]
    kinds = {"tokens": torch.int64, "pixels": torch.uint8, "spectrum": torch.complex64}
    for name, values in found.items():
        assert values.dtype == kinds.get(name, torch.float32), name
    assert found["table"].tolist() == [[30, 1], [41, 0]] and found["foreign"].tolist() == [
        [1.5],
        [2.5],
    ]
    assert found["masked"][0].tolist() == [1, 2] and found["masked"][1].isnan().tolist() == [0, 1]
    assert data.id.tolist() == [5, 6]


def test_rows_of_an_hdf5_file_come_in_any_order(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        image = file.create_dataset("image", data=np.arange(24.0, dtype=np.float32).reshape(6, 4))
        data = split(inputs={"image": image}, rows=np.array([5, 0, 3, 1, 2, 4]))
        data.check_finite("val")
        assert data[np.array([2, 0, 1, 0])]["inputs"]["image"][:, 0].tolist() == [12, 20, 0, 20]


def test_presence_survives_a_selection_and_so_does_a_subclass():
    class Own(ArrayDataset):
        def __init__(self, *args, site, **options):
            super().__init__(*args, **options)
            self.site = site

        def __getitem__(self, positions):
            return super().__getitem__(positions) | {"site": self.site}

    whole = table()
    own = Own(whole.inputs, whole.y, present=whole.present, site="A")
    selected = own.select(["lab"])
    batch = selected[np.array([1, 2])]
    assert type(selected) is Own and batch["site"] == "A"
    assert list(batch["inputs"]) == ["lab"] and batch["present"]["lab"].tolist() == [False, True]
    assert "present" not in own.select(["static"])[np.array([0])]
    assert list(own.inputs) == ["static", "lab"]  # as it was
    with pytest.raises(DataError, match="no modality labs; the data have static, lab"):
        own.select(["labs"])


def test_an_absent_value_has_no_influence_on_the_model():
    torch.manual_seed(0)
    experts = {
        "static": UnimodalExpert("static", nn.Identity(), nn.Linear(2, 2)),
        "lab": UnimodalExpert("lab", nn.Identity(), nn.Linear(1, 2)),
    }
    model, batch = ProductOfExperts(experts), table()[np.arange(4)]
    log_prob, by_expert = model(batch["inputs"], batch["present"])
    assert log_prob.isfinite().all()
    torch.testing.assert_close(log_prob[1], by_expert["static"][1])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"present": {}}, "lab: row 1 holds NaN or infinity"),
        ({"present": {"lab": [1, 1, 1, 0]}}, "lab: row 1 holds NaN"),
        ({"present": {"lab": [1, 0, 2, 0]}}, "present of lab: it holds other values than true"),
        ({"present": {"lab": [1, 0]}}, "present of lab: 2 rows, but there are 4 labels"),
        ({"present": {"labs": [1, 0, 1, 0]}}, "present names labs; the modalities are static, lab"),
        ({"y": ["a", "b", "a", "a"]}, "y: .*give the names of the answers as classes="),
        ({"y": [0, 1, 0.5, 1]}, "y: 0.5 is no class"),
        ({"y": pd.Series([0, 1, None, 1])}, "y: nan is no class"),
        (
            {"y": ["a", "b", "a", "c"], "classes": ["a", "b"]},
            "label 'c' is none of the classes a, b",
        ),
        ({"id": ["a", None, "b", "c"]}, "id: row 1 has none"),
        ({"id": ["a"]}, "id: 1 rows, but there are 4 labels"),
        (
            {"inputs": {"static": pd.DataFrame({"sex": list("fmfm")})}, "present": {}},
            "static: .*encode",
        ),
        (
            {"present": {"lab": pd.array([1, None, 1, 0], dtype="Int64")}},
            "present of lab: it holds",
        ),
        ({"present": {"lab": np.ma.array([1, 0, 1, 0], mask=[1, 0, 0, 0])}}, "present of lab: it"),
        ({"present": {"lab": np.ones((4, 2))}}, r"present of lab: the shape is \[4, 2\]"),
        ({"present": np.ones(4)}, "present: a ndarray names no modality; give {modality: array}"),
        ({"inputs": [np.ones(4)]}, "inputs: a list names no modality"),
        ({"y": np.array([0, 1, 1, 0]) * 1j}, "y: complex128 is no type of labels"),
        (
            {"y": pd.Series(pd.date_range("2020", periods=4))},
            "y: datetime64.* is no type of labels",
        ),
        ({"y": np.ma.array([0, 1, 1, 0], mask=[1, 0, 0, 0])}, "y: nan is no class"),
        ({"y": pd.array([0, 1, None, 0], dtype="Int64")}, "y: nan is no class"),
        ({"y": np.zeros((4, 1, 1))}, r"y has the shape \(4, 1, 1\)"),
        ({"y": [1e300, 0, 0, 1]}, "y: 1e.300 is no class"),
        ({"id": [1.0, np.nan, 2.0, 3.0]}, "id: row 1 has none"),
        ({"id": pd.array(["a", None, "b", "c"], dtype="string")}, "id: row 1 has none"),
        ({"group": np.ma.array([1, 2, 3, 4], mask=[0, 0, 1, 0])}, "group: row 2 has none"),
        ({"rows": [0, 1, -1, 2]}, "rows: -1 is no row; give whole numbers from 0"),
        ({"labels": ["died"]}, r"labels: died for y \[4\]; give each of the L labels of y"),
        ({"labels": "ab", "y": np.zeros((4, 2), int)}, r"labels: ab for y \[4, 2\]"),
        ({"labels": ["a", "a"], "y": np.zeros((4, 2), int)}, "labels: a, a for y"),
        ({"rows": np.array([True, False, True, True])}, "rows: bool is no type of row numbers"),
        *(
            ({"inputs": {"x": wrong}, "present": {}}, message)
            for wrong, message in [
                (
                    pd.DataFrame({"age": [1, 2, 3, 4], "sex": list("fmfm")}).to_numpy(),
                    "x: .*encode",
                ),
                (np.array(list("abcd")), "x: <U1 is no type of numbers; encode it first"),
                (np.array(["2020"] * 4, "M8[D]"), "x: datetime64.* is no type of numbers"),
                (pd.DataFrame({"t": pd.to_timedelta([1, 2, 3, 4])}), "x: timedelta64.* is no type"),
                (np.zeros(4, [("a", float)]), "x: .* is no type of numbers"),
                ([[1.0], [1.0, 2.0]], "x: .*sequence.*; give examples of one shape"),
                ({"a": 1}, "x: a dict is no array; give a row per example"),
                (csr_matrix(np.eye(4)), r"x: a csr_matrix is sparse; give its .toarray\(\)"),
                (np.array([[1.0], [2.0], [1e300], [4.0]]), "x: row 2 holds NaN or infinity"),
                (np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0]), "x: row 1 holds NaN or infinity"),
            ]
        ),
        ({"inputs": {"static": np.ones((3, 2))}, "present": {}}, "static: 3 rows, but there are 4"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(changes, message):
    with pytest.raises(DataError, match=message):
        table(**changes)[np.arange(4)]


@pytest.mark.parametrize(
    "names",
    [
        np.array([1.0, 2.0, 3.5, 4.0]),
        np.array([True, False, True, True]),
        np.array(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], "M8[D]"),
        [2**64, 2**70, 1, 2],
    ],
)
def test_ids_and_groups_of_other_types_are_texts_which_predictions_take(names):
    data = table(id=names, group=names)
    assert data.id.tolist() == data.group.tolist() == [str(name) for name in np.asarray(names)]
    assert data.id.dtype.kind == "U"


@pytest.mark.parametrize("kind", [bytes, object])
def test_ids_that_are_bytes_are_the_texts_that_they_hold(kind):
    names = np.array([b"p1", "\u00e9".encode(), b"\xff", b"d"], kind)
    assert table(id=names).id.tolist() == ["p1", "\u00e9", "\\xff", "d"]


def test_labels_have_their_names_as_a_list():
    data = table(labels=np.array(["died", "stayed"]), y=np.zeros((4, 2), int))
    assert data.labels == ["died", "stayed"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fingerprint": 1995}, "fingerprint: expected str, got int; give description and"),
        ({"description": None}, "description: expected str, got null"),
        ({"folder": Path("x")}, "Object of type .*Path is not JSON serializable"),
    ],
)
def test_facts_that_a_run_could_not_keep_are_refused(change, message):
    facts = {"description": "toy", "fingerprint": "1", "baseline": {"auroc": np.nan}}
    check_facts(facts)
    with pytest.raises(DataError, match=f"facts of the data: {message}"):
        check_facts(facts | change)


@pytest.mark.parametrize(
    "train, test, message",
    [
        (split(), split(first_id=5), "test and train share 1 ids, first 5"),
        (
            split(y=np.array([0, 1, 10, 0, 0, 0])),
            split(first_id=9),
            "train: label 10 of id 2 is outside 0..2; correct it, or let there be more classes",
        ),
        (
            split(y=np.array([[0, 1], [0, 3]]).repeat(3, axis=0), labels=["acl", "meniscus"]),
            split(first_id=9),
            r"train: label 3 \(meniscus\) of id 3 is outside 0..2; correct it",
        ),
        (split(), split(0, first_id=9), "test: no examples"),
        (
            split(id=np.array([3, 8, 4, 8, 5, 6])),
            split(first_id=9),
            "train: id 8 occurs 2 times; give every example an id of its own",
        ),
        (
            split(rows=np.arange(6) + 1),
            split(first_id=9),
            "image: 6 rows, .*train split needs row 6",
        ),
    ],
)
def test_splits_are_checked(train, test, message):
    with pytest.raises(DataError, match=message):
        check_dataset({"train": train, "test": test}, num_classes=3)


def test_more_training_examples_than_there_are_are_refused():
    rows, frame = np.arange(7), pd.DataFrame({"slice": range(7)}, index=list("gfedcba"))
    assert first_of(rows, 3).tolist() == first_of(frame, 3)["slice"].tolist() == [0, 1, 2]
    assert len(first_of(rows, None)) == len(first_of(rows, 7)) == len(first_of(frame, None)) == 7
    for asked_of in (rows, frame):
        with pytest.raises(SettingsError, match="train_size=9 is above the 7 training examples"):
            first_of(asked_of, 9)


def test_examples_that_lie_on_the_device_are_those_of_the_arrays():
    image = np.arange(24, dtype=np.uint8).reshape(6, 4)
    gaps = {"present": {"image": np.arange(6) % 2 > 0}, "inputs": {"image": image}}
    arrays = split(rows=np.array([5, 4, 3, 2, 1, 0]), **gaps)
    there, positions = (
        ResidentDataset(arrays, torch.device("cpu")),
        [np.array([4, 0]), np.array([1])],
    )
    pairs = zip(loader(arrays, positions), loader(there, positions, workers=2), strict=True)
    for batch, same in pairs:
        assert batch["inputs"]["image"].dtype == same["inputs"]["image"].dtype == torch.uint8
        assert torch.equal(batch["inputs"]["image"], same["inputs"]["image"])
        assert torch.equal(batch["present"]["image"], same["present"]["image"])
        assert torch.equal(batch["y"], same["y"])
    assert len(there) == 6 and there.id is arrays.id and not hasattr(there, "set_epoch")


def test_examples_move_to_a_gpu_alone_and_only_where_they_fit(monkeypatch):
    moved, free = [], 8 * 6 * 16  # 6 examples of 4 floats are an eighth of it
    monkeypatch.setattr("i2m2.training.data.ResidentDataset", lambda *given: moved.append(given))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, free))
    gpu, arrays, more = torch.device("cuda"), split(), split(7)
    assert resident(arrays, torch.device("cpu")) is arrays and resident(more, gpu) is more
    assert resident(arrays, gpu) is None and moved == [(arrays, gpu)]
