"""Exit code 0 if every requirement of a file is installed in a fitting version, else 1 and the list
of those that are not."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:  # a fresh virtual environment has only pip, which brings its own copy
    from pip._vendor.packaging.requirements import Requirement

missing = []
for line in Path(sys.argv[1]).read_text().splitlines():
    if text := line.split("#")[0].strip():
        requirement = Requirement(text)
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                missing.append(text)
        except PackageNotFoundError:
            missing.append(text)
if missing:
    print("to install:", ", ".join(missing))
sys.exit(bool(missing))
