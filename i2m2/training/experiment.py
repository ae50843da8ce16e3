"""Training and evaluating one data set's runs, given the data set's own parts."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils._pytree import tree_leaves

from i2m2.errors import DataError, SettingsError, is_out_of_memory
from i2m2.files import Plain
from i2m2.losses import negative_log_likelihood
from i2m2.machine.accelerator import make_accelerator, start_tracker
from i2m2.machine.neighbours import sharing_cores
from i2m2.metrics import METRICS
from i2m2.model import ProductOfExperts
from i2m2.names import INTER, PRODUCT
from i2m2.runs import predictions_file, read_result, require_predictions, usual_columns
from i2m2.settings import RunConfig
from i2m2.stats.calibration import log_frequencies
from i2m2.stats.predictions import Predictions
from i2m2.training.data import (
    ArrayDataset,
    Data,
    Inputs,
    MultimodalDataset,
    check_facts,
    refuse_empty,
    resident,
    seed_everything,
)
from i2m2.training.evaluate import (
    SelectOutputs,
    all_outputs,
    answered_by_none,
    as_numbers,
    general_scores,
    predict,
    scores_table,
)
from i2m2.training.loop import Loss, Trainer, batch_norm_over, fit
from i2m2.training.run import Run, run_dir
from i2m2.training.warm_start import refuse_start, warm_start

# What PyTorch says of numbers of another type than a layer's weights.
OTHER_TYPE = re.compile(r"dtype|data ?type|scalar type|[Ii]nput type|of type|not implemented for '")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a data set brings: its loader and models, and where it has them, loss and scores of its
    own. `Any` stands for its settings, a subclass of RunConfig. A model may be as wide as its data.
    """

    load: Callable[[Any], Data]
    build_model: Callable[[Any, Data], ProductOfExperts]
    loss: Callable[[Any, Data, torch.device], Loss] = lambda *_: negative_log_likelihood
    # {split: predictions} -> {split: {metric: value}}
    scores: Callable[[Mapping[str, Predictions]], dict[str, dict[str, float]]] = general_scores
    # Groups of the optimiser; None: all parameters alike.
    parameters: Callable[[Any, ProductOfExperts], list[Plain] | None] = lambda *_: None
    # What is kept of predictions.
    select_outputs: Callable[[Any], SelectOutputs] = lambda _: all_outputs
    # Per epoch; None: accuracy, NLL and `optim.select`. Of a metric of its own more is better.
    validate: Callable[[Predictions], dict[str, float]] | None = None
    # What `evaluate` prints; None: all metrics of product and experts.
    report: Callable[[Predictions], str] | None = None


def train_run(experiment: Experiment, config: RunConfig, command: str) -> None:
    """Make the run, or resume it; a finished one is left alone. `command` is the one at hand
    without method, fusion and start, for an error that names those that make missing parts."""
    refuse_metric(experiment, config)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = load(experiment, config)
        folder = run_dir(config, data.variant)
        refuse_start(folder, config, data.facts, command)
        run = Run.open(folder, config, data.facts, writes=accelerator.is_main_process)
    if run.done:
        return say_done(run, accelerator)
    config = run.config
    torch.set_num_threads(config.threads)
    start_tracker(accelerator, config, run.dir)
    model = first_model(experiment, config, data)
    begin(run, model, accelerator, command)
    splits = read_splits(data, model, accelerator)
    loss = experiment.loss(config, data, accelerator.device)
    groups, outputs = experiment.parameters(config, model), experiment.select_outputs(config)
    trainer = Trainer(model, config, accelerator, loss, groups, len(splits["train"]))
    with sharing_cores():
        fit(trainer, splits["train"], splits["val"], run, outputs, experiment.validate)
    finish(experiment, run, model, splits, accelerator)


def refuse_metric(experiment: Experiment, config: RunConfig) -> None:
    """SettingsError, before a training, for a metric of one's own that nothing computes."""
    functions = {
        "Experiment.validate": experiment.validate is None,
        "Experiment.scores": experiment.scores is general_scores,
    }
    missing = " and ".join(name for name, usual in functions.items() if usual)
    if missing and config.optim.select not in METRICS:
        raise SettingsError(
            f"optim.select={config.optim.select} is a metric of your own, which {missing} must "
            f"give; general ones are {', '.join(METRICS)}"
        )


def load(experiment: Experiment, config: RunConfig) -> Data:
    """The data set. DataError, before anything is trained, for a split without examples and for
    facts that env.json cannot hold."""
    data = experiment.load(config)
    refuse_empty(data.splits)
    check_facts(data.facts)
    return data


def say_done(run: Run, accelerator: Accelerator) -> None:
    """Print that a run is finished, and what to do if its weights are gone. DataError if what it
    found is gone or damaged."""
    read_result(run.dir)
    gone = "" if run.has_weights else "; its weights are gone: delete it to make them again"
    accelerator.print(f"{run.dir}: already done{gone}")


def first_model(experiment: Experiment, config: RunConfig, data: Data) -> ProductOfExperts:
    """The model with the random weights of its seed."""
    seed_everything(config.seed)
    return new_model(experiment, config, data)


def begin(run: Run, model: ProductOfExperts, accelerator: Accelerator, command: str) -> None:
    """Note what trains the model, and give it the weights that a new run starts from; one that is
    resumed gets its own later."""
    parts = batch_norm_over(model, run.config, accelerator)
    run.record_processes(accelerator.num_processes, parts)
    if run.config.init == "warm" and not run.started:
        run.add_to_environment(warm_start=warm_start(model, run, command))


def read_splits(
    data: Data, model: ProductOfExperts, accelerator: Accelerator
) -> dict[str, MultimodalDataset]:
    """The splits with the modalities that a model reads, on the device where they fit. DataError
    for what would end a training late: numbers of validation and test that are none."""
    selected = {name: split.select(model.modalities) for name, split in data.splits.items()}
    for name in ("val", "test"):
        if isinstance(selected[name], ArrayDataset):
            selected[name].check_finite(name)
    return {name: resident(split, accelerator.device) for name, split in selected.items()}


def finish(
    experiment: Experiment,
    run: Run,
    model: ProductOfExperts,
    splits: Mapping[str, MultimodalDataset],
    accelerator: Accelerator,
) -> None:
    """Keep the predictions and scores of a trained model; the run is done."""
    config, outputs = run.config, experiment.select_outputs(run.config)
    predictions = {}
    for split in ("val", "test"):
        predictions[split] = predict(
            model, splits[split], accelerator, config.step_size, config.workers, outputs
        )
        run.save_predictions(split, predictions[split])
    main, scores = config.optim.select, dict(experiment.scores(predictions))
    scores.setdefault("test", {})  # which is refused
    result = {}
    for split, of_split in scores.items():
        needed = main if split == "test" else None
        result[split] = as_numbers(of_split, f"Experiment.scores, {split}", needed)
    run.finish(result)
    accelerator.end_training()
    value = result["test"][main]
    accelerator.print(f"{run.dir}: test {main} {value:.4f} (data: {run.facts['description']})")
    accelerator.print(unanswered(predictions["test"]), end="")


def unanswered(predictions: Predictions) -> str:
    """A line on examples that no expert answers; '' if there are none."""
    count, examples = answered_by_none(predictions), len(predictions["id"])
    what = "lack the modalities of every expert: their answer is the class prior, if it is known"
    return f"{count:,} of {examples:,} examples {what}\n" if count else ""


def evaluate_run(
    experiment: Experiment, run: Run, split: str, combine: str, again: bool
) -> Predictions:
    """Print the scores of a run from saved predictions; if none are, or `again`, from weights."""
    if experiment.report and combine != PRODUCT:
        raise SettingsError(
            f"--combine {combine} needs the log-probabilities of all answers; "
            "this data set keeps the best"
        )
    if again or not predictions_file(run.dir, split).exists():
        predictions = predict_again(experiment, run, split)
    else:
        predictions = require_predictions(run.dir, split)
    examples, data = len(predictions["id"]), run.facts["description"]
    print(f"{run.dir}, {split} split, {examples} examples, data: {data}")
    report = experiment.report
    with usual_columns(run.dir, split):
        print(report(predictions) if report else scores_table(predictions, combine))
    print(unanswered(predictions), end="")
    return predictions


def predict_again(experiment: Experiment, run: Run, split: str) -> Predictions:
    """Predictions from a run's weights. DataError if its data have changed."""
    config = run.config
    data = load(experiment, config)
    run.refuse_other_data(data.facts)
    accelerator = make_accelerator(config)
    model = trained_model(experiment, run, data).to(accelerator.device)
    dataset = data.splits[split].select(model.modalities)
    outputs = experiment.select_outputs(config)
    predictions = predict(model, dataset, accelerator, config.step_size, select_outputs=outputs)
    if run.done:  # while a run is still in training they would soon be out of date
        run.save_predictions(split, predictions)
    return predictions


def new_model(experiment: Experiment, config: RunConfig, data: Data) -> ProductOfExperts:
    """The data set's model. Where any split lacks modalities it knows the training labels'
    frequencies, its answer where all are absent. SettingsError for one that is larger than the
    memory, or than any, or of modalities with impossible names, or of other experts than its
    method, or of a state that is no tensor; DataError for labels that are none of its answers."""
    _check_names(config.modalities)
    try:
        model = experiment.build_model(config, data)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingsError(
            "the model does not fit into this machine's memory; choose smaller sizes in model"
        ) from error
    _refuse_other_experts(model, config)
    _refuse_no_tensors(model)
    splits = {name: split.select(model.modalities) for name, split in data.splits.items()}
    train = splits["train"]
    every = experiment.select_outputs(config) is all_outputs
    labelled = {n: x for n, x in splits.items() if every and isinstance(x, ArrayDataset)}
    gaps = any(getattr(split, "present", None) for split in splits.values())
    needs_prior = gaps and model.log_prior is None
    if labelled or needs_prior:
        probe = copied(model, lambda: experiment.build_model(config, data)).eval()
        answers = _answers(probe, train)
        _refuse_labels(answers, labelled)
        prior = _prior(np.asarray(train.y), answers, model.normalise) if needs_prior else None
        if prior is not None:
            model.set_prior(torch.from_numpy(prior))
    return model


def _check_names(modalities: Sequence[str]) -> None:
    """SettingsError for a modality whose name stands for something else in a model, or splits that
    of a folder."""
    module = torch.nn.ModuleDict()
    for name in modalities:
        taken = name in ("", INTER, PRODUCT) or hasattr(module, name)
        if taken or set(name) & set("./"):
            raise SettingsError(
                f"a modality cannot be called {name!r}, which stands for something else or has a "
                "dot or a slash; rename it in the settings' `modalities` and in the data"
            )


def _refuse_other_experts(model: ProductOfExperts, config: RunConfig) -> None:
    """SettingsError for a product of other experts than the method has, whose folder, and row of a
    table, would bear a wrong name."""
    given, wanted = tuple(getattr(model, "experts", config.experts)), config.experts
    if set(given) != set(wanted):
        raise SettingsError(
            f"build_model gives the experts {', '.join(given)}, and method={config.method} has "
            f"{', '.join(wanted)}; make those of config.experts"
        )


def _refuse_no_tensors(model: ProductOfExperts) -> None:
    """SettingsError for a layer's state that a file of weights cannot hold."""
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise SettingsError(
                f"the model's state has {name}, a {type(value).__name__}, and a run keeps tensors "
                "alone; let get_extra_state give a tensor, or leave it out"
            )


def copied(model: ProductOfExperts, build: Callable[[], ProductOfExperts]) -> ProductOfExperts:
    """A model like this one, to be tried: a layer may keep something of its first batch. One that
    Python cannot copy (weight_norm, lazy layers) is built once more; no random number is drawn."""
    try:
        return copy.deepcopy(model)
    except (RuntimeError, ValueError, TypeError):
        states = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=()):
            other = build()
        random.setstate(states[0])
        np.random.set_state(states[1])
        return other


def _answers(probe: ProductOfExperts, train: MultimodalDataset) -> list[int]:
    """(L,) C of a model; its classes need not all occur in training. DataError for a modality of a
    type of numbers that its encoder does not take."""
    batch = train[np.arange(min(2, len(train)))]
    inputs = train.prepare(batch["inputs"])
    try:
        with torch.no_grad():
            log_prob, _ = probe(inputs, batch.get("present"))
    except (RuntimeError, ValueError) as error:
        if not OTHER_TYPE.search(str(error)):
            raise
        raise DataError(
            f"the model takes no {_first_refused(probe, inputs)} "
            f"({str(error).strip().splitlines()[0].rstrip('.')}); give it as float32, tokens as "
            "integers, or let the data set's `prepare` convert it"
        ) from error
    return list(log_prob.shape[1:])


def _first_refused(probe: ProductOfExperts, inputs: Inputs) -> str:
    """What the first expert that fails reads, each modality with its type."""
    reads = list(inputs)
    for expert in probe.experts.values():
        try:
            expert(inputs)
        except (RuntimeError, ValueError):
            reads = expert.modalities
            break
    types = {name: {str(x.dtype)[6:] for x in tree_leaves(inputs[name])} for name in reads}
    return ", ".join(f"{name} of {' and '.join(sorted(of))}" for name, of in types.items())


def _prior(y: np.ndarray, answers: list[int], normalise: bool) -> np.ndarray | None:
    """Frequencies of the training labels as probabilities of the answers, (L,) C; of answers that
    do not exclude each other those of each. None for labels that are neither."""
    *labels, classes = answers
    if y.dtype.kind not in "biu" or y.min() < 0:
        return None
    if list(y.shape[1:]) == labels and y.max() < classes:
        return np.exp(log_frequencies(y, classes))
    if list(y.shape[1:]) == answers and y.max() <= 1 and not normalise:
        return (y.sum(axis=0) + 1) / (len(y) + 2)  # each answer counted once more, as above
    return None


def _refuse_labels(answers: list[int], splits: Mapping[str, MultimodalDataset]) -> None:
    """DataError for labels [n(, L)] that are none of a model's answers, (L,) C."""
    *labels, classes = answers
    for name, split in splits.items():
        y, low, high = list(split.y.shape), split.y.min(), split.y.max()
        if y[1:] != labels or low < 0 or high >= classes:
            raise DataError(
                f"{name}: y {y} holds {low} to {high}, the model answers "
                f"{[len(split), *labels, classes]}; give y [n] for logits [B, C], [n, L] for "
                "[B, L, C], of classes 0 to C - 1"
            )


def trained_model(experiment: Experiment, run: Run, data: Data) -> ProductOfExperts:
    """The model with a run's best weights, on the CPU."""
    model = new_model(experiment, run.config, data)
    run.load_best_into(model)
    return model
