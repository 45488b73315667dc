#!/usr/bin/env bash
# Apicurio Registry on 127.0.0.1, with the Confluent API.
#   run-registry.sh start DIR | stop DIR | kill DIR     `start` waits until it answers and prints http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7
# REGISTRY_PORT: default a free one, kept in DIR/port.
# STORAGE=h2 (file in DIR, the default) or kafka (topic kafkasql-journal on KAFKA_BOOTSTRAP). State survives a restart with both.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
cmd="${1:?start|stop|kill}"; dir="${2:?a directory}"
mkdir -p "$dir"; dir="$(cd "$dir" && pwd)"
: "${REGISTRY_PORT:=$(cat "$dir/port" 2>/dev/null || free_ports 1)}"; echo "$REGISTRY_PORT" >"$dir/port"
: "${STORAGE:=h2}" "${HEAP:=384m}" "${START_WAIT:=60}"
JAVA="${JAVA_HOME:+$JAVA_HOME/bin/}java"
pid_of() { local p; p="$(cat "$dir/pid" 2>/dev/null)" || return 1; { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qF "registry.dir=$dir " && echo "$p"; }
case "$cmd" in
start)
  home="$("$here/get-registry.sh")"
  jar="$home/quarkus-run.jar"; [ -e "$jar" ] || jar="$(ls "$home"/*-runner.jar)"   # 3.3.x : 3.0.x
  case "$STORAGE" in
    h2) st=(-Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 "-Dapicurio.datasource.url=jdbc:h2:file:$dir/h2;WRITE_DELAY=0");;
    kafka) st=(-Dapicurio.storage.kind=kafkasql "-Dapicurio.kafkasql.bootstrap.servers=${KAFKA_BOOTSTRAP:?}");;
  esac
  url="http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"
  if pid_of >/dev/null; then echo "$url"; exit 0; fi
  (cd "$dir" && exec setsid "$JAVA" -Xmx"$HEAP" -Dregistry.dir="$dir" -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$REGISTRY_PORT" \
     "${st[@]}" -jar "$jar" </dev/null >"$dir/registry.log" 2>&1) & p=$!; echo $p >"$dir/pid"
  end=$((SECONDS + START_WAIT))
  until curl -sf -o /dev/null --max-time 2 "$url/subjects"; do
    kill -0 $p 2>/dev/null || { echo "registry died; see $dir/registry.log" >&2; tail -5 "$dir/registry.log" >&2; exit 1; }
    [ $SECONDS -lt $end ] || { echo "registry not ready in $START_WAIT s" >&2; exit 1; }
    sleep 0.1
  done
  echo "$url";;
stop) if p="$(pid_of)"; then kill -TERM "$p" || true; for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done; pid_of >/dev/null && kill -KILL "$p"; fi; rm -f "$dir/pid";;
kill) if p="$(pid_of)"; then kill -KILL "$p"; fi; rm -f "$dir/pid";;
esac
