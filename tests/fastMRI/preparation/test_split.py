"""The parts of the published list, and patients with several volumes."""

from fastMRI.preparation.labels import read_file_list
from fastMRI.preparation.split import digest, split, split_volumes


def test_parts_begin_with_the_known_names(published):
    part_of = split(read_file_list(published / "knee_file_list.csv")[0])
    for part, first in (
        ("train", ["0000", "0003", "0005"]),
        ("val", ["0001", "0007", "0021"]),
        ("test", ["0002", "0015", "0039"]),
    ):
        names = sorted(name for name in part_of if part_of[name] == part)
        assert [name[-4:] for name in names[:3]] == first


def test_patients_stay_together_and_crossings_are_counted():
    names = [f"file{index}" for index in range(40)]
    parts = split(names)
    crossing = [next(name for name in names if parts[name] == part) for part in ("train", "test")]
    alone = {name: name for name in names}
    assert split_volumes(names, alone, "auto") == split_volumes(names, alone, "volume")
    twice = alone | dict.fromkeys(crossing, "p")
    part_of, facts = split_volumes(names, twice, "auto")
    assert facts.by == "patient"
    assert facts.patients_with_several_volumes == facts.patients_crossing_parts_by_volume == 1
    assert len({part_of[name] for name in crossing}) == 1
    assert part_of == {name: split(twice.values())[patient] for name, patient in twice.items()}
    part_of, facts = split_volumes(names, twice, "volume")
    assert part_of == parts
    assert facts.by == "volume" and facts.patients_crossing_parts_by_volume == 1
    # A volume's part does not depend on which others are there.
    some = {name: name for name in names[:7]}
    part_of, facts = split_volumes(names, some, "volume")
    assert part_of == {name: parts[name] for name in some}
    of_val = digest(name for name in names if parts[name] == "val")
    assert facts.listed_by_volume_sha256["val"] == of_val
