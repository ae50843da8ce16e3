"""Texts to token ids: RoBERTa's tokenizer as published, and a tiny one of the same layout for the
synthetic data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i2m2.errors import DataError, SettingsError
from i2m2.reading.paths import damaged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILES = "tokenizer.json and tokenizer_config.json"  # which says what the padding is
# Ids 0, 1, 2, 3: RoBERTa's.
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a name on the hub or of a local folder. SettingsError, with what to
    download, where it cannot be had; DataError for a folder with a damaged one."""
    refuse_no_folder("tokenizer", name, FILES)
    from transformers import AutoTokenizer  # here: the library takes seconds to import

    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever the library stumbles over in a damaged file
        if Path(name).is_dir():
            raise _fault_in(Path(name), error) from None
        if not isinstance(error, (OSError, ValueError)):
            raise
        raise SettingsError(
            f"tokenizer {name}: none there that can be loaded ({_reason(error)}). "
            f"Without network: get it elsewhere (hf download {name} --local-dir FOLDER), "
            "copy FOLDER here, and set tokenizer to it"
        ) from None
    if tokenizer.pad_token_id is None:
        raise SettingsError(
            f"tokenizer {name} has no padding token; give the text encoder's own, such as "
            f"roberta-base, or a folder that holds both {FILES}"
        )
    return tokenizer


def refuse_no_folder(setting: str, name: str, holding: str) -> None:
    """SettingsError for what can only be a folder's name, and is not there, or is a file: the hub,
    asked for it, is tried for half a minute."""
    path = Path(name)
    is_path = name.startswith((".", "/")) or ("/" in name and path.parent.is_dir())
    if path.is_file():
        raise SettingsError(f"{setting} {name}: is a file; give a folder that holds {holding}")
    if is_path and not path.exists():
        raise SettingsError(
            f"{setting} {name}: no such folder; give one that holds {holding}, or a name on the hub"
        )


def _fault_in(folder: Path, error: Exception) -> DataError:
    """What is wrong with a folder whose tokenizer cannot be loaded: the file, if that can be
    told."""
    from tokenizers import Tokenizer

    again = "copy the tokenizer's files there again"
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            Tokenizer.from_file(str(file))
        except Exception as fault:  # the library raises no other kind
            return damaged(file, str(fault)[:200], again)
    return DataError(f"{folder}: no tokenizer that can be loaded ({_reason(error)}); {again}")


def _reason(error: Exception) -> str:
    """The first line of what a library says."""
    first = next(iter(str(error).splitlines()), "")[:200]
    return first if isinstance(error, (OSError, ValueError)) and first else repr(error)[:200]


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """The hub's libraries log errors only: they would list every attempt to reach it."""
    levels = {log: log.level for log in map(getLogger, ("transformers", "huggingface_hub"))}
    for log in levels:
        log.setLevel("ERROR")
    try:
        yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def make_tiny_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are the words and marks of these texts, lower-cased, laid out like
    RoBERTa's: `<s> text </s>`, padding 1, unknown words 3, the mask last."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split, lower = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    words: set[str] = set()
    for text in texts:
        words.update(word for word, _ in split.pre_tokenize_str(lower.normalize_str(text)))
    ordered = [*SPECIAL.values(), *sorted(words), "<mask>"]
    vocabulary = {word: number for number, word in enumerate(ordered)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = lower, split
    start, end = SPECIAL["bos_token"], SPECIAL["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, vocabulary[token]) for token in (start, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **SPECIAL, cls_token=start, sep_token=end, mask_token="<mask>"
    )


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Texts -> (ids int32 [n, max_length], mask bool [n, max_length], how many texts were cut). Cut
    texts keep their end token.

    Each distinct text is looked at once. DataError for a text that is empty.
    """
    where: dict[str, int] = {}
    row = np.array([where.setdefault(text, len(where)) for text in texts], np.int64)
    for text in where:
        if not text.strip():
            first = row.tolist().index(where[text])
            raise DataError(f"text {first} of {len(texts)} is empty; every example needs one")
    if not where:
        return np.zeros((0, max_length), np.int32), np.zeros((0, max_length), bool), 0
    options = {"add_special_tokens": True, "padding": False, "truncation": False}
    tokens = tokenizer(list(where), **options, verbose=False)["input_ids"]
    length = np.array([len(ids) for ids in tokens])
    end = np.array([ids[-1] for ids in tokens], np.int32)
    ids = np.full((len(tokens), max_length), tokenizer.pad_token_id, np.int32)
    used = np.minimum(length, max_length)
    mask = np.arange(max_length) < used[:, None]
    ids[mask] = np.concatenate([part[:max_length] for part in tokens])
    cut = length > max_length
    ids[cut, -1] = end[cut]
    return ids[row], mask[row], int(cut[row].sum())
