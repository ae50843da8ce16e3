"""Noise of AV-MNIST: per pair a kind, a signal-to-noise ratio and a waveform.

All are drawn from (seed, part, row) alone. The paper mixes FSDD with clips of ESC-50. Without those
clips the noise is generated: coloured noise, and babble of recordings that belong to the same part
as the pair.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import fft

from AVMNIST_and_MIMIC.avmnist.preparation.audio import decode_wav, normalise, wav_files
from AVMNIST_and_MIMIC.avmnist.preparation.rules import PARTS
from i2m2.errors import DataError

EXPONENTS = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # power falls with frequency ** -exponent
TALKERS = 4  # voices in a babble
_ESC50 = re.compile(r"\d+-(\d+)-[A-Z]+-\d+\.wav", re.IGNORECASE)  # fold-recording-take-category.wav


@dataclass(frozen=True)
class NoiseClips:
    """Noise recordings by part, float32 [L] at 8 kHz each, in no two parts.

    `sha256` is of what was read.
    """

    clips: Mapping[str, list[np.ndarray]]
    sha256: str
    silent: int = 0  # recordings that were left out, since nothing is heard


def read_noise(source: Path) -> NoiseClips:
    """Every WAV of a folder or zip, its sources shared out over the parts.

    Of ten sources one is for test, one for validation, eight for training. Takes of one ESC-50
    recording are one source, so that they stay together; so are copies under other names.
    """
    by_source: dict[str, list[np.ndarray]] = {}
    source_of: dict[bytes, str] = {}  # by what is heard
    digest, silent = hashlib.sha256(), 0
    for path, data in wav_files(source):
        name = path.rsplit("/", 1)[-1]
        digest.update(f"{name} {len(data)}\n".encode("utf-8", "surrogateescape") + data)
        samples = decode_wav(f"{source}: {path}", data)
        heard = np.flatnonzero(np.abs(samples) > 1e-4)
        if not len(heard):
            silent += 1
        else:  # ESC-50 pads short clips with silence
            match = _ESC50.fullmatch(name)
            sound = normalise(samples[heard[0] : heard[-1] + 1])
            content = hashlib.sha256(sound).digest()
            recording = source_of.setdefault(content, match[1] if match else name)
            by_source.setdefault(recording, []).append(sound)
    if len(by_source) < 3:
        raise DataError(
            f"{source}: {len(by_source)} different noise recordings; "
            "at least 3 are needed, one each for train, val and test"
        )
    clips = {part: [] for part in PARTS}
    for i, name in enumerate(sorted(by_source)):
        clips[{0: "test", 1: "val"}.get(i % 10, "train")] += by_source[name]
    return NoiseClips(clips, digest.hexdigest(), silent)


@dataclass(frozen=True)
class Mixer:
    """Adds noise to speech.

    `kinds` as in `Rules.noise`, none if empty; `snr` in dB, drawn uniformly from this range.
    `voices` and `clips` are what babble and clips are cut from: part -> waveforms.
    """

    seed: int
    kinds: Sequence[str]
    snr: tuple[float, float]
    voices: Mapping[str, list[np.ndarray]] = field(default_factory=dict)
    clips: Mapping[str, list[np.ndarray]] = field(default_factory=dict)

    def mix(
        self, speech: np.ndarray, part: str, rows: Sequence[int]
    ) -> tuple[np.ndarray, list[str], np.ndarray]:
        """One recording [L] for all these rows of a part.

        -> clips float32 [B, L], kinds [B], signal-to-noise ratios [B] in dB.
        """
        mixed = np.repeat(speech[None], len(rows), axis=0)
        kinds, snrs = [], np.full(len(rows), np.inf)
        for i, row in enumerate(rows if self.kinds else ()):
            rng = np.random.default_rng((self.seed, PARTS.index(part), int(row)))
            snrs[i] = rng.uniform(*self.snr)
            kinds.append(self.kinds[rng.integers(len(self.kinds))])
            wave = self._wave(rng, kinds[i], part, len(speech))
            mixed[i] += np.float32(10 ** (-snrs[i] / 20)) * wave
        return mixed, kinds or ["none"] * len(rows), snrs

    def _wave(self, rng: np.random.Generator, kind: str, part: str, length: int) -> np.ndarray:
        if kind == "babble":
            voices = self.voices[part]
            talkers = (voices[rng.integers(len(voices))] for _ in range(TALKERS))
            return normalise(sum(_excerpt(rng, talker, length) for talker in talkers))
        if kind == "clips":
            clips = self.clips[part]
            return normalise(_excerpt(rng, clips[rng.integers(len(clips))], length))
        return normalise(coloured(rng, length, EXPONENTS[kind]))


def coloured(rng: np.random.Generator, length: int, exponent: float) -> np.ndarray:
    """Gaussian noise float32 [length] without a mean.

    Its power falls with frequency ** -exponent.
    """
    padded = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(rng.standard_normal(padded, dtype=np.float32))
    frequency = np.arange(len(spectrum), dtype=np.float32)
    spectrum[1:] *= frequency[1:] ** np.float32(-exponent / 2)
    spectrum[0] = 0
    return fft.irfft(spectrum, padded)[:length]


def _excerpt(rng: np.random.Generator, wave: np.ndarray, length: int) -> np.ndarray:
    """`length` samples of `wave` from a random start, begun again at its end.

    If that is silence, from its loudest sample.
    """
    start = int(rng.integers(len(wave)))
    excerpt = np.take(wave, np.arange(start, start + length), mode="wrap")
    if not np.any(np.abs(excerpt) > 1e-4):
        excerpt = np.take(wave, np.arange(length) + int(np.argmax(np.abs(wave))), mode="wrap")
    return excerpt
