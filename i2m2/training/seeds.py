"""All seeds of a method at once: their models are one stack, and a step is a step of all.

Every seed has the order of examples, the random numbers, the best epoch and the folder that it has
alone. Only last bits differ: the products of matrices are other routines, which may add in another
order. A command that is killed and started again ends with the same bits.
"""

from __future__ import annotations

import copy
import pickle
import random
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.nn.parameter import is_lazy

from i2m2.errors import SettingsError
from i2m2.losses import negative_log_likelihood
from i2m2.machine.accelerator import make_accelerator
from i2m2.machine.neighbours import sharing_cores
from i2m2.model import ProductOfExperts
from i2m2.runs import read_config
from i2m2.settings import RunConfig
from i2m2.stats.predictions import Predictions
from i2m2.training.data import MultimodalDataset
from i2m2.training.experiment import (
    Experiment,
    begin,
    finish,
    first_model,
    load,
    read_splits,
    refuse_metric,
    say_done,
    train_run,
)
from i2m2.training.loop import (
    Loss,
    keep_epoch,
    per_example,
    record_of,
    refuse_nan,
    say_resumed,
    validation_scores,
)
from i2m2.training.run import Run, run_dir
from i2m2.training.stack import OfOneBatch, Seed, StackTrainer, stack
from i2m2.training.warm_start import refuse_start

ONE_BY_ONE = "train one seed after the other: --seed"


def train_seeds(experiment: Experiment, configs: Sequence[RunConfig], command: str) -> None:
    """Make the runs of these settings, which differ in their seeds alone, or resume them; finished
    ones are left alone. `command` as in `train_run`.

    SettingsError for what cannot be trained so. FloatingPointError, with every seed that diverged,
    once the others are done.
    """
    if len(configs) == 1:
        return train_run(experiment, configs[0], command)
    accelerator = make_accelerator(configs[0])
    if accelerator.num_processes > 1:  # their group ends with a run
        raise SettingsError(f"several seeds do not go with several processes; {ONE_BY_ONE}")
    if configs[0].seeds_at_once:
        errors = _at_once(experiment, configs, accelerator, command)
    else:
        errors = _one_after_the_other(experiment, configs, command)
    if errors:
        raise FloatingPointError("; ".join(map(str, errors)))


def _one_after_the_other(
    experiment: Experiment, configs: Sequence[RunConfig], command: str
) -> list[FloatingPointError]:
    errors, threads = [], torch.get_num_threads()
    for config in configs:
        torch.set_num_threads(threads)  # the run before may have set others
        try:
            train_run(experiment, config, command)
        except FloatingPointError as error:
            errors.append(error)
    return errors


def _at_once(
    experiment: Experiment, configs: Sequence[RunConfig], accelerator: Accelerator, command: str
) -> list[FloatingPointError]:
    # Layers without a rule of vmap's are computed one model after the other.
    warnings.filterwarnings("ignore", "There is a performance drop")
    _refuse_settings(configs[0])
    refuse_metric(experiment, configs[0])
    content = load(experiment, configs[0])
    if hasattr(content.splits["train"], "set_epoch"):
        raise SettingsError(f"these data differ from epoch to epoch; {ONE_BY_ONE}")
    folders = {run_dir(config, content.variant): config for config in configs}
    for path, config in folders.items():
        refuse_start(path, config, content.facts, command)
    usual = _usual_threads(folders)
    # Until no run can be refused none gets a folder, which would be taken for a run's.
    seen = [Run.open(path, c, content.facts, False, usual) for path, c in folders.items()]
    for run in seen:
        if run.done:
            say_done(run, accelerator)
    if not (seen := [run for run in seen if not run.done]):
        return []
    _refuse_other_threads(seen)
    torch.set_num_threads(seen[0].config.threads)
    models = [first_model(experiment, run.config, content) for run in seen]
    if experiment.parameters(seen[0].config, models[0]) is not None:
        raise SettingsError(f"several seeds at once have one rate for all weights; {ONE_BY_ONE}")
    loss = experiment.loss(seen[0].config, content, accelerator.device)
    _refuse_model(models, content.splits["train"], loss, accelerator.device)
    runs = [Run.open(run.dir, run.config, content.facts) for run in seen]
    pairs = zip(runs, models, strict=True)
    seeds = [_begin(run, model, accelerator, command) for run, model in pairs]
    splits = read_splits(content, seeds[0].model, accelerator)
    with sharing_cores():
        _fit(experiment, seeds, loss, splits, accelerator)
    for seed in seeds:
        if seed.error is None:
            seed.run.load_best_into(seed.model)
            finish(experiment, seed.run, seed.model.to(accelerator.device), splits, accelerator)
    return [seed.error for seed in seeds if seed.error]


def _usual_threads(folders: Mapping[Path, RunConfig]) -> int:
    """CPU threads of new runs: those of one that waits to be resumed, else all, for which several
    models have work."""
    runs = [Run(path, config) for path, config in folders.items()]
    begun = [read_config(run.dir).get("threads") for run in runs if run.started and not run.done]
    return next(filter(None, begun), torch.get_num_threads())


def _begin(run: Run, model: ProductOfExperts, accelerator: Accelerator, command: str) -> Seed:
    begin(run, model, accelerator, command)
    history = run.restore({"model": model})
    say_resumed(run, history, accelerator)
    state = run.load_last() if history else {"model": model.state_dict()}
    return Seed(run, model, state, history)


def _fit(
    experiment: Experiment,
    seeds: Sequence[Seed],
    loss: Loss,
    splits: Mapping[str, MultimodalDataset],
    accelerator: Accelerator,
) -> None:
    """`loop.fit` of all seeds. Those furthest behind are trained until they have caught up.

    The bits of a product may depend on its place in the memory. So a seed that has trained an epoch
    already keeps its place in the stack meanwhile, filled by another one.
    """
    config = seeds[0].run.config
    outputs = experiment.select_outputs(config)
    group, now = [], []
    while waiting := [seed for seed in seeds if seed.waits]:
        epoch, before = min(len(seed.history) for seed in waiting), (group, now)
        now = [seed for seed in waiting if len(seed.history) == epoch]
        group = [seed for seed in seeds if seed in now or len(seed.history) > epoch]
        if (group, now) != before:
            filled = [seed if seed in now else now[0] for seed in group]
            trainer = StackTrainer(filled, accelerator, loss, len(splits["train"]))
        began = time.perf_counter()
        losses = trainer.train_epoch(splits["train"], epoch)
        predictions = trainer.predict(splits["val"], outputs)
        for place, seed in enumerate(group):
            if seed in now and not _failed(seed, trainer, place, predictions[place]):
                seconds = (time.perf_counter() - began) / len(now)  # its share of them
                scores = validation_scores(predictions[place], config, epoch, experiment.validate)
                record = record_of(epoch, losses[place], scores, trainer.lr, seconds)
                seed.history.append(record)
                seed.state = trainer.state_of(place)
                keep_epoch(seed.run, seed.state, seed.history, accelerator)


def _failed(seed: Seed, trainer: StackTrainer, place: int, predictions: Predictions) -> bool:
    """Whether a seed's loss or predictions were not finite, which ends its training."""
    seed.error = trainer.errors.get(place)
    if seed.error is None:
        try:
            refuse_nan(predictions, seed.run.config, len(seed.history), trainer.lr)
        except FloatingPointError as error:
            seed.error = error
    return seed.error is not None


def _refuse_settings(config: RunConfig) -> None:
    """SettingsError for what one stack of models cannot do as each alone does."""
    reasons = {
        f"precision={config.precision}": config.precision != "no",
        "compile=true": config.compile is True,
        f"tracker={config.tracker}": config.tracker is not None,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise SettingsError(f"several seeds at once do not go with {found[0]}; {ONE_BY_ONE}")


def _refuse_other_threads(runs: Sequence[Run]) -> None:
    """SettingsError for runs that began with different numbers of threads, which bits depend on."""
    threads = sorted({run.config.threads for run in runs})
    if len(threads) > 1:
        began = " and ".join(map(str, threads))
        raise SettingsError(f"these seeds began with {began} threads; {ONE_BY_ONE}")


def _refuse_model(
    models: Sequence[ProductOfExperts], train: MultimodalDataset, loss: Loss, device: torch.device
) -> None:
    """SettingsError for models, data, or a loss, of which a stack does not do what each does."""
    train = train.select(models[0].modalities)
    if why := _unlike_alone(models, train) or _draws(loss, models[0], train, device):
        raise SettingsError(f"several seeds at once: {why}; {ONE_BY_ONE}")


def _unlike_alone(models: Sequence[ProductOfExperts], train: MultimodalDataset) -> str:
    """What a stack of these models would do otherwise; '' if nothing is known."""
    if any(getattr(layer, "padding_idx", None) is not None for layer in models[0].modules()):
        return "an embedding's padding_idx would count for one of them"
    values = chain(models[0].named_parameters(), models[0].named_buffers())
    if lazy := next((name for name, value in values if is_lazy(value)), None):
        return f"{lazy} is made by the first batch (give that layer its width)"
    if shared := _sharing_memory(models[0]):
        return f"the weights {' and '.join(shared)} share their memory, and would no more"
    random_numbers = _random_numbers()
    batch = train[np.arange(min(4, len(train)))]
    given = train.prepare(batch["inputs"]), batch.get("present") or {}
    try:
        stacked, one = stack(models, [torch.Generator() for _ in models]), copy.deepcopy(models[0])
        with torch.no_grad():
            together = OfOneBatch(stacked.eval(), len(models))(*given)[0]
            OfOneBatch(stacked.train(), len(models))(*given)
            if _random_numbers() != random_numbers:
                return "these data, or this model, draw random numbers of their own"
            one.train()(*given)
            alone = torch.stack([model.eval()(*given)[0] for model in models], dim=1)
    except RuntimeError as error:
        return f"this model fails ({str(error).strip().splitlines()[0]})"
    for model in models:
        model.train()
    for name, buffer in one.named_buffers():
        before = models[0].get_buffer(name)
        if not torch.equal(buffer, before) and torch.equal(stacked.get_buffer(name)[0], before):
            return f"the buffer {name} would stay as it is (change it in place)"
    if not torch.allclose(together, alone, atol=1e-4, equal_nan=True):
        return "this model then answers otherwise"
    return ""


def _sharing_memory(model: ProductOfExperts) -> tuple[str, str] | None:
    """The names of two parameters of one memory, such as a weight and its transpose."""
    first_in: dict[int, str] = {}
    for name, parameter in model.named_parameters():  # one that layers share as a whole comes once
        first = first_in.setdefault(parameter.untyped_storage().data_ptr(), name)
        if first != name and parameter.numel():
            return first, name
    return None


def _draws(
    loss: Loss, model: ProductOfExperts, train: MultimodalDataset, device: torch.device
) -> str:
    """Why this loss is another one for several models at once; '' if it is not."""
    if loss is negative_log_likelihood:
        return ""
    batch = train[np.arange(min(4, len(train)))]
    with torch.no_grad():
        log_prob, _ = model.eval()(train.prepare(batch["inputs"]), batch.get("present"))
        model.train()
        given = send_to_device((log_prob, batch["y"]), device)
        random_numbers = _random_numbers()
        per_example(loss, *given)
    return "" if _random_numbers() == random_numbers else "Experiment.loss draws random numbers"


def _random_numbers() -> bytes:
    """The states of the generators that everybody draws from."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    states = [state.numpy() for state in (torch.get_rng_state(), *on_gpus)]
    return pickle.dumps((random.getstate(), np.random.get_state(), states))
