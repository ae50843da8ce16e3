"""Settings of the made-up data set of `tests/i2m2/conftest.py`, as its `paper.yaml` names them."""

from dataclasses import dataclass, field

from i2m2.settings import RunConfig, setting


@dataclass(frozen=True, kw_only=True)
class ToyData:
    dir: str = setting("data/toy", "location")
    source: str = field(default="files", metadata={"repeat": True})
    train_size: int | None = setting(None, "budget")


@dataclass(frozen=True, kw_only=True)
class ToyModel:
    rank: int = 40
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class ToySettings(RunConfig):
    data: ToyData = field(default_factory=ToyData)
    model: ToyModel = field(default_factory=ToyModel)
