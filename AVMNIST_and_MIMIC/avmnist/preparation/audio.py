"""Speech of AV-MNIST: read recordings, draw spectrograms.

A recording is a WAV named `digit_speaker_take.wav`, as in the Free Spoken Digit Dataset (FSDD). The
spectrogram follows the published generator of AV-MNIST: 112 frames of 112 frequencies, in grey,
scaled by each clip's own minimum and maximum.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import lzma
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

from i2m2.errors import DataError
from i2m2.reading.paths import files_below, require_file

RATE = 8000  # Hz, FSDD's
SIZE = 112  # frames, and frequencies from 0 to 4 kHz, of a spectrogram
FFT = 2 * SIZE - 1  # points; 112 one-sided frequencies
SHORTEST = RATE // 10  # samples
LARGEST = 1 << 30  # bytes of a WAV, hours
RATES = (1_000, 1_000_000)  # Hz, of any recording
LONGEST = FFT * SIZE  # samples; a longer clip would need a window longer than the FFT
_NAME = re.compile(r"(\d)_(.+)_(\d+)\.wav", re.IGNORECASE)
_CODING = re.compile(r"Unknown wave file format: (\w+)")  # as scipy says
# The last two: unknown method of compression, password.
NOT_A_ZIP = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError,
    RuntimeError,
)  # fmt: skip
NOT_A_WAV = (  # what scipy raises for one that is damaged
    ValueError,
    ArithmeticError,
    struct.error,
    EOFError,
    wavfile.WavFileWarning,
    UnboundLocalError,
    TypeError,
    IndexError,
)
# The inverted grey scale of the published pictures: brightness at 0, 1/8, ... 1 of the way from the
# weakest to the strongest.
_BRIGHTNESS = (255, 240, 217, 189, 150, 115, 82, 37, 0)
_GREY = (
    np.interp(np.linspace(0, 1, 4096), np.linspace(0, 1, 9), _BRIGHTNESS).round().astype(np.uint8)
)


@dataclass(frozen=True)
class Recording:
    """One spoken digit: `samples` float32 [L] at 8 kHz, root mean square one, cut at 3.1 s."""

    name: str
    digit: int
    speaker: str
    take: int
    samples: np.ndarray


@dataclass(frozen=True)
class Speech:
    """The recordings of a folder or zip, sorted by name.

    Beside them: how many WAVs had another name, and the sha256 of what was read.
    """

    recordings: list[Recording]
    misnamed: int
    sha256: str
    silent: int = 0  # recordings without any sound, which are kept


def read_speech(source: Path) -> Speech:
    """All `digit_speaker_take.wav` of a folder (recursively) or a zip (at any depth)."""
    recordings, misnamed, digest = {}, [], hashlib.sha256()
    for path, data in wav_files(source):
        name = _file_name(path)
        match = _NAME.fullmatch(name)
        if match is None:
            misnamed.append(name)
            continue
        if name in recordings:
            raise DataError(f"{source}: two files are named {name}; keep one of them")
        digest.update(f"{name} {len(data)}\n".encode("utf-8", "surrogateescape") + data)
        digit, speaker, take = match.groups()
        samples = normalise(decode_wav(f"{source}: {path}", data)[:LONGEST])
        recordings[name] = Recording(name, int(digit), speaker, int(take), samples)
    if not recordings:
        count = len(misnamed)
        other = f" ({count} WAVs have other names, such as {misnamed[0]})" if misnamed else ""
        raise DataError(
            f"{source}: no recordings named digit_speaker_take.wav, such as 7_jackson_32.wav"
            f"{other}; --speech names FSDD's folder or zip"
        )
    by_name = [recordings[name] for name in sorted(recordings)]
    silent = sum(not recording.samples.any() for recording in by_name)
    return Speech(by_name, len(misnamed), digest.hexdigest(), silent)


def wav_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """(path inside `source`, content) of every WAV in a folder or zip, sorted by file name."""
    if source.is_dir():
        paths = [path for path in files_below(source) if _is_wav(path.name)]
        for path in sorted(paths, key=lambda path: (path.name, path)):
            name = path.relative_to(source).as_posix()
            _refuse_long(f"{source}: {name}", path.stat().st_size)
            yield name, path.read_bytes()
        return
    require_file(
        source, "name the folder or zip of the WAV files, or fetch one with --download DIR"
    )
    try:
        with zipfile.ZipFile(source) as archive:
            members = [
                member for member in archive.infolist() if _is_wav(_file_name(member.filename))
            ]
            for member in sorted(members, key=lambda one: (_file_name(one.filename), one.filename)):
                _refuse_long(f"{source}: {member.filename}", member.file_size)
                yield member.filename, archive.read(member)
    except NOT_A_ZIP as error:
        raise DataError(
            f"{source}: not a readable zip ({error}); "
            "download it again, or name the unpacked folder"
        ) from None


def _refuse_long(where: str, size: int) -> None:
    if size > LARGEST:
        raise DataError(f"{where}: {size:,} bytes are no single recording; replace or remove it")


def _file_name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _is_wav(name: str) -> bool:
    return name.lower().endswith(".wav") and not name.startswith(".")


def decode_wav(where: str, data: bytes) -> np.ndarray:
    """A WAV of any kind -> float32 [L], mono at 8 kHz, full scale one.

    Any PCM width or float, any number of channels, any rate.
    """
    try:
        _refuse_cut(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that are not audio
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(data))
    except NOT_A_WAV as error:
        what, coding = "not a WAV file, or cut short", _CODING.search(str(error))
        if coding:
            what = f"coded as {coding[1]}, not PCM (ffmpeg -c:a pcm_s16le converts it)"
        raise DataError(f"{where}: {what}; replace or remove it") from None
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{where}: a rate of {rate:,} Hz is no recording's; replace or remove it")
    if samples.dtype.kind in "iu":
        unsigned = samples.dtype.kind == "u"  # 8-bit WAVs are, around 128
        samples = samples / 2.0 ** (8 * samples.dtype.itemsize - 1) - (1 if unsigned else 0)
    if samples.ndim == 1:
        samples = samples.astype(np.float64)
    else:
        samples = samples.mean(axis=1, dtype=np.float64)
    if rate != RATE and len(samples):
        common = math.gcd(RATE, rate)
        samples = resample_poly(samples, RATE // common, rate // common)
    if len(samples) < SHORTEST:
        raise DataError(
            f"{where}: {len(samples) / RATE:.3f} s long; at least {SHORTEST / RATE} s are needed. "
            "Replace or remove it"
        )
    if not np.isfinite(samples).all():
        raise DataError(f"{where}: holds NaN or infinite samples; replace or remove it")
    return samples.astype(np.float32)


def _refuse_cut(data: bytes) -> None:
    """EOFError if a WAV's samples, or what is before them, are not all there, which scipy takes as
    it is."""
    order = "big" if data[:4] == b"RIFX" else "little"
    place, chunk = 12, b""
    while data[:4] in (b"RIFF", b"RIFX") and place + 8 <= len(data) and chunk != b"data":
        chunk = data[place : place + 4]
        size = int.from_bytes(data[place + 4 : place + 8], order)
        place += 8 + size + size % 2
        if place > len(data) + size % 2:
            raise EOFError("cut short")


def normalise(samples: np.ndarray) -> np.ndarray:
    """Scale to root mean square one (speakers of FSDD differ 13-fold); silence stays silence."""
    loudness = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return (samples / loudness).astype(np.float32) if loudness > 0 else samples


@functools.cache
def window_of(length: int) -> tuple[int, int]:
    """Samples of a clip -> (window, overlap) in samples.

    The shortest window, then overlap, that give exactly 112 frames.
    """
    for window in itertools.count(max(1, -(-length // SIZE) - 1)):
        overlap = max(0, -((length - SIZE * window) // (SIZE - 1)))
        if overlap < window and (length - overlap) // (window - overlap) == SIZE:
            return window, overlap


@functools.lru_cache(maxsize=64)
def _fourier(window: int) -> np.ndarray:
    """Hann window, zero-padded FFT and power density scale as one matrix [window, 2 * 112].

    Its columns are real parts, then imaginary parts.
    """
    hann = np.hanning(window)
    angle = 2 * np.pi / FFT * np.outer(np.arange(window), np.arange(SIZE))
    sides = np.where(np.arange(SIZE) == 0, 1, 2)  # one-sided: all but 0 Hz count twice
    scale = np.sqrt(sides / (RATE * np.sum(hann**2)))
    parts = np.concatenate([np.cos(angle) * scale, np.sin(angle) * scale], axis=1)
    return (hann[:, None] * parts).astype(np.float32)


def power(clips: np.ndarray) -> np.ndarray:
    """float32 clips [B, L] -> power spectral density [B, 112 frames, 112 rising frequencies]."""
    window, overlap = window_of(clips.shape[1])
    frames = np.lib.stride_tricks.sliding_window_view(clips, window, axis=1)
    frames = frames[:, :: window - overlap][:, :SIZE]
    # 223 is a prime, so an FFT is slow; as windows are short, one matrix product per clip is
    # several times faster.
    spectrum = np.square(np.ascontiguousarray(frames) @ _fourier(window))
    return spectrum[..., :SIZE] + spectrum[..., SIZE:]


def spectrograms(clips: np.ndarray) -> np.ndarray:
    """float32 clips [B, L] -> uint8 [B, 112, 112]: frequencies x time, 0 Hz at the bottom.

    Dark is loud. Decibels are scaled by each clip's minimum and maximum, 100 dB apart at most; a
    clip without any contrast is white.
    """
    density = power(clips)
    peak = density.max(axis=(1, 2), keepdims=True)
    floor = np.maximum(peak * np.float32(1e-10), np.float32(1e-30))
    decibel = np.log(np.maximum(density, floor))  # the unit cancels below
    low, high = decibel.min(axis=(1, 2), keepdims=True), decibel.max(axis=(1, 2), keepdims=True)
    steps = (decibel - low) * ((len(_GREY) - 1) / np.maximum(high - low, np.float32(1e-6)))
    return _GREY[steps.astype(np.int16)].transpose(0, 2, 1)[:, ::-1]
