#!/usr/bin/env bash
# A Python with the peers that the tests compare with: confluent-kafka, fastavro, bitcoin-etl, bsv-sdk. Idempotent, safe to run twice at once.
# Prints its python's path on stdout; bitcoin-etl is beside it as `bitcoinetl`.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${PYTHON:=python3}"
key="$(cat "$here"/python-requirements*.txt | sha256sum | cut -c1-12)"
home="$SLUICE_CACHE/python-$key"
one_at_a_time python
if [ ! -e "$home/.complete" ]; then
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || need_debian python3-venv
  rm -rf "$home"   # a venv names its own path, so it is made in place
  "$PYTHON" -m venv "$home"
  retry "$home/bin/pip" install -q --disable-pip-version-check -r "$here/python-requirements.txt" >&2
  # Asks for a newer requests than bitcoin-etl does; its merkle paths need neither.
  retry "$home/bin/pip" install -q --disable-pip-version-check --no-deps -r "$here/python-requirements-no-deps.txt" >&2
  "$home/bin/python" -c 'import confluent_kafka, fastavro, bitcoinetl, bsv.merkle_path' >&2
  touch "$home/.complete"
fi
echo "$home/bin/python"
