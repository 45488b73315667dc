#!/usr/bin/env bash
# Builds electrs, whose index is that of the crate bindex: what tests/benches sets our index beside. No test needs it.
# Idempotent, safe to run twice at once. Prints its path on stdout.
# RocksDB is not compiled, which takes half an hour: it is the library as released for Java, of the very version that the
# crate carries in its source, for it has the C API too.
#   ELECTRS_JOBS   compilers at once, default: all cores. The build runs at low priority.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${ELECTRS_VERSION:=0.12.0}" "${ELECTRS_ROCKSDB:=9.10.0}" "${ELECTRS_JOBS:=$(nproc)}"
home="$SLUICE_CACHE/electrs-$ELECTRS_VERSION"
one_at_a_time electrs
if [ ! -e "$home/.complete" ]; then
  need_debian g++ libclang-dev mvn=maven unzip
  rm -rf "$home"; mkdir -p "$home.tmp/lib"; cd "$home.tmp"   # a build that was cut short goes on
  retry mvn -q -B -ntp -Dstyle.color=never ${MVN_LOCAL_REPO:+-Dmaven.repo.local=$MVN_LOCAL_REPO} \
    dependency:copy "-Dartifact=org.rocksdb:rocksdbjni:$ELECTRS_ROCKSDB" -DoutputDirectory=jar >&2
  [ "$ELECTRS_ROCKSDB" != 9.10.0 ] || file_is d68a10df820c811020ca27a332718e823cf577086f2eda9512b5f8e77bd17525 jar/*.jar
  case "$(uname -m)" in x86_64) system=linux64;; *) system="linux-$(uname -m)";; esac
  unzip -p jar/*.jar "librocksdbjni-$system.so" >lib/librocksdb.so
  # with the dependencies that its authors released it with; without metrics it listens nowhere
  (cd "$here" && unset RUSTFLAGS && export ROCKSDB_LIB_DIR="$home.tmp/lib" CARGO_TARGET_DIR="$home.tmp/target" CARGO_INCREMENTAL=0 &&
    retry nice -n 10 cargo install --quiet --locked --no-default-features --no-track --force --jobs "$ELECTRS_JOBS" \
      --root "$home.tmp" "electrs@$ELECTRS_VERSION" >&2)
  cat >electrs <<'J'
#!/usr/bin/env bash
here="$(dirname "${BASH_SOURCE[0]}")"
LD_LIBRARY_PATH="$here/lib" exec "$here/bin/electrs" "$@"
J
  chmod +x electrs
  rm -rf jar target
  touch .complete; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
fi
echo "$home/electrs"
