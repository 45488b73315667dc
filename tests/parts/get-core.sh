#!/usr/bin/env bash
# Builds Bitcoin Core (bitcoind and bitcoin-cli; wallet, REST, ZMQ) from the copy that the Python package py-bitcoinkernel carries in its source.
# Idempotent, safe to run twice at once. Prints the folder with the two binaries on stdout.
#   CORE_JOBS   compilers at once, default: all cores. The build runs at low priority (10 to 20 minutes on 2 cores).
#   CORE_KEEP=1 keeps the source in the cache, to read
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${CORE_PACKAGE:=0.1.0a5}" "${CORE_JOBS:=$(nproc)}" "${CORE_KEEP:=0}"
home="$SLUICE_CACHE/core-$CORE_PACKAGE"
one_at_a_time core
if [ ! -e "$home/.complete" ]; then
  need_debian g++ cmake ninja-build libevent-dev libboost-dev libsqlite3-dev libzmq3-dev pkg-config python3-venv
  rm -rf "$home"; mkdir -p "$home.tmp"; cd "$home.tmp"   # a build that was cut short goes on
  if [ ! -e src/.unpacked ]; then
    rm -rf src dl venv; mkdir src dl
    python3 -m venv venv
    retry venv/bin/pip install -q --disable-pip-version-check scikit_build_core==0.11.6 >&2
    # without build isolation: pip asks the build backend for the metadata, and would install all that a build needs for that
    retry venv/bin/pip download -q --disable-pip-version-check --no-deps --no-binary=:all: --no-build-isolation -d dl "py-bitcoinkernel==$CORE_PACKAGE" >&2
    [ "$CORE_PACKAGE" != 0.1.0a5 ] || file_is 71b91eecac7a8b07248be04471c3bf98016b38bf823aefd28f7b31179940520d "$(echo dl/*.tar.gz)"
    tar xzf dl/*.tar.gz -C src --strip-components=1
    touch src/.unpacked
  fi
  nice -n 10 cmake -S src/depend/bitcoin -B build -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -g0" -DCMAKE_C_FLAGS="-O1 -g0" \
    -DBUILD_TESTS=OFF -DBUILD_BENCH=OFF -DENABLE_WALLET=ON -DENABLE_IPC=OFF -DBUILD_GUI=OFF -DBUILD_TX=OFF -DBUILD_UTIL=OFF \
    -DBUILD_WALLET_TOOL=OFF -DBUILD_BITCOIN_BIN=OFF -DWITH_ZMQ=ON -DWITH_EMBEDDED_ASMAP=OFF -DENABLE_EXTERNAL_SIGNER=OFF >&2
  nice -n 10 ninja -C build -j "$CORE_JOBS" bitcoind bitcoin-cli >&2
  mkdir -p bin; cp build/bin/bitcoind build/bin/bitcoin-cli bin/; strip bin/*
  bin/bitcoind -version | head -1 >&2
  touch .complete; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
  rm -rf "$home"/{build,venv,dl}; [ "$CORE_KEEP" = 1 ] || rm -rf "$home/src"
fi
echo "$home/bin"
