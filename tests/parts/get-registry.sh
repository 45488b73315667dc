#!/usr/bin/env bash
# Puts Apicurio Registry (Confluent-compatible API) into the cache, as registry-VERSION. Prints that folder. Java 17 is enough for 3.0.9.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${REGISTRY_VERSION:=3.0.9}"
home="$SLUICE_CACHE/registry-$REGISTRY_VERSION"
one_at_a_time registry
if [ ! -e "$home/.complete" ]; then
  need_debian java=openjdk-17-jdk-headless mvn=maven
  rm -rf "$home" "$home.tmp"; mkdir -p "$home.tmp/dl"
  # copy one file, without its pom's parents (3.0.9's parent pom is not in the registry)
  cd "$home.tmp"
  retry mvn -q -B -ntp -Dstyle.color=never ${MVN_LOCAL_REPO:+-Dmaven.repo.local=$MVN_LOCAL_REPO} \
    dependency:copy -Dartifact=io.apicurio:apicurio-registry-app:"$REGISTRY_VERSION":tar.gz:all -DoutputDirectory=dl >&2
  tar xzf "$home.tmp"/dl/apicurio-registry-app-*-all.tar.gz -C "$home.tmp"; rm -rf "$home.tmp/dl"
  touch "$home.tmp/.complete"; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
fi
echo "$home"
