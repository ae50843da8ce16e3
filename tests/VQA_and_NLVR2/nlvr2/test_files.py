"""NLVR2's files: sentences, subsets, photographs in either layout, scores, and what is wrong with a
line."""

import gzip
import json
import os
import zipfile

import numpy as np
import pytest

from i2m2.errors import DataError, SettingsError
from VQA_and_NLVR2.audit import audit_nlvr2, main
from VQA_and_NLVR2.nlvr2.files import balance, coverage, hold_out, image_path, read_nlvr2, subset
from VQA_and_NLVR2.nlvr2.scores import consistency, scores

# identifier, label, directory: two sentences about two pairs, one about one pair, one about another
EXAMPLES = [
    ("train-7-0-0", "True", 3),
    ("train-7-1-0", "False", 3),
    ("train-7-0-1", "True", 3),
    ("train-7-1-1", "True", 3),
    ("train-8-0-0", "False", 3),
    ("train-9-0-0", "True", 12),
]


def line(identifier, label, directory=None):
    set_, pair = identifier.split("-")[1:3]
    record = {
        "identifier": identifier,
        "label": label,
        "sentence": f"About {identifier[-1]}.",
        "synset": "x",
        "validation": {},
    }
    record |= {
        "left_url": f"http://a/{set_}-{pair}.jpg?x=[1]",
        "right_url": f"http://b/{set_}-{pair}.jpg",
    }
    return json.dumps(record | ({} if directory is None else {"directory": directory})) + "\n"


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.json"
    path.write_text("".join(line(*example) for example in EXAMPLES))
    return path


def test_columns_by_hand(train):
    sentences = read_nlvr2(train)
    assert sentences.identifier.tolist() == [name for name, *_ in EXAMPLES]
    assert sentences.label.tolist() == [1, 0, 1, 1, 0, 1] and sentences.label.dtype == np.int8
    assert sentences.numbers[1].tolist() == [7, 1, 0] and sentences.directory.tolist() == [
        3
    ] * 5 + [12]
    assert sentences.sentence.texts()[2] == "About 1." and len(sentences.sentence.strings) == 2
    assert sentences.urls[4].texts() == ["http://a/8-0.jpg?x=[1]", "http://b/8-0.jpg"]
    assert [len(np.unique(part)) for part in (sentences.pair, sentences.group)] == [4, 4]
    assert sentences.group[0] == sentences.group[1] != sentences.group[2] == sentences.group[3]
    compressed = train.with_name("train.json.gz")
    compressed.write_bytes(gzip.compress(b"\n" + train.read_bytes()))
    assert read_nlvr2(compressed).identifier.tolist() == sentences.identifier.tolist()


def test_balanced_pairs_by_hand(train):
    balanced, unbalanced = balance(read_nlvr2(train))
    assert balanced.tolist() == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]  # pair 1 of set 7 is false, then true
    assert unbalanced.tolist() == [True, False, True, False, False, False]


def test_accuracy_and_consistency_by_hand(train):
    sentences = read_nlvr2(train)
    predicted = np.array([1, 0, 1, 0, 0, 0])
    found = scores(sentences, predicted, *balance(sentences))
    assert found == {
        "accuracy": pytest.approx(4 / 6),
        "consistency": 2 / 4,
        "accuracy_balanced": 0.5,
        "accuracy_unbalanced": 1.0,
    }
    assert np.isnan(consistency(np.array([]), np.array([])))


def test_real_files_have_the_statistics_of_their_readme_and_the_url_rule_finds_the_published_subset(
    shared,
):
    folder = shared / "data/nlvr2"
    whole = read_nlvr2(folder / "balanced_dev.json.gz")
    dev = read_nlvr2(folder / "dev_first300.json.gz")
    test = read_nlvr2(folder / "test1_first300.json.gz")
    facts = [
        [len(s), len(np.unique(s.pair)), len(np.unique(s.group)), int(s.label.sum())]
        for s in (whole, dev, test)
    ]
    assert facts == [[2300, 1150, 1116, 1150], [300, 171, 88, 155], [300, 172, 87, 157]]
    balanced, unbalanced = balance(dev)
    assert balanced.sum() == 94 and not (balanced & unbalanced).any()
    np.testing.assert_array_equal(balanced, np.isin(dev.identifier, whole.identifier))
    assert balance(whole)[0].all()
    with pytest.raises(DataError, match="2,206 of 2,300 examples are not in the split"):
        subset(dev, folder / "balanced_dev.json.gz")
    text = "\n".join(audit_nlvr2(folder))
    assert (
        "balanced_dev.json.gz: 2,300 examples, 1,150 image pairs, 1,150 true, as published" in text
    )
    assert (
        "1,116 groups" in text
        and "dev_first300.json.gz: 300 examples, 171 image pairs, 155 true" in text
    )


def test_subset_is_found_by_identifier(train, tmp_path):
    path = tmp_path / "balanced.json"
    path.write_text("".join(line(*EXAMPLES[k]) for k in (3, 1)))
    assert subset(read_nlvr2(train), path).tolist() == [False, True, False, True, False, False]


def test_whole_directories_are_held_out(train, tmp_path):
    sentences = read_nlvr2(train)
    kept, held = hold_out(sentences, [12], train)
    assert kept.identifier.tolist() == [
        name for name, *_ in EXAMPLES[:5]
    ] and held.identifier.tolist() == ["train-9-0-0"]
    for directories in ([3, 12], [5], []):
        with pytest.raises(SettingsError, match=r"train.json has 2 directories, 3..12"):
            hold_out(sentences, directories, train)
    dev = tmp_path / "dev.json"
    dev.write_text(line("dev-1-0-0", "True"))
    with pytest.raises(DataError, match="dev.json: 1 examples have no directory, first dev-1-0-0"):
        hold_out(read_nlvr2(dev), [1], dev)


@pytest.mark.parametrize("layout", ["images/train/{}/", "images/", "", "train/{}/"])
def test_photographs_are_found_in_every_layout_and_missing_ones_counted(train, tmp_path, layout):
    sentences = read_nlvr2(train)
    root = tmp_path / "photos"
    for identifier, _, directory in EXAMPLES[:4]:
        for side in (0, 1):
            path = root / layout.format(directory) / f"{identifier.rsplit('-', 1)[0]}-img{side}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (path.parent / "train-7-1-img1.png").unlink()
    (path.parent / "train-8-0-img0.png").touch()
    left, right = image_path(root, sentences)
    assert [path is not None for path in left] == [True] * 5 + [False]
    assert [path is not None for path in right] == [True, False, True, False, False, False]
    assert left[0].name == "train-7-0-img0.png" and right[0].name == "train-7-0-img1.png"
    assert all(path is None or path.is_file() for path in left + right)
    (text,) = coverage(sentences, left, right)
    assert text == (
        "train: 2 of 6 examples and 1 of 4 image pairs are complete; "
        "4 photographs missing, first train-7-1-img1.png"
    )


def photograph(*places):
    """Empty files, whose content nobody reads."""
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_of_two_photographs_of_one_name_that_in_the_published_place_is_taken(train, tmp_path):
    root, sentences = tmp_path / "photos", read_nlvr2(train)
    published = root / "images/train/3/train-7-0-img0.png"
    copies = [root / "images" / name for name in ("a", "train/3/old", "train", "z")]
    photograph(published, *(folder / published.name for folder in copies))
    photograph(published.with_suffix(".jpg"))
    assert image_path(root, sentences)[0][0] == published
    published.unlink()
    assert image_path(root, sentences)[0][0] == published.with_suffix(".jpg")
    published.with_suffix(".jpg").unlink()
    assert image_path(root, sentences)[0][0] == copies[2] / published.name


@pytest.mark.parametrize(
    ("example", "published"),
    [(EXAMPLES[0], "train/3/train-7-0"), (("dev-7-0-0", "True"), "dev/dev-7-0")],
)
def test_of_two_photographs_of_one_name_elsewhere_none_is_chosen(train, example, published):
    train.write_text(line(*example))
    name = f"{published.rpartition('/')[2]}-img0.png"
    photograph(*(train.parent / "images" / folder / name for folder in ("new", "old")))
    message = (
        f"new/{name} and .*old/{name}: two pictures of one name, and neither"
        f" is .*images/{published}-img0.png, where it is published"
    )
    with pytest.raises(DataError, match=message):
        image_path(train.parent, read_nlvr2(train))


@pytest.mark.parametrize("ending", [".jpg", ".PNG", ".jpeg"])
def test_photographs_are_found_whatever_their_ending(train, tmp_path, ending):
    photograph(tmp_path / f"images/train-7-0-img1{ending}", tmp_path / "images/train-7-0-img1.txt")
    assert image_path(tmp_path, read_nlvr2(train))[1][0].suffix == ending


def test_a_folder_without_photographs_is_named(train, tmp_path):
    with pytest.raises(DataError, match=r"no photograph \*-img0.png"):
        image_path(tmp_path, read_nlvr2(train))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            line("train-1-0-0", "true"),
            r"line 7 \(identifier train-1-0-0\): label 'true' is neither 'True' nor 'False'",
        ),
        (line("train-1-0-0", True), "label True is neither"),
        (line("train-1-0", "True"), "'train-1-0' is not split-set-pair-sentence"),
        (line("train-1-0-x", "True"), "'train-1-0-x' is not split-set-pair-sentence"),
        (line("train-1-0-\uff11", "True"), "'train-1-0-\uff11' is not split-set-pair-sentence"),
        (
            json.dumps(json.loads(line("train-1-0-0", "True")) | {"sentence": "a \udfff"}),
            r"line 7 \(identifier train-1-0-0\): 'a \\udfff' is no Unicode text",
        ),
        (line("train-1-0-0", "True").replace('"sentence"', '"text"'), "no 'sentence'"),
        (
            json.dumps(json.loads(line("train-1-0-0", "True")) | {"sentence": " "}),
            r"line 7 \(identifier .*\): its text is empty",
        ),
        (line("train-1-0-0", "True")[:60], "line 7: "),
        ("17\n", "line 7"),
        (line(*EXAMPLES[0]), "1 records repeat another's identifier, first train-7-0-0"),
    ],
)
def test_a_wrong_line_is_named(train, text, message):
    with open(train, "a") as file:
        file.write(text)
    with pytest.raises(DataError, match=message):
        read_nlvr2(train)


def test_a_truncated_file_an_empty_one_and_an_empty_folder_are_named(train, tmp_path):
    path = tmp_path / "cut.json.gz"
    path.write_bytes(gzip.compress(train.read_bytes())[:-20])
    with pytest.raises(DataError, match="cut.json.gz: cut short or damaged"):
        read_nlvr2(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="holds no records"):
        read_nlvr2(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of NLVR2 sentences"):
        main(["--dataset", "nlvr2", "--data", str(tmp_path / "empty")])


def test_the_audit_names_splits_that_are_absent_and_files_that_hold_no_sentences(train, capsys):
    folder = train.parent
    (folder / "notes.json").write_text('{"about": "something else"}')
    for value in ('"s"', "3", "null", " -1.5 "):
        (folder / f"value{len(value)}.json").write_text(value)
    main(["--dataset", "nlvr2", "--data", str(folder)])
    printed = capsys.readouterr().out
    assert "dev: MISSING" in printed and "test1: MISSING" in printed
    assert "train: MISSING" not in printed
    assert "notes.json: holds no NLVR2 sentences, left out" in printed
    assert printed.count("holds no NLVR2 sentences, left out") == 5
    assert "images: not looked at" in printed
    (folder / "dev.json").write_text('{"about": "something else"}')
    with pytest.raises(DataError, match="dev.json: holds no NLVR2 sentences"):
        main(["--dataset", "nlvr2", "--data", str(folder)])


def test_the_audit_looks_at_images_beside_the_files_as_the_readme_says(train, capsys):
    photographs = train.parent / "images/train/3"
    photographs.mkdir(parents=True)
    for side in (0, 1):
        (photographs / f"train-7-0-img{side}.png").touch()
    main(["--dataset", "nlvr2", "--data", str(train.parent)])
    assert "1 of 4 image pairs are complete" in capsys.readouterr().out


def test_pipes_and_json_nested_too_deeply_are_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match="is a named pipe, not a file"):
        read_nlvr2(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="deep.json") as error:
        main(["--dataset", "nlvr2", "--data", str(tmp_path)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_of_any_compression_is_one_line(method, train, tmp_path):
    path = tmp_path / "dev.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.write(train, "dev.json")
    content = bytearray(path.read_bytes())
    content[60:100] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match="dev.zip: cut short or damaged"):
        read_nlvr2(path)
