"""Synthesised speech: the English words zero..nine by several voices.

A glottal source of harmonics and a noise source are filtered by formants that glide through the
sounds of a word. Every take has its own pace, pitch, formants and stress.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from AVMNIST_and_MIMIC.avmnist.preparation.audio import RATE

SEED = 20240601  # of the voices and takes; a constant of the data set
HOP = RATE // 200  # samples per frame of 5 ms
WIDTHS = (70, 100, 150)  # of the three formants, in Hz


@dataclass(frozen=True)
class Voice:
    """A speaker.

    `pitch` in Hz; `formants` and `pace` are factors of the table below; `breath` is the share of
    noise in voiced sounds.
    """

    name: str
    pitch: float
    formants: float
    pace: float
    breath: float


VOICES = (
    Voice("ada", 205, 1.16, 1.00, 0.03),
    Voice("ben", 108, 0.98, 0.90, 0.01),
    Voice("cleo", 230, 1.22, 0.85, 0.05),
    Voice("dan", 92, 0.93, 1.15, 0.02),
    Voice("eve", 180, 1.10, 1.20, 0.02),
    Voice("finn", 130, 1.02, 1.05, 0.04),
)

# Sound: ms, voiced amplitude, noise amplitude, three formants in Hz, centre and width of the noise
# in Hz. Vowel formants: means of male speakers, Peterson & Barney (1952); the other values are set
# by ear within their usual ranges.
SOUNDS = {
    "iy": (110, 1.00, 0.00, 270, 2290, 3010, 2500, 800),
    "ih": (90, 1.00, 0.00, 390, 1990, 2550, 2500, 800),
    "eh": (110, 1.00, 0.00, 530, 1840, 2480, 2500, 800),
    "ah": (120, 1.00, 0.00, 640, 1190, 2390, 2500, 800),
    "aa": (110, 1.00, 0.00, 730, 1090, 2440, 2500, 800),
    "ao": (140, 1.00, 0.00, 570, 840, 2410, 2500, 800),
    "oh": (90, 1.00, 0.00, 450, 880, 2350, 2500, 800),
    "uh": (80, 0.80, 0.00, 440, 1020, 2240, 2500, 800),
    "uw": (150, 1.00, 0.00, 300, 870, 2240, 2500, 800),
    "w": (60, 0.50, 0.00, 290, 610, 2150, 2500, 800),
    "r": (70, 0.60, 0.00, 330, 1060, 1480, 2500, 800),
    "n": (90, 0.35, 0.00, 250, 1450, 2400, 2500, 800),
    "v": (60, 0.25, 0.04, 220, 1100, 2080, 2200, 1400),
    "z": (80, 0.20, 0.15, 240, 1390, 2530, 3800, 500),
    "s": (110, 0.00, 0.28, 400, 1500, 2500, 3900, 450),
    "f": (100, 0.00, 0.06, 400, 1100, 2100, 2400, 1600),
    "th": (90, 0.00, 0.05, 400, 1300, 2500, 2900, 1500),
    "hold": (45, 0.00, 0.00, 350, 1600, 2500, 2500, 800),  # the silence before a plosive
    "t": (30, 0.00, 0.25, 350, 1800, 2600, 3300, 700),
    "k": (35, 0.00, 0.20, 350, 1900, 2300, 1900, 500),
}
WORDS = (
    ("z", "ih", "r", "oh", "uh"),
    ("w", "ah", "n"),
    ("hold", "t", "uw"),
    ("th", "r", "iy"),
    ("f", "ao", "r"),
    ("f", "aa", "ih", "v"),
    ("s", "ih", "hold", "k", "s"),
    ("s", "eh", "v", "uh", "n"),
    ("eh", "ih", "hold", "t"),
    ("n", "aa", "ih", "n"),
)
# What takes vary by: standard deviations of the factors on the columns of SOUNDS but the first.
SPREAD = (0.15, 0.15, 0.05, 0.05, 0.03, 0.05, 0.10)


def speak(digit: int, voice: Voice, take: int) -> np.ndarray:
    """One take of one digit: float64 [L] at 8 kHz."""
    rng = np.random.default_rng((SEED, digit, VOICES.index(voice), take))
    tracks = _tracks(WORDS[digit], voice, rng)
    spoken = _voiced(tracks, voice, rng) + _noise(tracks, voice, rng)
    hiss = 1e-3 * spoken.std() * rng.standard_normal(len(spoken))  # of a quiet room
    return spoken + hiss


def _tracks(word: tuple[str, ...], voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """The parameters of SOUNDS but the first, per frame of 5 ms [T, 7].

    They step from sound to sound, smoothed into glides.
    """
    table = np.array([SOUNDS[sound] for sound in word])
    pace = rng.uniform(0.85, 1.15)
    stretch = rng.uniform(0.8, 1.25, len(word))
    frames = np.maximum(2, table[:, 0] / 5 * voice.pace * pace * stretch).round().astype(int)
    targets = table[:, 1:] * rng.normal(1, SPREAD, (len(word), 7))
    targets[:, 2:5] *= voice.formants * rng.normal(1, 0.02)
    tracks = np.pad(np.repeat(targets, frames, axis=0), ((4, 6), (0, 0)), mode="edge")
    tracks[:4, :2] = tracks[-6:, :2] = 0  # a little silence around
    glide = ndimage.gaussian_filter1d(tracks, 4.0, axis=0, mode="nearest")
    # Amplitudes glide less, so that plosives stay short.
    glide[:, :2] = ndimage.gaussian_filter1d(tracks[:, :2], 1.2, axis=0, mode="constant")
    return np.maximum(glide, 0)


def _voiced(tracks: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of the pitch, each as loud as the formants let it: [T * HOP]."""
    frames, samples = len(tracks), len(tracks) * HOP
    start, end = rng.normal(1.08, 0.06), rng.normal(0.86, 0.05)
    tremble = 1 + 0.01 * ndimage.gaussian_filter1d(rng.standard_normal(frames), 3)
    pitch = voice.pitch * np.linspace(start, end, frames) * tremble
    pitch_of_sample = np.interp(np.arange(samples) / HOP, np.arange(frames), pitch)
    phase = 2 * np.pi / RATE * np.cumsum(pitch_of_sample)
    harmonics = np.arange(1, int(0.49 * RATE / pitch.max()) + 1)
    frequency = pitch[:, None] * harmonics  # [T, H]
    # Source and radiation: -4 dB per octave, as formants above the third are left out.
    gain = tracks[:, :1] / harmonics ** rng.normal(0.7, 0.1)
    for formant, width in zip(tracks[:, 2:5].T, WIDTHS, strict=True):
        ratio = frequency / formant[:, None]
        gain = gain / np.sqrt((1 - ratio**2) ** 2 + (ratio * width / formant[:, None]) ** 2)
    waves = np.sin(phase[:, None] * harmonics, dtype=np.float32)
    return np.einsum("sh,sh->s", _per_sample(gain), waves)


def _per_sample(frames: np.ndarray) -> np.ndarray:
    """[T, H] -> float32 [T * HOP, H], linear between frames."""
    frames = frames.astype(np.float32)
    steps = np.diff(frames, axis=0, append=frames[-1:])
    fraction = (np.arange(HOP, dtype=np.float32) / HOP)[:, None]
    return (frames[:, None] + steps[:, None] * fraction).reshape(-1, frames.shape[1])


def _noise(tracks: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """White noise through a moving bell-shaped filter, overlapping frames of 10 ms: [T * HOP]."""
    frequency = np.fft.rfftfreq(2 * HOP, 1 / RATE)
    amplitude = 6 * (tracks[:, 1:2] + voice.breath * tracks[:, :1])
    bell = amplitude * np.exp(-0.5 * ((frequency - tracks[:, 5:6]) / tracks[:, 6:7]) ** 2)
    white = np.fft.rfft(rng.standard_normal((len(tracks), 2 * HOP)))
    frames = np.fft.irfft(white * bell) * np.hanning(2 * HOP + 1)[:-1]
    noise = np.zeros((len(tracks) + 1) * HOP)
    noise[:-HOP] += frames[:, :HOP].ravel()
    noise[HOP:] += frames[:, HOP:].ravel()
    return noise[:-HOP]
