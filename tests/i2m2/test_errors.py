"""How a command reports what a user can fix: one line and an exit code."""

import warnings

import pytest

from i2m2.errors import CommandParser, DamagedError, DataError, SettingsError, aligned, run_command


@pytest.mark.parametrize(
    "error, code, line",
    [
        (SettingsError("no such\nrun"), 2, "no such run"),
        (DataError("x.npy: damaged"), 3, "x.npy: damaged"),
        (DamagedError("x.npz is damaged"), 3, "x.npz is damaged"),
        # As a worker of a data loader sends it, after the traceback.
        (DataError("Caught DataError ...\nDataError: row 3 holds NaN"), 3, "row 3 holds NaN"),
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (OSError(28, "No space left", "a.npz"), 1, "a.npz: No space left; free space or fix the"),
        (OSError(24, "Too many open files", "a"), 1, "a: Too many open files; allow more at a"),
        (KeyboardInterrupt(), 130, "interrupted; what is in the folder of results is kept"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_an_exit_code(error, code, line, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as exit:
        run_command(main)
    printed = capsys.readouterr()
    assert exit.value.code == code and printed.out == ""
    assert printed.err.startswith(f"error: {line}") and printed.err.count("\n") == 1


def test_a_warning_is_one_line_on_stderr(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run_command(lambda argv: warnings.warn("a column\n of notes", stacklevel=1))
    assert capsys.readouterr().err == "warning: a column of notes\n"


def test_a_mistake_in_the_program_keeps_its_traceback():
    def main(argv):
        raise KeyError("y")

    with pytest.raises(KeyError):
        run_command(main)


def test_a_wrong_word_is_a_settings_error():
    with pytest.raises(SettingsError, match="unrecognized arguments: --x .see --help."):
        CommandParser(prog="p").parse_args(["--x"])


def test_rows_are_aligned():
    rows = [["", "accuracy"], ["product", "0.5"]]
    assert aligned(rows) == "         accuracy\nproduct       0.5"
    assert aligned(rows, others="left") == "         accuracy\nproduct  0.5"
