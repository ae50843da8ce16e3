"""VQA-VS's files: every published form reads the same, questions meet their answers, and damage is
named."""

import gzip
import json
import re
import shutil
import zipfile

import numpy as np
import pytest

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.audit import OVERLAP, audit_vqa, main
from VQA_and_NLVR2.inputs import json_files
from VQA_and_NLVR2.vqa_vs.annotations import join, read_annotations, read_questions
from VQA_and_NLVR2.vqa_vs.files import OOD_SETS, PUBLISHED, count_vocabulary, read_vqa_vs
from VQA_and_NLVR2.vqa_vs.images import image_path, missing_images


def questions(*ids):
    return [{"image_id": i // 1000, "question": f"What is {i % 3}?", "question_id": i} for i in ids]


def answers(*ids, kind="other"):
    ten = ["red"] * 6 + ["blue"] * 3 + ["wine red"]
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": k}
        for k, answer in enumerate(ten, 1)
    ]
    record = {
        "question_type": "what is",
        "answer_type": kind,
        "multiple_choice_answer": "Red.",
        "answers": given,
    }
    return [{"question_id": i, "image_id": i // 1000, **record} for i in ids]


PARTS = {"Training": range(1000, 1012), "Val": range(2000, 2003), "IID-Test": range(3000, 3010)}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def root(tmp_path):
    """A whole data set: 12, 3 and 10 questions; OOD set k has the first k + 1 questions of the IID
    test."""
    folder = tmp_path / "vqa_vs"
    for part, ids in PARTS.items():
        write(folder / part / f"{part}-Ques.json", questions(*ids))
        write(folder / part / f"{part}-Ans.json", answers(*reversed(ids)))
    for k, name in enumerate(OOD_SETS):
        path = folder / "OOD-Test" / name / f"OOD-Test-{name}-Ques.json"
        write(path, questions(*list(PARTS["IID-Test"])[k::-1]))
    return folder


def same(a, b):
    """Whether two data sets hold the same strings and numbers."""
    for x, y in zip(a.splits.values(), b.splits.values(), strict=True):
        for field in ("question_id", "image_id", "answer_type"):
            np.testing.assert_array_equal(getattr(x, field), getattr(y, field))
        assert x.question.texts() == y.question.texts() and x.answers.texts() == y.answers.texts()
    np.testing.assert_array_equal(a.member, b.member)
    return True


def test_real_slice_reads_and_its_statistics_are_those_of_its_readme(shared):
    folder = shared / "data/vqa_vs"
    read = (
        read_questions(folder / "Val-slice-Ques.json.gz"),
        read_annotations(folder / "Val-slice-Ans.json.gz"),
    )
    split = join(*read)
    assert len(split) == 1500 and len(np.unique(split.image_id)) == 940
    assert np.bincount(split.answer_type).tolist() == [603, 216, 681]
    assert max(len(text.split()) for text in split.question.strings) == 20
    with gzip.open(folder / "Val-slice-Ans.json.gz") as file:
        raw = json.load(file)
    assert split.answers.texts() == [
        answer["answer"] for record in raw for answer in record["answers"]
    ]
    assert split.majority.texts() == [record["multiple_choice_answer"] for record in raw]
    text = "\n".join(audit_vqa(folder))
    assert "1,500 questions" in text and "940 images; yes/no 603, number 216, other 681" in text
    assert (
        "15 answers; 448 distinct normalised majority answers" in text
        and "546 of 1,500 (36.4%)" in text
    )
    assert "yes_no 100.00, number 98.15, other 95.79" in text


def test_questions_meet_their_answers_in_any_order(root):
    data = read_vqa_vs(root)
    assert [len(split) for split in data.splits.values()] == [12, 3, 10]
    assert data.val.question_id.tolist() == [2000, 2001, 2002] and data.val.question[
        1:
    ].texts() == ["What is 0?", "What is 1?"]
    assert data.val.answers[0].texts() == ["red"] * 6 + ["blue"] * 3 + ["wine red"]
    assert data.member.tolist() == [[column >= row for column in range(9)] for row in range(10)]
    taken = data.test.take(np.array([3, 1]))
    assert taken.question_id.tolist() == [3003, 3001] and taken.answers.codes.shape == (2, 10)


def test_every_published_form_reads_the_same(root, tmp_path):
    plain = read_vqa_vs(root)
    packed = tmp_path / "packed"  # as in the authors' repository
    (packed / "data/Training").mkdir(parents=True)
    for name in ("Ques", "Ans"):
        with zipfile.ZipFile(packed / f"data/Training/Training-{name}.json.zip", "w") as archive:
            archive.write(root / f"Training/Training-{name}.json", f"Training-{name}.json")
            archive.writestr(f"__MACOSX/._Training-{name}.json", "nonsense")
    for part in ("Val", "IID-Test", "OOD-Test"):
        shutil.make_archive(str(packed / "data" / part), "zip", root, part)
    assert same(plain, read_vqa_vs(packed))
    for part in PARTS:  # VQA v2's objects, compressed
        for name, key in (("Ques", "questions"), ("Ans", "annotations")):
            path = root / part / f"{part}-{name}.json"
            wrapped = {
                "info": {"version": "2.0"},
                key: json.loads(path.read_text()),
                "license": {"name": "[x]"},
                "n": 17,
            }
            with gzip.open(f"{path}.gz", "wt") as file:
                json.dump(wrapped, file)
            path.unlink()
    assert same(plain, read_vqa_vs(root))


def test_reading_in_blocks_equals_reading_at_once(root, monkeypatch):
    plain = read_vqa_vs(root)
    for block in (1, 7, 100):
        monkeypatch.setattr(json_files, "BLOCK", block)
        assert same(plain, read_vqa_vs(root))


def in_test_annotations(root, counts=None, **others):
    """The test's answers and sets in test_annotations.json, some entries being `others`."""
    counts = counts or {"red": 6, "blue": 3, "wine red": 1}
    record = {"answer_type": "other", "answers_word": ["red"], "answer_count": counts}
    counted = [{"question_id": i, **record} for i in PARTS["IID-Test"]]
    lists = {
        f"{name.replace('+', '')}_qid": list(PARTS["IID-Test"])[: k + 1]
        for k, name in enumerate(OOD_SETS)
    }
    write(root / "test_annotations.json", {**lists, **others, "annotations": counted})
    (root / "IID-Test/IID-Test-Ans.json").unlink()
    shutil.rmtree(root / "OOD-Test")


@pytest.mark.parametrize("ids", [["a"], None, {"1": 2}, [[1]], [3000.4], [3000.0], [True], [1e30]])
def test_a_list_of_ids_that_is_none_is_named_by_file_and_key(root, ids):
    in_test_annotations(root, QT_qid=ids)
    with pytest.raises(DataError, match=r"test_annotations.json:\[QT_qid\]: .* question_id"):
        read_vqa_vs(root)


@pytest.mark.parametrize("counts", [{"red": -3, "blue": 4}, {"red": 2.0}, {"red": True}])
def test_answers_are_counted_by_whole_numbers(root, counts):
    in_test_annotations(root, counts)
    with pytest.raises(DataError, match=r"question_id 3000\): answer_count 'red': .* is no count"):
        read_vqa_vs(root)


def test_a_vocabulary_that_cannot_be_counted_says_what_can_be_done(root):
    path = root / "Training/Training-Ans.json"
    rows = json.loads(path.read_text())
    del rows[2]["multiple_choice_answer"]
    write(path, rows)
    line = "first question_id 1009; give Training/Training-Ans.json with one in every record$"
    with pytest.raises(DataError, match=line):
        count_vocabulary(read_vqa_vs(root), "training")


def test_test_annotations_stand_in_for_the_answers_and_the_sets(root):
    plain = read_vqa_vs(root)
    in_test_annotations(root)
    data = read_vqa_vs(root)
    assert same(plain, data)
    assert count_vocabulary(data, "training").answers == ("red",)
    with pytest.raises(DataError, match="test: 10 questions have no mul.*or choose the voc"):
        count_vocabulary(data, "fiber")
    for part, ids in (("train", PARTS["Training"]), ("val", PARTS["IID-Test"])):
        write(root / f"v2_mscoco_{part}2014_annotations.json", {"annotations": answers(*ids)})
    assert count_vocabulary(data, "fiber", root).answers == ("red",)
    assert "vocabulary fiber: 1 answers, published: 3,129" in "\n".join(audit_vqa(root))


def test_rules_count_their_own_splits(root):
    changed = json.loads((root / "IID-Test/IID-Test-Ans.json").read_text())
    for record in changed:
        record["multiple_choice_answer"] = "two"
    write(root / "IID-Test/IID-Test-Ans.json", changed)
    data = read_vqa_vs(root)
    assert count_vocabulary(data, "fiber").answers == ("red", "2") and count_vocabulary(
        data, "training"
    ).answers == ("red",)
    with pytest.raises(SettingsError, match="choose one of fiber, training"):
        count_vocabulary(data, "vqa")


def _drop(key):
    return lambda rows: [{k: v for k, v in row.items() if k != key} for row in rows]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "Val/Val-Ans.json",
            lambda rows: rows[:2],
            "Val-Ans.json: has nothing for 1 of 3 question_ids .*first 2000",
        ),
        (
            "Val/Val-Ques.json",
            lambda rows: rows[:2],
            "Val-Ques.json: has nothing for 1 of 3 question_ids .*first 2002",
        ),
        (
            "Val/Val-Ques.json",
            lambda rows: rows + rows[:1],
            "1 records repeat another's question_id, first 2000",
        ),
        ("Val/Val-Ques.json", lambda rows: [], "holds no records"),
        ("Val/Val-Ques.json", lambda rows: {"info": []}, "nor an object with a list 'questions'"),
        ("Val/Val-Ques.json", lambda rows: [17], "record 0"),
        (
            "Val/Val-Ques.json",
            lambda rows: [row | {"question": ""} for row in rows],
            r"\(question_id 2000\): its text is empty",
        ),
        (
            "Val/Val-Ques.json",
            lambda rows: [rows[0], rows[1] | {"question": "what \ud800 is it"}],
            r"record 1 \(question_id 2001\): 'what \\ud800 is it' is no Unicode text",
        ),
        ("Val/Val-Ques.json", _drop("question"), r"record 0 \(question_id 2000\): no 'question'"),
        (
            "Val/Val-Ans.json",
            lambda rows: [row | {"answer_type": "Other"} for row in rows],
            "'Other' is none of yes/no, number",
        ),
        (
            "Val/Val-Ans.json",
            lambda rows: [row | {"answers": row["answers"][:9]} for row in rows],
            "9 answers, not 10",
        ),
        (
            "Val/Val-Ans.json",
            lambda rows: [row | {"image_id": 7} for row in rows],
            "another image_id .* question_id 2000",
        ),
        (
            "Val/Val-Ans.json",
            lambda rows: [row | {"question_id": "x"} for row in rows],
            r"record 0 \(question_id x\)",
        ),
        (
            "OOD-Test/KO/OOD-Test-KO-Ques.json",
            lambda rows: rows + questions(1, 2),
            "2 of 7 questions of OOD set KO .* 1;",
        ),
    ],
)
def test_what_does_not_fit_is_named(root, file, change, message):
    rows = json.loads((root / file).read_text())
    write(root / file, change(rows))
    with pytest.raises(DataError, match=message):
        read_vqa_vs(root)


def test_a_question_in_two_splits_is_refused(root):
    for name, make in (("Ques", questions), ("Ans", answers)):
        write(root / f"Val/Val-{name}.json", make(2000, 1003))
    with pytest.raises(DataError, match="train and val share 1 question_ids, first 1003"):
        read_vqa_vs(root)


def test_damaged_and_missing_files_are_named(root):
    path = root / "Val/Val-Ans.json"
    text = path.read_text()
    for spoiled in (text[:-40], text[:-1], text + "x", text.replace('"Red."', "Red"), ""):
        path.write_text(spoiled)
        with pytest.raises(
            DataError, match=r"Val-Ans.json: cut short or damaged \(no JSON: .* at character"
        ):
            read_vqa_vs(root)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="Val-Ans.json: cut short or damaged"):
        read_vqa_vs(root)
    path.unlink()
    whole = gzip.compress(text.encode())
    for spoiled in (whole[:-30], whole[:10] + b"xxxx" + whole[14:], b"no gzip"):
        path.with_name("Val-Ans.json.gz").write_bytes(spoiled)
        with pytest.raises(DataError, match="Val-Ans.json.gz: cut short or damaged"):
            read_vqa_vs(root)
    path.with_name("Val-Ans.json.gz").unlink()
    (root / "Val.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="Val.zip: cut short or damaged"):
        read_vqa_vs(root)
    (root / "Val.zip").unlink()
    shutil.rmtree(root / "IID-Test")
    with pytest.raises(
        DataError, match="3 of 6 files are missing: Val/Val-Ans.json, IID-Test/IID-Test-Ques.json"
    ):
        read_vqa_vs(root)
    with pytest.raises(DataError, match="no such folder"):
        read_vqa_vs(root / "nowhere")


def test_where_a_file_is_cut_short_is_told_by_its_own_characters(root):
    path = root / "Val/Val-Ques.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match="cut short or damaged") as error:
        read_vqa_vs(root)
    where = re.search(r"at character ([0-9]+)", str(error.value))[1]
    assert int(where) <= len(path.read_text())


def test_a_missing_ood_set_is_named(root):
    shutil.rmtree(root / "OOD-Test/QT+KW")
    file = r"OOD-Test/QT\+KW/OOD-Test-QT\+KW-Ques.json"
    line = f"no {file}, nor test_annotations.json with QTKW_qid"
    with pytest.raises(DataError, match=line):
        read_vqa_vs(root)


def test_images_are_found_in_either_folder_and_missing_ones_counted(tmp_path):
    for part, number in (("train2014", 9), ("val2014", 57), ("val2014", 581929)):
        write(tmp_path / part / f"COCO_{part}_{number:012d}.jpg", 0)
    write(tmp_path / "train2014/COCO_val2014_000000000011.jpg", 0)  # strays
    write(tmp_path / "val2014/thumbs.db", 0)
    (tmp_path / "val2014/COCO_val2014_000000000012.jpg").symlink_to(tmp_path / "gone.jpg")
    ids = np.array([57, 9, 11, 57, 581929, 12, 12])
    paths = image_path(tmp_path, ids)
    assert [path is not None for path in paths] == [True, True, False, True, True, False, False]
    assert paths[:3] == [
        tmp_path / "val2014/COCO_val2014_000000000057.jpg",
        tmp_path / "train2014/COCO_train2014_000000000009.jpg",
        None,
    ]
    assert all(path is None or path.is_file() for path in paths)
    assert missing_images(ids, paths) == "images: 2 of 5 missing: 11, 12"
    assert missing_images(ids, paths, first=1) == "images: 2 of 5 missing: 11, ..."
    assert missing_images(ids[:2], paths[:2]) == "images: all 2 found"
    with pytest.raises(DataError, match="neither train2014 nor val2014"):
        image_path(tmp_path / "train2014", ids)


@pytest.mark.parametrize("ending", [".jpeg", ".JPG", ".png"])
def test_images_are_found_whatever_their_ending_and_none_is_chosen_of_two(tmp_path, ending):
    ids, image = np.array([9]), tmp_path / "val2014/COCO_val2014_000000000009.jpg"
    write(image.with_suffix(ending), 0)
    assert image_path(tmp_path, ids) == [image.with_suffix(ending)]
    write(image.with_suffix(".gif"), 0)
    with pytest.raises(DataError, match=r"000009\..* two pictures of one name, and neither is "):
        image_path(tmp_path, ids)
    write(image, 0)
    assert image_path(tmp_path, ids) == [image]


def test_audit_prints_sizes_beside_the_published_ones_and_the_sets_overlap(root, capsys):
    (root / "train2014").mkdir()
    main(["--dataset", "vqa_vs", "--data", str(root), "--images", str(root)])
    text = capsys.readouterr().out
    assert (
        "train: 12 questions; PUBLISHED: 461,124" in text
        and "images: 3 of 3 missing: 1, 2, 3" in text
    )
    row = next(line for line in text.splitlines() if line.startswith("  KWP"))
    assert row.split()[1:] == ["33", "67", *["100"] * 7]  # of three questions, set k has k + 1
    write(
        root / "dataset.json",
        {"variant": "synthetic", "synthetic": True, "description": "a few lines"},
    )
    main(["--dataset", "vqa_vs", "--data", str(root)])
    assert (
        "SYNTHETIC" in (text := capsys.readouterr().out)
        and "461,124" not in text
        and "published table" not in text
    )


def test_published_table_of_overlaps_agrees_with_the_published_sizes():
    share = np.array(OVERLAP.split(), float).reshape(9, 9) / 100
    size = np.array([PUBLISHED[name] for name in OOD_SETS])
    shared = share * size[:, None]  # questions in both sets, counted from either
    assert (np.abs(shared - shared.T) <= 0.0051 * (size[:, None] + size)).all()
    assert sum(PUBLISHED[name] for name in ("train", "val", "test")) == 658_111
