"""`fit`: the one training loop, for every data set, method and number of devices."""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from tqdm import tqdm

from i2m2.errors import SettingsError
from i2m2.losses import negative_log_likelihood
from i2m2.metrics import LOWER_IS_BETTER, kind, score
from i2m2.training.config import OptimConfig, RunConfig, flatten, to_dict
from i2m2.training.data import loader, seed_everything, to_device, training_plan
from i2m2.training.evaluate import Keep, keep_all, predict
from i2m2.training.run import Run, finite

OPTIMIZERS = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adamw": torch.optim.AdamW}
PATIENCE = timedelta(hours=6)  # of processes that wait while the first makes or checks the data
CHECK_EVERY = 50  # steps between looks at the loss, since a look waits for the device

Loss = Callable[[Tensor, Any], Tensor]


def fit(
    model: nn.Module,
    train: Dataset,
    val: Dataset,
    run: Run,
    accelerator: Accelerator,
    loss: Loss = negative_log_likelihood,
    parameters: list[dict[str, Any]] | None = None,
    keep: Keep = keep_all,
    validate: Callable[[Mapping[str, np.ndarray]], dict[str, float]] | None = None,
) -> None:
    """Train `model`, going on from the run's last epoch if there is one; it ends with the weights
    of the best epoch.

    `loss(log_prob [B, (L,) C], y) -> [B]` is averaged over the examples of an update. `parameters`:
    the optimiser's groups, where some have an `lr` or `weight_decay` of their own. `validate`
    scores the validation predictions, of which `keep` says what they hold; its result has the
    metric `optim.select`. FloatingPointError if the loss is not finite.
    """
    config, optim = run.config, run.config.optim
    optimizer = build_optimizer(
        parameters or [p for p in model.parameters() if p.requires_grad], optim
    )
    scheduler = LambdaLR(
        optimizer, lr_factor(optim, optim.epochs * math.ceil(len(train) / optim.batch_size))
    )
    if config.compile:
        model.compile()
    wrapped, prepared = accelerator.prepare(model, optimizer)
    stepper = (
        prepared if accelerator.scaler else optimizer
    )  # accelerate's wrapper serves scaled gradients, and costs every step
    history = _resume(run, model, optimizer, scheduler, accelerator)
    for epoch in range(len(history), optim.epochs):
        if optim.patience is not None and stale_epochs(history, optim.select) >= optim.patience:
            break
        began = time.perf_counter()
        seed_everything(config.seed, epoch, accelerator.process_index)
        train_loss = _train_epoch(
            wrapped, train, stepper, scheduler, loss, config, epoch, accelerator
        )
        _agree_on_buffers(model, accelerator)
        predictions = predict(model, val, accelerator, config.step_size, config.workers, keep)
        if any(
            np.isnan(column).any() for column in predictions.values() if column.dtype.kind == "f"
        ):
            raise FloatingPointError(
                _diverged(config, "the validation predictions are NaN", epoch, "its end", optimizer)
            )
        scores = finite((validate or partial(_scores, select=optim.select))(predictions))
        record = {
            "epoch": epoch + 1,
            "train_loss": train_loss,
            "val": scores,
            "lr": optimizer.param_groups[0]["lr"],
        }
        history.append(record | {"seconds": round(time.perf_counter() - began, 2)})
        if best_epoch(history, optim.select) == epoch + 1:
            run.save_best(
                model.state_dict()
            )  # before `last`: killed in between, the epoch is simply done again
        run.save_last(_state(model, optimizer, scheduler, accelerator, history))
        run.write_history(history)
        accelerator.log(
            {
                "train_loss": train_loss,
                **{f"val/{k}": v for k, v in scores.items() if v is not None},
            },
            step=epoch + 1,
        )
        accelerator.print(_line(config, record, best_epoch(history, optim.select)), flush=True)
    accelerator.wait_for_everyone()
    model.load_state_dict(run.load_best())


def _scores(predictions: Mapping[str, np.ndarray], select: str) -> dict[str, float]:
    names, labels = sorted({select, "accuracy", "nll"}), predictions.get("labels")
    return score(
        predictions["y"],
        predictions["log_prob"],
        names,
        None if labels is None else labels.tolist(),
    )


def _train_epoch(
    wrapped: nn.Module,
    train: Dataset,
    optimizer: Any,
    scheduler: Any,
    loss: Loss,
    config: RunConfig,
    epoch: int,
    accelerator: Accelerator,
) -> float:
    """One pass over the training split -> the mean loss of its examples."""
    optim, devices = config.optim, accelerator.num_processes
    plan = training_plan(
        len(train),
        optim.batch_size,
        config.seed,
        epoch,
        optim.micro_batches,
        accelerator.process_index,
        devices,
    )
    if hasattr(train, "set_epoch"):  # its examples look different in every epoch
        train.set_epoch(epoch)
    batches = loader(
        train,
        (part.positions for part in plan),
        config.workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    scaled = (
        accelerator.scaler is not None
    )  # else accelerate only passes on, which costs every small step
    varies = (
        optim.schedule != "constant" or optim.warmup > 0
    )  # the learning rate, else a small step's time is better spent
    autocast = contextlib.nullcontext if config.precision == "no" else accelerator.autocast
    losses: list[Tensor] = []
    wrapped.train()
    quiet = (
        None if accelerator.is_local_main_process else True
    )  # None: quiet where the output is no terminal
    for part, batch in zip(
        plan, tqdm(batches, desc=f"epoch {epoch + 1}", leave=False, disable=quiet), strict=True
    ):
        batch = to_device(batch, accelerator.device, train.prepare)
        with contextlib.nullcontext() if part.last else accelerator.no_sync(wrapped):
            with autocast():
                log_prob, _ = wrapped(batch["inputs"], batch.get("present"))
            mean = loss(log_prob.float(), batch["y"]).sum() * part.scale
            summed = (
                mean * devices if devices > 1 else mean
            )  # gradients are averaged over the devices; their sum is wanted
            accelerator.backward(summed) if scaled else summed.backward()
        losses.append(mean.detach())
        if part.last:
            if optim.clip_norm is not None:
                (accelerator if scaled else nn.utils).clip_grad_norm_(trained, optim.clip_norm)
            optimizer.step()
            if varies:
                scheduler.step()
            optimizer.zero_grad()
        if len(losses) % CHECK_EVERY == 0 or len(losses) == len(plan):
            _refuse_non_finite(losses, plan, epoch, optimizer, config)
    examples = sum(len(part.positions) for part in plan if part.scale)
    sizes = torch.tensor(
        [1 / part.scale if part.scale else 0.0 for part in plan], device=accelerator.device
    )
    total = (
        (torch.stack(losses) * sizes).sum()
        if examples
        else torch.zeros((), device=accelerator.device)
    )
    return accelerator.reduce(total, "sum").item() / len(train)


def _agree_on_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Every device kept batch statistics of its own examples: take the first device's, which are
    the ones saved."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            broadcast(buffer)


def _refuse_non_finite(
    losses: list[Tensor], plan: list, epoch: int, optimizer: Any, config: RunConfig
) -> None:
    begin = (len(losses) - 1) // CHECK_EVERY * CHECK_EVERY
    bad = (~torch.isfinite(torch.stack(losses[begin:]))).nonzero().flatten().tolist()
    if bad:
        step = 1 + sum(part.last for part in plan[: begin + bad[0]])
        raise FloatingPointError(
            _diverged(
                config,
                f"the loss is {losses[begin + bad[0]].item()}",
                epoch,
                f"step {step}",
                optimizer,
            )
        )


def _diverged(config: RunConfig, what: str, epoch: int, where: str, optimizer: Any) -> str:
    return (
        f"{config.run_name}, seed {config.seed}: {what} at epoch {epoch + 1}, {where} (lr {optimizer.param_groups[0]['lr']:g}); "
        "try a lower optim.lr or an optim.clip_norm, under another --tag. The folder holds the last good epoch"
    )


def build_optimizer(parameters: list, optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser named in the settings, over parameters or groups of them."""
    momentum = {} if optim.name == "adamw" else {"momentum": optim.momentum}
    # All parameters at once; RMSprop has no fused kernel.
    fused = {"foreach": True} if optim.name == "rmsprop" else {"fused": True}
    return OPTIMIZERS[optim.name](
        parameters, lr=optim.lr, weight_decay=optim.weight_decay, **momentum, **fused
    )


def lr_factor(optim: OptimConfig, updates: int) -> Callable[[int], float]:
    """update (from 0) -> factor of the learning rate: up a line over the warm-up, then constant, a
    line or a cosine to 0."""
    warmup = round(optim.warmup * updates)

    def factor(update: int) -> float:
        if update < warmup:
            return (update + 1) / (warmup + 1)
        done = (update - warmup) / max(1, updates - warmup)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[
            optim.schedule
        ]

    return factor


def best_epoch(history: list[dict[str, Any]], select: str) -> int:
    """The epoch (from 1) with the best validation metric; the first one on a tie, and if the metric
    was never defined."""
    sign = -1 if kind(select) in LOWER_IS_BETTER else 1
    values = [
        -math.inf if record["val"][select] is None else sign * record["val"][select]
        for record in history
    ]
    return values.index(max(values)) + 1


def stale_epochs(history: list[dict[str, Any]], select: str) -> int:
    """How many epochs have passed since the best one."""
    return len(history) - best_epoch(history, select) if history else 0


def make_accelerator(config: RunConfig) -> Accelerator:
    """Device and precision as set. SettingsError for what this machine does not have."""
    if (config.device == "cuda" and not torch.cuda.is_available()) or (
        config.device == "mps" and not torch.backends.mps.is_available()
    ):
        raise SettingsError(
            f"device={config.device}, but PyTorch finds none here; use --device cpu or auto"
        )
    if config.tracker and not find_spec(config.tracker):
        raise SettingsError(
            f"tracker={config.tracker} is not installed: pip install {config.tracker}"
        )
    try:
        handlers = [
            DistributedDataParallelKwargs(find_unused_parameters=config.unused_parameters),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ]
        accelerator = Accelerator(
            cpu=config.device == "cpu", mixed_precision=config.precision, kwargs_handlers=handlers
        )
    except ValueError as error:
        raise SettingsError(f"precision={config.precision}: {error}") from error
    if accelerator.device.type == "cpu":
        _keep_freed_memory()
    # The same numbers again on the same GPU.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return accelerator


def _keep_freed_memory() -> None:
    """Have glibc keep the large blocks that every step frees and asks for again, instead of giving
    them back to the system.

    Faulting them in anew, page by page, took up to a fifth of a training step
    (benchmarks/avmnist.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # Linux with glibc
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, the largest value there is
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def start_tracker(accelerator: Accelerator, run: Run) -> None:
    """TensorBoard or Weights & Biases, if set, with its files in the run's folder."""
    if run.config.tracker:
        accelerator.project_configuration.set_directories(str(run.dir))
        accelerator.log_with = filter_trackers(run.config.tracker, accelerator.logging_dir)
        values = {
            key: value if isinstance(value, (int, float)) else str(value)
            for key, value in flatten(to_dict(run.config)).items()
        }
        accelerator.init_trackers("i2m2", config=values)


def _state(
    model: nn.Module, optimizer: Any, scheduler: Any, accelerator: Accelerator, history: list
) -> dict[str, Any]:
    scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "scaler": scaler,
        "history": history,
    }


def _resume(
    run: Run, model: nn.Module, optimizer: Any, scheduler: Any, accelerator: Accelerator
) -> list[dict[str, Any]]:
    """Put everything back to where the last finished epoch left it -> the history so far, empty for
    a new run."""
    state = run.load_last()
    if state is None:
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    if accelerator.scaler and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    run.write_history(state["history"])  # a kill may have come just before its last line
    accelerator.print(f"{run.dir}: going on after epoch {len(state['history'])}")
    return state["history"]


def _line(config: RunConfig, record: dict[str, Any], best: int) -> str:
    scores = "  ".join(
        f"{name} {value:.4f}" for name, value in record["val"].items() if value is not None
    )
    mark = "  *" if best == record["epoch"] else ""
    epoch = f"epoch {record['epoch']}/{config.optim.epochs}  loss {record['train_loss']:.4f}"
    return f"{config.run_name} seed {config.seed}  {epoch}  val {scores}{mark}"
