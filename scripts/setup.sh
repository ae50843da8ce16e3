# Sourced by the other scripts: the root as working directory, and a Python that has the requirements.
# Uses the active virtual environment if there is one, else .venv, which it makes.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Among the arguments it would reach the runs, and neither what comes before them nor the tables.
for word in "$@"; do
  if [[ $word != --out && $word != --out=* ]]; then continue; fi
  echo "error: $word: the folder of results is no argument of a script; give it by environment, as in OUT=results bash $0" >&2
  exit 2
done
# What the caller names lies where the caller is; a config that is not there is one of the repository's.
for name in DATA OUT RAW IMAGES FEATURES CLUSTER CONFIG; do
  path=${!name:-}
  if [ . -ef "$ROOT" ] || [ -z "$path" ] || [ "${path:0:1}" = / ]; then continue; fi
  if [ "$name" = CONFIG ] && [ ! -e "$path" ]; then continue; fi
  printf -v "$name" %s "$PWD/$path"
done
if [[ ${PYTHON:-} == [!/]*/* ]]; then PYTHON=$PWD/$PYTHON; fi  # without a / it is a command's name
cd "$ROOT"
export I2M2_SCRIPTS="${I2M2_SCRIPTS:-} $HOSTNAME:$$"  # a sweep ends with the scripts that have begun it
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
  source .venv/bin/activate
fi
# Install only if something is not satisfied yet: a check by version takes half a second, pip and the network far longer.
python scripts/satisfied.py requirements.txt || python -m pip install -q -r requirements.txt
