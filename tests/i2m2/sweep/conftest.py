"""Jobs of a toy program."""

import pytest

from i2m2.sweep.plan import Job

TOY = "tests.i2m2.sweep.toy"


@pytest.fixture
def toy(monkeypatch):
    """toy("a", "--fail", 1, needs=["b"]) -> a job."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # else they are counted, by PyTorch

    def make(name, *arguments, needs=()):
        words = [str(argument) for argument in arguments]
        return Job(name=name, program=TOY, arguments=words, needs=list(needs))

    return make
