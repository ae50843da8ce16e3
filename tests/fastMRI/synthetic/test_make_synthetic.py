"""python -m fastMRI.make_synthetic"""

import pytest

from fastMRI.make_synthetic import describe, main, make_volumes
from fastMRI.synthetic.plan import Strengths
from i2m2.errors import BusyError, SettingsError
from tests.conftest import held_by_another
from tests.fastMRI.synthetic.tiny_plans import SLICES, VOLUMES, files


def test_same_bytes_whatever_the_number_of_workers_and_made_again_after_a_kill(made, tmp_path):
    again = tmp_path / "raw"
    make_volumes(again, VOLUMES, slices=SLICES, workers=2)
    relative, of_again = (
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for folder in (made, again)
    )
    assert relative == of_again
    assert all((made / path).read_bytes() == (again / path).read_bytes() for path in relative)
    gone, kept = files(again)[0], files(again)[1]
    before, content = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    (gone.parent / f".1.tmp.{gone.name}").write_bytes(content[:100])
    make_volumes(again, VOLUMES, slices=SLICES)
    assert gone.read_bytes() == content
    assert kept.stat().st_mtime_ns == before
    assert not list(again.glob("*/.*"))


def test_command_says_what_it_wrote(tmp_path, capsys):
    settings = "--volumes 1 --slices 1 1 --seed 3 --interaction 0.5 --row-beyond"
    main(["--out", str(tmp_path / "raw"), *settings.split()])
    line = describe(1, 3, Strengths(interaction=0.5), (1, 1), row_beyond=True)
    assert "SYNTHETIC" in line and (tmp_path / "raw/SYNTHETIC.txt").read_text() == line + "\n"
    assert capsys.readouterr().out.startswith(line)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--volumes", "0"], "--volumes 0 must be 1"),
        (["--volumes", "2", "--seed", "-1"], "--seed -1"),
        (["--volumes", "2", "--slices", "4", "2"], "--slices 4 2"),
        (["--volumes", "2", "--magnitude", "nan"], "--magnitude nan must be 0..2"),
        (["--volumes", "2", "--interaction", "-1"], "--interaction -1.0"),
        (["--volumes", "2", "--workers", "0"], "--workers 0"),
        ([], "required: --volumes"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(arguments, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        main(["--out", str(tmp_path / "raw"), *arguments])
    assert not (tmp_path / "raw").exists()


def test_a_folder_of_anything_else_is_refused(made, tmp_path):
    with pytest.raises(SettingsError, match=r"\(seed 0, not seed 1; phase 1.4, not phase 0.2\)"):
        make_volumes(made, VOLUMES, 1, Strengths(phase=0.2), slices=SLICES)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not an empty folder"):
        make_volumes(tmp_path, 1)


def test_a_second_start_leaves_what_the_first_is_writing(tmp_path):
    make_volumes(tmp_path / "raw", 1, slices=(1, 1), workers=1)
    writing = tmp_path / "raw/singlecoil_train/.host-1.tmp.file9000000.h5"
    with held_by_another(tmp_path / "raw"):
        writing.touch()
        with pytest.raises(BusyError, match="raw: another process is at work"):
            make_volumes(tmp_path / "raw", 1, slices=(1, 1))
        assert writing.exists()
