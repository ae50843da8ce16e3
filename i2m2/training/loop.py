"""`fit`: the one training loop, for every data set, method and number of devices."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from logging import getLogger
from threading import RLock
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from tqdm import tqdm

from i2m2.errors import SettingsError
from i2m2.files import Plain, finite
from i2m2.metrics import metric_of
from i2m2.settings import OptimConfig, RunConfig
from i2m2.stats.predictions import Predictions
from i2m2.training import data
from i2m2.training.data import MicroBatch, MultimodalDataset
from i2m2.training.evaluate import (
    SelectOutputs,
    all_outputs,
    as_numbers,
    predict,
    score_predictions,
)
from i2m2.training.optimizers import build_optimizer, lr_factor
from i2m2.training.run import Run

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
CHECK_EVERY = 50  # steps between looks at the loss, since a look waits for the device

# One process draws a bar. tqdm's own lock is for several, and when a run is ended Python would warn
# that its semaphore is left.
tqdm.set_lock(RLock())

Loss = Callable[[Tensor, Any], Tensor]  # (log_prob [B, (L,) C], y) -> [B]
Validate = Callable[[Predictions], dict[str, float]]
History = list[Plain]  # a record per epoch, as in metrics.jsonl


def fit(
    trainer: Trainer,
    train: MultimodalDataset,
    val: MultimodalDataset,
    run: Run,
    select_outputs: SelectOutputs = all_outputs,
    validate: Validate | None = None,
) -> None:
    """Train the model, resuming after the run's last epoch if there is one; in the end it has the
    weights of the best epoch.

    `validate` scores the validation predictions, of which `select_outputs` says what they hold; its
    result has the metric `optim.select`. Without it: accuracy, NLL and that metric.
    FloatingPointError if the loss is not finite.
    """
    model, config, accelerator = trainer.model, trainer.config, trainer.accelerator
    history = run.restore(trainer.parts)
    say_resumed(run, history, accelerator)
    while not training_ended(history, config.optim):
        epoch, began = len(history), time.perf_counter()
        train_loss = trainer.train_epoch(train, epoch)
        outputs = predict(model, val, accelerator, config.step_size, config.workers, select_outputs)
        refuse_nan(outputs, config, epoch, trainer.lr)
        scores = validation_scores(outputs, config, epoch, validate)
        seconds = time.perf_counter() - began
        history.append(record_of(epoch, train_loss, scores, trainer.lr, seconds))
        state = {name: part.state_dict() for name, part in trainer.parts.items()}
        keep_epoch(run, state, history, accelerator)
    accelerator.wait_for_everyone()
    run.load_best_into(model)


def say_resumed(run: Run, history: History, accelerator: Accelerator) -> None:
    """Print after which epoch a run goes on; nothing for one that begins."""
    if history:
        run.write_history(history)  # a kill may have come just before its last line
        accelerator.print(f"{run.dir}: resuming after epoch {len(history)}")


def training_ended(history: History, optim: OptimConfig) -> bool:
    """Whether all epochs are done, or `optim.patience` of them brought no improvement."""
    epochs = len(history)
    if not history or optim.patience is None:
        return epochs >= optim.epochs
    return epochs >= optim.epochs or epochs - best_epoch(history, optim.select) >= optim.patience


def validation_scores(
    outputs: Predictions, config: RunConfig, epoch: int, validate: Validate | None
) -> dict[str, float]:
    """What `validate` gives, else accuracy, NLL and the metric that chooses the epoch.
    SettingsError if that is not there, a warning if it is undefined from the first epoch on."""
    select = config.optim.select
    usual = sorted({select, "accuracy", "nll"})
    scores = validate(outputs) if validate else score_predictions(outputs, usual)
    scores = as_numbers(scores, "Experiment.validate", select)
    if epoch == 0 and math.isnan(scores[select]):
        defined = [x for x in config.metrics if not math.isnan(scores.get(x, math.nan))]
        choose = f"choose one that is defined there ({', '.join(defined)}), or " if defined else ""
        warnings.warn(
            f"optim.select={select} is undefined on the validation split of "
            f"{len(outputs['id'])} examples, so the weights of the first epoch are kept; "
            f"{choose}give that split examples of every class",
            stacklevel=2,
        )
    return scores


def record_of(epoch: int, loss: float, scores: Plain, lr: float, seconds: float) -> Plain:
    """A record of the history; `epoch` counts from 0."""
    return {
        "epoch": epoch + 1,
        "train_loss": loss,
        "val": finite(scores),
        "lr": lr,
        "seconds": round(seconds, 2),
    }


def compiled(model: nn.Module, config: RunConfig) -> nn.Module:
    """What a training step calls. A step's CUDA graph writes over what the one before gave:
    evaluation, which keeps its outputs, then calls the model as it is."""
    if config.compile:  # on the CPU, which needs none, the compiler's import warns of a missing GPU
        getLogger("torch.utils.cpp_extension").setLevel("ERROR")
    if config.compile == "graph":
        return torch.compile(model, mode="reduce-overhead")
    if config.compile:
        model.compile()
    return model


class Trainer:
    """A model with its optimiser and schedule on the devices of `accelerator`.

    `loss` is averaged over the examples of an update. `parameters`: the optimiser's groups, where
    some have an `lr` or `weight_decay` of their own. `examples`: of the training split.
    """

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        accelerator: Accelerator,
        loss: Loss,
        parameters: list[Plain] | None,
        examples: int,
    ) -> None:
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model, self.config, self.accelerator, self.loss = model, config, accelerator, loss
        optim = config.optim
        trained = [p for p in model.parameters() if p.requires_grad]
        real = all(p.is_floating_point() for p in trained)
        self.optimizer = build_optimizer(parameters or trained, optim, real)
        updates = optim.epochs * math.ceil(examples / optim.batch_size)
        factor = lr_factor(optim, updates)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        # All that has a state of its own.
        self.parts = {"model": model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        if accelerator.scaler is not None:
            self.parts["scaler"] = accelerator.scaler
        # Placement is said: to find it out, Accelerate would load DTensor and with it SymPy.
        placed = {"device_placement": [True, True]}
        stepped = compiled(model, config)
        self.wrapped, self.prepared = accelerator.prepare(stepped, self.optimizer, **placed)
        # Accelerate's wrappers serve scaled gradients; else they only cost every small step.
        self.scaled = accelerator.scaler is not None
        # With a constant rate, skip scheduler.step(): it costs noticeable time on small models.
        self.lr_varies = optim.schedule != "constant" or optim.warmup > 0

    @property
    def lr(self) -> float:
        """The learning rate of the first group of parameters."""
        return self.optimizer.param_groups[0]["lr"]

    def train_epoch(self, train: MultimodalDataset, epoch: int) -> Any:
        """One pass over the training split -> the mean loss of its examples."""
        config, accelerator = self.config, self.accelerator
        plan = self._plan(len(train), epoch)
        if hasattr(train, "set_epoch"):
            train.set_epoch(epoch)
        positions = (part.positions for part in plan)
        batches = data.loader(train, positions, config.workers, accelerator.device.type == "cuda")
        # None: quiet where the output is no terminal.
        quiet = None if accelerator.is_local_main_process else True
        batches = tqdm(batches, desc=f"epoch {epoch + 1}", leave=False, disable=quiet)
        losses: list[Tensor] = []
        self.wrapped.train()
        for part, batch in zip(plan, batches, strict=True):
            losses.append(self._forward_backward(part, batch, train))
            if part.last:
                self._update()
            if len(losses) % CHECK_EVERY == 0 or len(losses) == len(plan):
                self._refuse_non_finite(losses, plan, epoch)
        if accelerator.num_processes > 1:
            # Each kept batch statistics of its own examples; those of the first are saved.
            for buffer in self.model.buffers():
                broadcast(buffer)
        # A device without a share in an update has a loss of 0 there.
        sizes = [1 / part.scale if part.scale else 0.0 for part in plan]
        sizes = torch.tensor(sizes, device=accelerator.device)
        total = (torch.stack(losses, dim=-1) * sizes).sum(dim=-1)
        return (accelerator.reduce(total, "sum").cpu().double() / len(train)).tolist()

    def _plan(self, examples: int, epoch: int) -> list[MicroBatch]:
        """Seed an epoch's random numbers -> its micro-batches on this device."""
        seed, optim, accelerator = self.config.seed, self.config.optim, self.accelerator
        rank, devices = accelerator.process_index, accelerator.num_processes
        data.seed_everything(seed, epoch, rank)
        update = (optim.batch_size, seed, epoch, optim.micro_batches)
        return data.training_plan(examples, *update, rank, devices)

    def _forward_backward(self, part: MicroBatch, batch: Any, train: MultimodalDataset) -> Tensor:
        """Add a micro-batch's gradients -> its share of the mean loss of its update."""
        accelerator = self.accelerator
        autocast = accelerator.autocast() if self.config.precision != "no" else nullcontext()
        batch = data.to_device(batch, accelerator.device, train.prepare)
        with nullcontext() if part.last else accelerator.no_sync(self.wrapped):
            with autocast:
                log_prob = self._log_prob(batch)
            mean = per_example(self.loss, log_prob.float(), batch["y"]).sum() * part.scale
            # Gradients are averaged over the devices; their sum is wanted.
            devices = accelerator.num_processes
            summed = mean * devices if devices > 1 else mean
            accelerator.backward(summed) if self.scaled else summed.backward()
        return mean.detach()

    def _log_prob(self, batch: Any) -> Tensor:
        """The product for a micro-batch. SettingsError where that is one example, of which batch
        norm cannot take statistics."""
        try:
            return self.wrapped(batch["inputs"], batch.get("present"))[0]
        except ValueError as error:
            if len(batch["y"]) > 1 or not str(error).startswith("Expected more than 1 value"):
                raise
            raise SettingsError(
                f"{self.config.run_name}: batch norm takes no statistics of one example, and the "
                "last part of an epoch has one; choose another optim.batch_size or "
                "optim.micro_batches, under another --tag"
            ) from error

    def _update(self) -> None:
        optimizer = self.prepared if self.scaled else self.optimizer
        if (norm := self.config.optim.clip_norm) is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            self._clip(trained, norm)
        optimizer.step()
        if self.lr_varies:
            self.scheduler.step()
        optimizer.zero_grad()

    def _clip(self, parameters: list[Tensor], norm: float) -> None:
        (self.accelerator if self.scaled else nn.utils).clip_grad_norm_(parameters, norm)

    def _refuse_non_finite(self, losses: list[Tensor], plan: list[MicroBatch], epoch: int) -> None:
        """FloatingPointError if any loss since the last look is not finite."""
        begin = (len(losses) - 1) // CHECK_EVERY * CHECK_EVERY
        recent = torch.stack(losses[begin:])
        if not torch.isfinite(recent).all():
            raise self._not_finite(recent, begin, plan, epoch, self.config)

    def _not_finite(
        self, losses: Tensor, begin: int, plan: list[MicroBatch], epoch: int, config: RunConfig
    ) -> FloatingPointError:
        """`losses` [n]: those of the micro-batches from `begin` on."""
        first = int((~torch.isfinite(losses)).nonzero()[0])
        step = 1 + sum(part.last for part in plan[: begin + first])
        what = f"the loss is {losses[first].item()}"
        return diverged(what, config, epoch, f"step {step}", self.lr)


def per_example(loss: Loss, log_prob: Tensor, y: Any) -> Tensor:
    """A data set's loss, by example [B], or further by its labels or answers. SettingsError for any
    other shape: a mean would count as the sum that it is not."""
    losses = loss(log_prob, y)
    shape, examples = losses.shape, len(log_prob)
    known = losses.numel() == examples or shape == log_prob.shape[: losses.dim()]
    if shape[:1] != log_prob.shape[:1] or not known:
        raise SettingsError(
            f"Experiment.loss gives {list(shape)} for {examples:,} examples; "
            "let it give a value per example (reduction='none')"
        )
    return losses


def refuse_nan(predictions: Predictions, config: RunConfig, epoch: int, lr: float) -> None:
    """FloatingPointError if any number of the validation predictions is NaN."""
    numbers = [column for column in predictions.values() if column.dtype.kind == "f"]
    if any(np.isnan(column).any() for column in numbers):
        raise diverged("the validation predictions are NaN", config, epoch, "its end", lr)


def diverged(what: str, config: RunConfig, epoch: int, where: str, lr: float) -> FloatingPointError:
    """The error of a training whose numbers are none any more: which, when, and what to try."""
    kept = ". The folder holds the last good epoch" if epoch else ""
    return FloatingPointError(
        f"{config.run_name}, seed {config.seed}: {what} at epoch {epoch + 1}, "
        f"{where} (lr {lr:g}); try a lower optim.lr or an optim.clip_norm, under another "
        f"--tag{kept}"
    )


def keep_epoch(run: Run, state: Plain, history: History, accelerator: Accelerator) -> None:
    """Keep the state after an epoch, and its weights if it is the best so far; print its line."""
    config = run.config
    epoch, loss = len(history), history[-1]["train_loss"]
    is_best = best_epoch(history, config.optim.select) == epoch
    if is_best:
        # Before `last`: killed in between, the epoch is simply done again.
        run.save_best(state["model"])
    run.save_last(state | {"history": history})
    run.write_history(history)
    scores = {name: value for name, value in history[-1]["val"].items() if value is not None}
    tracked = {f"val/{name}": value for name, value in scores.items()}
    accelerator.log({"train_loss": loss, **tracked}, step=epoch)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    place = f"{config.run_name} seed {config.seed}  epoch {epoch}/{config.optim.epochs}"
    line = f"{place}  loss {loss:.4f}  val {shown}{'  *' if is_best else ''}"
    accelerator.print(line, flush=True)


def best_epoch(history: History, select: str) -> int:
    """The epoch (from 1) with the best validation metric: the first if several, or if undefined."""
    sign = -1 if metric_of(select).lower_is_better else 1
    values = [record["val"][select] for record in history]
    values = [-math.inf if value is None else sign * value for value in values]
    return values.index(max(values)) + 1


def batch_norm_over(model: nn.Module, config: RunConfig, accelerator: Accelerator) -> str:
    """Over what batch norm takes its statistics, if not over whole updates; '' otherwise. On GPUs
    `Trainer` synchronises it between processes; PyTorch has no such layer for the CPU."""
    if not any(isinstance(module, BATCH_NORM) for module in model.modules()):
        return ""
    synchronised = accelerator.device.type == "cuda"
    parts = config.optim.micro_batches * (1 if synchronised else accelerator.num_processes)
    return f"over each of the {parts} parts of an update" if parts > 1 else ""
