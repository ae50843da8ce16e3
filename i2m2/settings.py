"""Settings: frozen dataclasses that say of every setting its type, default and role.

Nothing here needs torch; `i2m2.training.config` reads settings from files and the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, get_type_hints

from i2m2.errors import SettingsError
from i2m2.files import Plain
from i2m2.metrics import METRICS
from i2m2.names import FUSIONS, INTER, experts_of, name_parts

# What a setting means for the numbers of a run; one without a role changes them.
#   neutral   no influence: a run may be resumed with another value
#   location  where files lie: as neutral, but a command that makes a run like this one needs it
#   rounding  at most the last bits
#   identity  what the run is, which its name or its command says
#   budget    how long it trains, and on how much; tables show where it differs
Role = Literal["neutral", "location", "rounding", "identity", "budget"]

LOW_RANK = ("inter-low_rank_tensor",)  # for `used_by` below


def setting(
    default: object,
    role: Role | None = None,
    repeat: bool = False,
    least: int | None = None,
    used_by: Collection[str] | None = None,
) -> Any:
    """A field of a settings dataclass with a role. `repeat`: a command that makes a run like this
    one names it wherever it differs from the config file. `least`: the smallest value of an
    integer; None: 1, or the default if that is less. `used_by`: the only experts that it has
    an effect on, `inter-<fusion>` where it is on one fusion alone; `unimodal` for all but `inter`.
    """
    repeat = repeat or role in ("location", "budget")
    metadata = {"role": role, "repeat": repeat, "least": least, "used_by": used_by}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How a model is trained.

    Args:
        name: optimiser
        lr: learning rate, the peak one under a schedule
        weight_decay: L2 penalty (adamw: decoupled)
        momentum: momentum of sgd and rmsprop, from 0 to below 1
        epochs: number of passes over the training split
        batch_size: examples per update, over all devices and micro-batches
        micro_batches: parts into which a device splits its share of an update (gradient
            accumulation)
        clip_norm: largest global L2 norm of the gradient; null: no clipping
        schedule: learning rate after the warm-up: constant, or falling to 0 along a line or a
            cosine, update by update
        warmup: share of all updates over which the learning rate rises from 0, below 1
        select: metric on the validation split that picks the best epoch
        patience: training ends once this many epochs in a row brought no improvement; null: never
    """

    name: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    lr: float = 0.05
    weight_decay: float = 0.0
    momentum: float = 0.0
    epochs: int = setting(25, "budget")
    batch_size: int = 40
    micro_batches: int = setting(1, "rounding")
    clip_norm: float | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    select: str = "accuracy"
    patience: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every data set's settings share; one adds `data` and `model`, and names its modalities.

    Args:
        dataset: name of the data set
        method: unimodal_<modality>, intra, inter or i2m2
        fusion: how the inter-modality expert fuses its modalities
        seed: seed of the initialisation and the order of the examples, nothing else
        preset: named group of settings of the YAML file
        init: how joint models start: warm from the finished runs of their parts with the same seed,
            or from scratch
        tag: name that sets a run apart from others of its method; part of its folder's name
        out: folder of all results
        device: where the model runs; auto takes a GPU where there is one
        precision: arithmetic of the forward pass: fp16 or bf16 (mixed precision), or no: float32
        compile: whether to use torch.compile; graph: with a step's forward and backward pass as one
            CUDA graph each, for small networks on one GPU
        threads: CPU threads; null: those an interrupted run began with, else one for a model that
            is too small for more, else PyTorch's choice (OMP_NUM_THREADS)
        workers: number of processes that load data, of which there is at most one for each
            processor; 0: the training process does
        tracker: a further log for TensorBoard or Weights & Biases, beside metrics.jsonl
        optim: how a model is trained
    """

    modalities: ClassVar[tuple[str, ...]] = ()
    baselines: ClassVar[tuple[str, ...]] = ()  # modalities that only have a unimodal row
    metrics: ClassVar[tuple[str, ...]] = tuple(METRICS)  # that `optim.select` may name
    unused_parameters: ClassVar[bool] = False  # a step may leave some without a gradient

    dataset: str
    method: str = field(metadata={"role": "identity"})
    fusion: Literal[FUSIONS] | None = setting("concat", "identity")
    seed: int = setting(0, "identity")
    preset: str = setting("paper", "identity")
    init: Literal["warm", "scratch"] = setting("warm", "identity")
    tag: str | None = setting(None, "identity")
    out: str = setting("results", "neutral")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "rounding")
    precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool | Literal["graph"] = setting(False, "rounding")
    threads: int | None = setting(None, "rounding")
    workers: int = setting(0, "neutral")
    tracker: Literal["tensorboard", "wandb"] | None = setting(None, "neutral")
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts of the method: modalities and `inter`."""
        return experts_of(self.method, self.modalities, self.baselines)

    @property
    def usual_threads(self) -> int | None:
        """CPU threads where none are set: 1 if a second gains little; None: PyTorch's choice."""
        return None

    @property
    def step_size(self) -> int:
        """Examples of one forward pass over all devices, in training and in evaluation."""
        return -(-self.optim.batch_size // self.optim.micro_batches)

    @property
    def seeds_at_once(self) -> bool:
        """Whether several seeds are faster as one stack of models than one after the other: where
        layers are small. Of convolutions and pre-trained backbones the computing takes the time."""
        return True

    @property
    def run_name(self) -> str:
        """The name of its folder, as `name_parts` makes it."""
        scratch = self.init == "scratch" and len(self.experts) > 1
        parts = name_parts(self.method, self.fusion, self.preset, scratch, self.tag)
        return "-".join(parts.values())


def settings_of(cls: type, prefix: str = "") -> dict[str, tuple[Any, Field]]:
    """{dotted name: (type, field)} of every setting of a dataclass, in order."""
    hints = get_type_hints(cls)
    found = {}
    for f in fields(cls):
        name, hint = f"{prefix}{f.name}", hints[f.name]
        found |= settings_of(hint, f"{name}.") if is_dataclass(hint) else {name: (hint, f)}
    return found


def defaults_of(cls: type) -> Plain:
    """{dotted name: default} of the settings of a dataclass that have one, as in config.yaml."""
    defaults = {name: f.default for name, (_, f) in settings_of(cls).items()}
    return {name: to_dict(value) for name, value in defaults.items() if value is not MISSING}


def with_role(cls: type, *roles: Role) -> frozenset[str]:
    """Dotted names of the settings of a dataclass that have one of these roles."""
    role_of = {name: f.metadata.get("role") for name, (_, f) in settings_of(cls).items()}
    return frozenset(name for name, role in role_of.items() if role in roles)


def without_effect(cls: type, experts: Iterable[str], fusion: str | None) -> frozenset[str]:
    """Dotted names of the settings that change nothing about these experts."""
    present: set[str] = set()
    for expert in experts:
        present |= {INTER, f"{INTER}-{fusion}"} if expert == INTER else {expert, "unimodal"}
    used_by = {name: f.metadata.get("used_by") for name, (_, f) in settings_of(cls).items()}
    return frozenset(name for name, only in used_by.items() if only and not present & set(only))


def config_diff(
    first: Plain, second: Plain, ignored: frozenset[str]
) -> dict[str, tuple[object, object]]:
    """{dotted name: (value in `first`, in `second`)} where nested configs differ; None: absent."""
    a, b = flatten(first), flatten(second)
    names = sorted({*a, *b} - ignored)
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def to_dict(config: object) -> Any:
    """A settings dataclass as nested plain values, in the order of its fields, for YAML."""
    if is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in fields(config)}
    return list(config) if isinstance(config, tuple) else config


def flatten(values: Plain, prefix: str = "") -> Plain:
    """{'optim': {'lr': 1}} -> {'optim.lr': 1}; what is empty stays {}. SettingsError if both are
    given."""
    flat: Plain = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        is_group = isinstance(value, Mapping) and value
        new = flatten(value, f"{name}.") if is_group else {name: value}
        if twice := flat.keys() & new.keys():
            raise SettingsError(f"{min(twice)} is given twice, in a group and by its dotted name")
        flat |= new
    return flat


def flatten_at(where: str, values: object) -> Plain:
    """`flatten` of what a file holds there. SettingsError that begins with `where`."""
    group = check_group(values, where)
    try:
        return flatten(group)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error


def nest(flat: Plain) -> Plain:
    """{'optim.lr': 1} -> {'optim': {'lr': 1}}."""
    nested: Plain = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        group = nested
        for key in groups:
            group = group.setdefault(key, {})
        group[last] = value
    return nested


def merge_preset(values: Plain, path: str, preset: str, parts: Mapping[str, str]) -> Plain:
    """Content of a config file -> dotted settings, for one of its presets.

    Later ones win: the file, its `parts`, the preset, the preset's `parts`. `parts` says what to
    choose of `per_task` and `per_method`: {"per_method": "unimodal_image"} takes what they hold for
    the kind `unimodal`, then for `unimodal_image`. SettingsError, with `path`, for a preset that is
    not there, or what is no group of settings.
    """
    presets = check_group(values.get("presets", {}), f"{path}: presets")
    # A run's config.yaml is resolved: it has no presets, and says of which one it is.
    own = [] if "presets" in values else [str(values.get("preset") or "paper")]
    choices = dict.fromkeys([*own, "paper", *presets])
    if preset not in choices:
        raise SettingsError(
            f"preset={preset!r} is unknown in {path}; choose one of {', '.join(choices)}"
        )
    base = {key: value for key, value in values.items() if key != "presets"}
    merged: Plain = {}
    for where, given in ((path, base), (f"{path}: presets.{preset}", presets.get(preset, {}))):
        group = check_group(given, where)
        merged |= flatten_at(where, {k: value for k, value in group.items() if k not in parts})
        for name, choice in parts.items():
            of_part = check_group(group.get(name, {}), f"{where}: {name}")
            for key in dict.fromkeys((choice.partition("_")[0], choice)):  # the kind, then the one
                merged |= flatten_at(f"{where}: {name}.{key}", of_part.get(key, {}))
    return merged | {"preset": preset}


def check_group(value: object, where: str) -> Plain:
    """`value` if it is a group of settings; SettingsError that begins with `where` otherwise."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{where} must hold settings as `key: value` lines, not {value!r}")
    return value
