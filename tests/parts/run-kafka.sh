#!/usr/bin/env bash
# A real Kafka (KRaft) on 127.0.0.1, 1 or 3 nodes, each node both broker and controller.
#   run-kafka.sh start DIR        make, format and start every node; waits until each says it is ready
#   run-kafka.sh stop DIR [N]     SIGTERM, SIGKILL after STOP_WAIT s; all nodes or node N
#   run-kafka.sh kill DIR N       SIGKILL node N
#   run-kafka.sh up DIR N         start node N again with its data
#   run-kafka.sh pid DIR N ; run-kafka.sh env DIR ; run-kafka.sh tool DIR CLASS ARGS...
# Environment at the first `start` (kept in DIR/settings): NODES=1|3 PORT, default free ones (node i has PORT+10*(i-1), +1 controller, +2 SASL_SSL, +3 SSL)
#   HEAP=512m SECURE=0|1 (adds SASL_SSL and SSL listeners, users admin/alice by SCRAM with the passwords
#   admin-secret/alice-secret, DIR/tls/ca.pem) EXTRA_PROPS=FILE
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
cmd="${1:?start|stop|kill|up|pid|env|tool}"; dir="${2:?a directory}"; shift 2
mkdir -p "$dir"; dir="$(cd "$dir" && pwd)"
lib="$("$here/get-kafka.sh")"; home="${lib%/lib}"
JAVA="${JAVA_HOME:+$JAVA_HOME/bin/}java"; KEYTOOL="${JAVA_HOME:+$JAVA_HOME/bin/}keytool"
if [ -e "$dir/settings" ]; then . "$dir/settings"; fi
: "${NODES:=1}"; [ -n "${PORT:-}" ] || [ "$cmd" != start ] || PORT="$(free_ports 24)"
: "${PORT:?was never started in $dir}" "${HEAP:=512m}" "${SECURE:=0}" "${EXTRA_PROPS:=}" "${START_WAIT:=90}" "${STOP_WAIT:=20}"

port() { echo $((PORT + 10 * ($1 - 1) + $2)); }
bootstrap() { local i s=; for ((i=1;i<=NODES;i++)); do s+="${s:+,}127.0.0.1:$(port "$i" "$1")"; done; echo "$s"; }
uuid() { # 16 random bytes, base64url, not starting with '-'
  local u; while :; do u="$(head -c16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"; [[ $u == -* ]] || break; done; echo "$u"; }
tool() { "$JAVA" -Xmx256m -Dlog4j2.configurationFile="$home/log4j2-tools.properties" -cp "$lib/*" "$@"; }
pid_of() { # prints the pid only when it is still our broker
  local p; p="$(cat "$dir/node$1/pid" 2>/dev/null)" || return 1
  { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qF "kafka.Kafka $dir/node$1/server.properties" && echo "$p"; }

make_tls() {
  local t="$dir/tls"; [ -e "$t/ca.pem" ] && return; mkdir -p "$t"
  "$KEYTOOL" -genkeypair -alias broker -keyalg RSA -keysize 2048 -validity 3650 -dname CN=localhost \
     -ext SAN=DNS:localhost,IP:127.0.0.1 -keystore "$t/broker.p12" -storetype PKCS12 -storepass changeit -keypass changeit >/dev/null 2>&1
  "$KEYTOOL" -exportcert -rfc -alias broker -keystore "$t/broker.p12" -storepass changeit >"$t/ca.pem" 2>/dev/null
}
write_props() {
  local i="$1" n=3; [ "$NODES" -lt 3 ] && n="$NODES"; local isr=$(( n > 1 ? 2 : 1 ))
  local ls="PLAINTEXT://127.0.0.1:$(port $i 0)" map="CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
  [ "$SECURE" = 1 ] && { ls+=",SASL_SSL://127.0.0.1:$(port $i 2),SSL://127.0.0.1:$(port $i 3)"; map+=",SASL_SSL:SASL_SSL,SSL:SSL"; }
  cat <<P
process.roles=broker,controller
node.id=$i
controller.quorum.bootstrap.servers=$(bootstrap 1)
listeners=$ls,CONTROLLER://127.0.0.1:$(port $i 1)
advertised.listeners=$ls
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=$map
log.dirs=$dir/node$i/data
auto.create.topics.enable=false
default.replication.factor=$n
min.insync.replicas=$isr
offsets.topic.replication.factor=$n
offsets.topic.num.partitions=10
transaction.state.log.replication.factor=$n
transaction.state.log.min.isr=$isr
transaction.state.log.num.partitions=10
share.coordinator.state.topic.replication.factor=$n
share.coordinator.state.topic.min.isr=$isr
group.initial.rebalance.delay.ms=0
# What sends no heartbeat for that long is fenced and leads nothing: quick where others take over, long where none can and a busy
# machine would fence a healthy node.
broker.session.timeout.ms=$((NODES == 1 ? 60000 : 3000))
broker.heartbeat.interval.ms=500
# a transaction past its timeout is aborted within 1 s of it, not 10 s
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# short session timeouts allowed, for both group protocols
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
P
  [ "$SECURE" = 1 ] && cat <<P
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location=$dir/tls/broker.p12
ssl.keystore.password=changeit
ssl.key.password=changeit
P
  [ -n "$EXTRA_PROPS" ] && cat "$EXTRA_PROPS"
  return 0
}
launch() { # the child outlives this script; its output is DIR/nodeN/server.log
  local i="$1" d="$dir/node$1"
  if pid_of "$i" >/dev/null; then say "node $i already runs"; return; fi
  if [ -e "$d/server.log" ]; then cat "$d/server.log" >>"$d/server.log.old"; fi
  : >"$d/server.log"   # here, not in the child: wait_ready must not find the last run's line
  (cd "$d" && exec setsid "$JAVA" -Xms"${HEAP}" -Xmx"${HEAP}" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \
     -Dlog4j2.configurationFile="$home/log4j2.properties" -cp "$lib/*" kafka.Kafka "$d/server.properties" \
     </dev/null >>"$d/server.log" 2>&1) &
  echo $! >"$d/pid"
}
wait_ready() {
  local i="$1" end=$((SECONDS + START_WAIT))
  until grep -q 'Kafka Server started' "$dir/node$i/server.log" 2>/dev/null; do
    kill -0 "$(cat "$dir/node$i/pid")" 2>/dev/null || { echo "node $i died; see $dir/node$i/server.log" >&2; tail -5 "$dir/node$i/server.log" >&2; exit 1; }
    [ $SECONDS -lt $end ] || { echo "node $i not ready in $START_WAIT s" >&2; exit 1; }
    sleep 0.1
  done
}
stop_nodes() { # all at once, so that no node waits long for a quorum that has gone
  local i p end; declare -A ps=()
  for i in "$@"; do p="$(pid_of "$i")" && { kill -TERM "$p" 2>/dev/null || true; ps[$i]="$p"; } || true; done
  end=$((SECONDS + STOP_WAIT))
  for i in "${!ps[@]}"; do
    while kill -0 "${ps[$i]}" 2>/dev/null; do
      if [ $SECONDS -ge $end ]; then pid_of "$i" >/dev/null && kill -KILL "${ps[$i]}" 2>/dev/null; sleep 0.2; break; fi
      sleep 0.1
    done
    rm -f "$dir/node$i/pid"
  done
}
case "$cmd" in
start)
  printf 'NODES=%q PORT=%q HEAP=%q SECURE=%q EXTRA_PROPS=%q\n' "$NODES" "$PORT" "$HEAP" "$SECURE" "$EXTRA_PROPS" >"$dir/settings"
  [ "$SECURE" = 1 ] && make_tls
  if [ ! -e "$dir/formatted" ]; then
    cluster="$(uuid)"; init=; scram=()
    for ((i=1;i<=NODES;i++)); do init+="${init:+,}$i@127.0.0.1:$(port $i 1):$(uuid)"; done
    [ "$SECURE" = 1 ] && scram=(--add-scram 'SCRAM-SHA-512=[name=admin,password=admin-secret]' --add-scram 'SCRAM-SHA-512=[name=alice,password=alice-secret]' --add-scram 'SCRAM-SHA-256=[name=alice,password=alice-secret]')
    fp=()
    for ((i=1;i<=NODES;i++)); do
      rm -rf "$dir/node$i"; mkdir -p "$dir/node$i"; write_props "$i" >"$dir/node$i/server.properties"
      tool kafka.tools.StorageTool format -t "$cluster" -c "$dir/node$i/server.properties" --initial-controllers "$init" "${scram[@]}" >"$dir/node$i/format.log" 2>&1 & fp+=($!)
    done
    for p in "${fp[@]}"; do wait "$p" || { cat "$dir"/node*/format.log >&2; exit 1; }; done
    touch "$dir/formatted"
  fi
  for ((i=1;i<=NODES;i++)); do launch "$i"; done
  for ((i=1;i<=NODES;i++)); do wait_ready "$i"; done
  echo "bootstrap.servers=$(bootstrap 0)";;
stop) if [ $# -gt 0 ]; then stop_nodes "$1"; else stop_nodes $(seq 1 "$NODES"); fi;;
kill) p="$(pid_of "$1")" && kill -KILL "$p" && while kill -0 "$p" 2>/dev/null; do sleep 0.05; done; rm -f "$dir/node$1/pid";;
up)
  # It may register again only when the session of the killed one is over.
  if [ "$NODES" = 1 ]; then sed -i 's/^broker.session.timeout.ms=.*/broker.session.timeout.ms=3000/' "$dir/node$1/server.properties"; fi
  launch "$1"; wait_ready "$1";;
pid) pid_of "$1";;
env) echo "KAFKA_BOOTSTRAP=$(bootstrap 0)"; [ "$SECURE" = 1 ] && { echo "KAFKA_SASL_SSL=$(bootstrap 2)"; echo "KAFKA_SSL=$(bootstrap 3)"; echo "KAFKA_CA=$dir/tls/ca.pem"; }; true;;
tool) tool "$@";;
*) echo "unknown: $cmd" >&2; exit 2;;
esac
