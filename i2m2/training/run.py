"""A run's folder as it is written; a kill at any moment does it no harm."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import msgspec
import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from i2m2.errors import BusyError, DataError, SettingsError, there_and_now
from i2m2.files import Plain, finite, lock, write_atomic, write_json, write_text
from i2m2.machine.environment import environment
from i2m2.reading.paths import damaged, require_file
from i2m2.reading.yaml12 import dump_yaml
from i2m2.runs import Numbers, is_done, read_config, read_environment, read_facts
from i2m2.settings import RunConfig, config_diff, to_dict, with_role, without_effect

RUN_AGAIN = "delete its folder and run it again"
TRAIN_AGAIN = (  # of a command that does not train
    "restore them, say where they lie by --data.dir, or delete that folder and train it again"
)
# What torch, its zip files and `load_state_dict` raise for what is damaged, or of another model.
UNREADABLE = (
    RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError,
    UnpicklingError, zipfile.BadZipFile, SafetensorError, AssertionError,
)  # fmt: skip
CHECKSUM = "crc32"  # of the weights, in the metadata of best.safetensors


class Epoch(TypedDict):
    """A record of the history, as a line of metrics.jsonl."""

    epoch: int
    train_loss: float
    val: Numbers
    lr: float
    seconds: float


class LastState(TypedDict):
    """last.pt: the history, and the states of model, optimiser, schedule and scaler."""

    history: list[Epoch]
    model: Plain
    optimizer: Plain
    scheduler: Plain


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """DamagedError where reading a state ends in any other error."""
    try:
        yield
    except UNREADABLE as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise damaged(path, first, RUN_AGAIN) from error


def run_dir(config: RunConfig, variant: str = "") -> Path:
    """<out>/<dataset>[-<variant>]/<run name>/seed<k>."""
    dataset = f"{config.dataset}-{variant}" if variant else config.dataset
    return Path(config.out) / dataset / config.run_name / f"seed{config.seed}"


@dataclass(eq=False)
class Run:
    """One training and its folder."""

    dir: Path
    config: RunConfig
    writes: bool = True  # one process of a distributed run does

    @classmethod
    def open(
        cls,
        directory: Path,
        config: RunConfig,
        data: Plain,
        writes: bool = True,
        usual: int | None = None,
    ) -> Run:
        """Begin a run or resume it. SettingsError if its folder holds other settings, DataError
        if its data have changed.

        `data` describes the data set (variant, synthetic, fingerprint ...) for env.json; `usual`
        are the threads of a new run where none are set, by default `config.usual_threads`.
        """
        run = cls(directory, config, writes)
        stored: Plain = {}
        if run.started or run.done:  # else nothing was trained yet
            require_file(directory / "config.yaml", f"delete {directory} and run it again")
            stored = read_config(directory)
        usual = usual or config.usual_threads or torch.get_num_threads()
        threads = config.threads or stored.get("threads") or usual
        run.config = replace(config, threads=threads)
        if stored:
            if differing := differences(stored, run.config):
                raise SettingsError(
                    f"{directory} holds a run of other settings: {there_and_now(differing)}; "
                    "give this one a --tag, or delete that folder"
                )
            remedy = "restore them, give this run a --tag, or delete that folder"
            run.refuse_other_data(data, remedy)
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
            run._lock()
            for leftover in directory.glob(".*.tmp.*"):  # of a process that was killed
                leftover.unlink()
            if not stored:
                settings = dump_yaml(to_dict(run.config))
                # A fact may be undefined, an AUROC say.
                env = environment(config.device) | {"data": finite(data)}
                write_json(directory / "env.json", env)
                write_text(directory / "config.yaml", settings)
        return run

    @property
    def done(self) -> bool:
        return is_done(self.dir)

    @property
    def has_weights(self) -> bool:
        return (self.dir / "best.safetensors").exists()

    @property
    def started(self) -> bool:
        """Whether an epoch has been finished, after which the run can be resumed."""
        return (self.dir / "last.pt").exists()

    @property
    def facts(self) -> Plain:
        """What the run recorded about its data: variant, synthetic, description, fingerprint."""
        return read_facts(self.dir)

    def save_best(self, weights: Mapping[str, Tensor]) -> None:
        # Cloned: the format refuses tensors that share memory (an encoder that two experts use).
        contiguous = torch.contiguous_format
        copies = {k: v.detach().cpu().clone(memory_format=contiguous) for k, v in weights.items()}
        data = safetensors.torch.save(copies, {CHECKSUM: str(_checksum(copies))})
        self._write("best.safetensors", lambda path: path.write_bytes(data))

    def load_best(self) -> dict[str, Tensor]:
        """Weights of the best epoch. SettingsError if there are none yet, DataError if they are
        gone or damaged."""
        path = self.dir / "best.safetensors"
        if not (self.has_weights or self.started or self.done):
            raise SettingsError(
                f"{path} does not exist: this run has not finished an epoch yet; train it first"
            )
        require_file(path, f"delete {self.dir} and run it again")
        with readable(path):
            content = path.read_bytes()  # by its path the library would not read one beyond UTF-8
            weights = safetensors.torch.load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            written = header.get("__metadata__", {}).get(CHECKSUM)
            if written not in (None, str(_checksum(weights))):
                raise ValueError("its weights are not those that were written")
        return weights

    def load_best_into(self, model: nn.Module) -> None:
        """Give a model the weights of the best epoch. DataError if they are of another model."""
        give(model, self.load_best(), self.dir / "best.safetensors")

    def save_last(self, state: Plain) -> None:
        # Through memory: a full disk is then an OSError of ours, not an abort inside torch.save.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self._write("last.pt", lambda path: path.write_bytes(buffer.getbuffer()))

    def load_last(self) -> LastState | None:
        """The state after the latest finished epoch, on the CPU; None for a new run. DataError if
        it is damaged."""
        if not self.started:
            return None
        path = require_file(self.dir / "last.pt", RUN_AGAIN)
        with readable(path):
            with zipfile.ZipFile(path) as archive:
                if name := archive.testzip():  # torch does not look at the checksums
                    raise ValueError(f"the checksum of {name} differs")
            state = torch.load(path, map_location="cpu", weights_only=True)
            return msgspec.convert(state, LastState) and state

    def restore(self, parts: Mapping[str, object]) -> list[Plain]:
        """Give `parts`, such as model and optimizer, their states after the latest finished epoch
        -> the history; [] for a new run. DataError if these are of another model."""
        if (state := self.load_last()) is None:
            return []
        path = self.dir / "last.pt"
        with readable(path):
            states = {name: state[name] for name in parts}
        for name, part in parts.items():
            give(part, states[name], path, name)
        return state["history"]

    def write_history(self, history: list[Plain]) -> None:
        """Write metrics.jsonl, whole every time: it never has an epoch whose state was not kept."""
        text = "".join(json.dumps(finite(record), allow_nan=False) + "\n" for record in history)
        self._write("metrics.jsonl", lambda path: path.write_text(text, encoding="utf-8"))

    def save_predictions(self, split: str, predictions: Mapping[str, np.ndarray]) -> None:
        self._write(f"predictions_{split}.npz", lambda path: np.savez(path, **predictions))

    def add_to_environment(self, **facts: object) -> None:
        """Add facts to env.json, such as where a warm start came from."""
        if self.writes:
            write_json(self.dir / "env.json", read_environment(self.dir) | facts)

    def record_processes(self, number: int, batch_norm: str) -> None:
        """Note how many processes train it; after a resumption there may be several numbers."""
        before = read_environment(self.dir).get("processes", ())
        facts = {"processes": sorted({*before, number})}
        self.add_to_environment(**facts, **({"batch_norm": batch_norm} if batch_norm else {}))

    def finish(self, result: Mapping[str, Mapping[str, float]]) -> None:
        """Write result.json ({split: {metric: value}}, null where one is undefined), then DONE."""
        if self.writes:
            write_json(self.dir / "result.json", finite(result))
            write_text(self.dir / "DONE", "")

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        if self.writes:
            write_atomic(self.dir / name, write)

    def refuse_other_data(self, data: Plain, remedy: str = TRAIN_AGAIN) -> None:
        """DataError if the data at hand are not those the run began with. `remedy`: what the
        command at hand can do about it."""
        stored, now = str(self.facts.get("fingerprint", "not recorded")), data["fingerprint"]
        if stored != now:
            raise DataError(
                f"{self.dir} was made with other data "
                f"(fingerprint {stored[:12]} there, {now[:12]} now); {remedy}"
            )

    def _lock(self) -> None:
        """Lock the folder; the system frees it when this process ends, however it ends."""
        self._lock_file = open(self.dir / ".lock", "w")  # noqa: SIM115 (until the process ends)
        if lock(self._lock_file) is False:
            raise BusyError(
                f"{self.dir}: another process is at work on this run; "
                "wait for it, or choose another --tag"
            )


def give(part: Any, state: Plain, path: Path, name: str = "model") -> None:
    """Give a model, or an optimiser, its state of a file that was read without a fault. DataError
    where the state is of another one."""
    try:
        part.load_state_dict(state)
    except UNREADABLE as error:
        unlike = _first_unlike(state, part.state_dict()) if isinstance(part, nn.Module) else ""
        what = unlike or next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"{path} does not fit the {name} that the code builds now ({what}); "
            f"restore that code, or {RUN_AGAIN}"
        ) from error


def _first_unlike(there: Plain, now: Plain) -> str:
    """Name and shapes of the first weight that two models do not share; '' if they do."""
    # A layer may keep something else beside its weights.
    shapes = [{k: list(getattr(v, "shape", ())) for k, v in of.items()} for of in (there, now)]
    for weight in {**now, **there}:
        one, other = (shape.get(weight, "absent") for shape in shapes)
        if one != other:
            return f"{weight} is {one} there, {other} now"
    return ""


def differences(
    stored: Plain, config: RunConfig, experts: tuple[str, ...] | None = None
) -> dict[str, tuple[object, object]]:
    """{dotted name: (stored value, value now)} of settings with influence on the numbers of these
    experts, by default those of the method."""
    ignored = with_role(type(config), "neutral", "location")
    ignored |= without_effect(type(config), experts or config.experts, config.fusion)
    return config_diff(stored, to_dict(config), ignored)


def _checksum(weights: Mapping[str, Tensor]) -> int:
    """CRC-32 of the weights, by their names."""
    value = 0
    for name in sorted(weights):
        flat = weights[name].contiguous().reshape(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy(), value)
    return value
