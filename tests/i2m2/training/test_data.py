"""The order of examples, the division of an update, and the checks on loading."""

import numpy as np
import pytest
import torch

from i2m2.errors import DataError
from i2m2.training.data import ArrayDataset, check_dataset, loader, training_plan


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


def test_a_value_that_is_not_finite_is_reported_with_file_and_row():
    data = split(source={"image": "image/train_data.npy"})
    data.inputs["image"][4, 1] = np.nan
    with pytest.raises(DataError, match="image/train_data.npy: row 4 holds NaN or infinity"):
        data[np.array([0, 4])]


@pytest.mark.parametrize(
    "train, test, message",
    [
        (split(), split(first_id=5), "test and train share 1 ids, first 5"),
        (
            split(y=np.array([0, 1, 10, 0, 0, 0])),
            split(first_id=9),
            "train: label 10 of id 2 is outside 0..2",
        ),
        (split(), split(0, first_id=9), "test: no examples"),
        (split(id=np.zeros(6, int)), split(first_id=9), "train: an id occurs twice"),
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
