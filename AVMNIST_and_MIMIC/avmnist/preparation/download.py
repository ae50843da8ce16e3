"""Fetching MNIST, FSDD and ESC-50 from their owners, for machines with internet access."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from i2m2.errors import DataError
from i2m2.files import write_atomic

SPEECH = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip"
NOISE = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip"
# For the message; torchvision has a list of its own.
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
TIMEOUT = 10  # seconds without an answer
FAILURES = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    zipfile.BadZipFile,
    RuntimeError,  # torchvision: no mirror answers, or a checksum differs
)


def download(folder: Path) -> None:
    """MNIST (CC BY-SA 3.0), FSDD (CC BY-SA 4.0, 16 MB) and ESC-50 (CC BY-NC 3.0, 600 MB).

    -> folder/MNIST/raw, folder/fsdd.zip, folder/esc50.zip; what is there already is kept.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    speech, noise = folder / "fsdd.zip", folder / "esc50.zip"
    try:
        _mnist(folder)
        _fetch(SPEECH, speech)
        _fetch(NOISE, noise)
    except FAILURES as error:
        message = str(error).strip() or type(error).__name__
        reason = message.splitlines()[0].rstrip(":")
        raise DataError(
            f"{folder}: the download failed ({reason}); on a machine with internet fetch MNIST's "
            f"four files ({MNIST_URL}: train- and t10k-images-idx3-ubyte.gz, train- and "
            f"t10k-labels-idx1-ubyte.gz) into {folder}, {SPEECH} as {speech} and, if you want "
            f"recorded noise, {NOISE} as {noise}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    print(
        f"downloaded to {folder}; next: prepare_avmnist --mnist {folder} --speech {speech} "
        "--out data/avmnist"
    )


def _mnist(folder: Path) -> None:
    from torchvision.datasets import MNIST  # here, as it takes seconds and nothing else needs it

    # It prints a line per mirror that does not answer.
    with contextlib.redirect_stdout(io.StringIO()):
        MNIST(folder, download=True)


def _fetch(url: str, path: Path) -> None:
    if path.exists():
        return

    def write(temporary: Path) -> None:
        with (
            urllib.request.urlopen(url) as answer,
            open(temporary, "wb") as file,
            tqdm(desc=path.name, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := answer.read(1 << 20):
                file.write(block)
                bar.update(len(block))
        with zipfile.ZipFile(temporary):  # an answer that is no zip, or is cut short, fails here
            pass

    write_atomic(path, write)
