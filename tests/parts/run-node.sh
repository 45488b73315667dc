#!/usr/bin/env bash
# A real Bitcoin node (Bitcoin Core or Bitcoin SV) on regtest, on 127.0.0.1.
#   run-node.sh start core|bsv DIR   starts it in DIR, waits until RPC answers, prints DIR/env; a second start keeps data and ports
#   run-node.sh stop DIR             SIGTERM, SIGKILL after STOP_WAIT s
#   run-node.sh kill DIR             SIGKILL
#   run-node.sh up DIR               starts it again with its data, ports and arguments
#   run-node.sh pid DIR ; run-node.sh env DIR ; run-node.sh cli DIR ARGS...
# Environment at the first `start` (kept in DIR/settings):
#   RPC_PORT, P2P_PORT, ZMQ_PORT   default: free ones
#   RPC_AUTH=cookie|password       password: user "sluice", password "sluice-secret"
#   NODE_ARGS="-a -b=c"            more arguments, the last ones, so they win
# DIR/env: NODE RPC_URL RPC_USER RPC_PASSWORD RPC_COOKIE_FILE P2P_ADDR P2P_PORT ZMQ_URL BLOCKS_DIR
# (user and password are there for a cookie too: they change at each start). DIR/pid, DIR/node.log.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
cmd="${1:?start|stop|kill|up|pid|env|cli}"; shift
kind=; if [ "$cmd" = start ]; then kind="${1:?core or bsv}"; shift; fi
case "$kind" in ''|core|bsv) ;; *) die "core or bsv, not $kind";; esac
dir="${1:?a directory}"; shift
mkdir -p "$dir"; dir="$(cd "$dir" && pwd)"; data="$dir/data"
if [ -e "$dir/settings" ]; then
  . "$dir/settings"
  [ -z "$kind" ] || [ "$kind" = "$NODE" ] || die "$dir holds a node of another kind: $NODE"
elif [ "$cmd" = start ]; then
  NODE="$kind"; base="$(free_ports 3)"
  : "${RPC_PORT:=$base}" "${P2P_PORT:=$((base + 1))}" "${ZMQ_PORT:=$((base + 2))}" "${RPC_AUTH:=cookie}" "${NODE_ARGS:=}"
  printf 'NODE=%q RPC_PORT=%q P2P_PORT=%q ZMQ_PORT=%q RPC_AUTH=%q NODE_ARGS=%q\n' "$NODE" "$RPC_PORT" "$P2P_PORT" "$ZMQ_PORT" "$RPC_AUTH" "$NODE_ARGS" >"$dir/settings"
else
  die "no node was started in $dir"
fi
: "${START_WAIT:=60}" "${STOP_WAIT:=30}"
zmq="tcp://127.0.0.1:$ZMQ_PORT"

bin() { case "$NODE" in core) "$here/get-core.sh";; bsv) dirname "$("$here/get-bsv.sh")";; esac; }
pid_of() { # prints the pid only while it is still our node
  local p; p="$(cat "$dir/pid" 2>/dev/null)" || return 1
  { tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -qF -- "-datadir=$data " && echo "$p"
}
write_args() { # one a line; regtest's own checks of the whole mempool and block index at every step are off: they cost most of the time
  cat <<A
-regtest
-datadir=$data
-server
-rest
-listen
-bind=127.0.0.1:$P2P_PORT
-rpcbind=127.0.0.1
-rpcallowip=127.0.0.1
-rpcport=$RPC_PORT
-rpcworkqueue=256
-dnsseed=0
-discover=0
-listenonion=0
-printtoconsole=0
-checkmempool=0
-checkblockindex=0
A
  [ "$RPC_AUTH" = cookie ] || printf '%s\n' -rpcuser=sluice -rpcpassword=sluice-secret
  case "$NODE" in
  core)
    printf -- '-zmqpub%s='"$zmq"'\n' sequence hashblock rawtx hashtx
    printf '%s\n' -fixedseeds=0 -natpmp=0 -fallbackfee=0.00001 -acceptnonstdtxn=1;;
  bsv)
    printf -- '-zmqpub%s='"$zmq"'\n' hashblock2 rawtx2 hashtx2 discardedfrommempool removedfrommempoolblock invalidtx
    printf '%s\n' -excessiveblocksize=10000000000 -maxstackmemoryusageconsensus=0 -minminingtxfee=0.00000001 -invalidtxsink=ZMQ -genesisactivationheight=1 -disablesafemode=1 -upnp=0;;
  esac
  set -f; [ -z "$NODE_ARGS" ] || printf '%s\n' $NODE_ARGS
}
write_env() {
  local user=sluice password=sluice-secret cookie=
  if [ "$RPC_AUTH" = cookie ]; then cookie="$data/regtest/.cookie"; IFS=: read -r user password <"$cookie" || [ -n "$password" ]; fi
  cat >"$dir/env.tmp" <<V
NODE=$NODE
RPC_URL=http://127.0.0.1:$RPC_PORT
RPC_USER=$user
RPC_PASSWORD=$password
RPC_COOKIE_FILE=$cookie
P2P_ADDR=127.0.0.1:$P2P_PORT
P2P_PORT=$P2P_PORT
ZMQ_URL=$zmq
BLOCKS_DIR=$data/regtest/blocks
V
  mv "$dir/env.tmp" "$dir/env"
}
cli() { # bitcoin-cli, or the like for a node that answers RPC
  local auth=(); [ "$RPC_AUTH" = cookie ] || auth=(-rpcuser=sluice -rpcpassword=sluice-secret)
  "$bin/bitcoin-cli" -regtest -datadir="$data" -rpcconnect=127.0.0.1 -rpcport="$RPC_PORT" "${auth[@]}" "$@"
}
launch() { # the child outlives this script; its output is DIR/node.log
  local p end args
  if pid_of >/dev/null; then say "it already runs"; return; fi
  bin="$(bin)"; mkdir -p "$data"; mapfile -t args < <(write_args)
  rm -f "$data/regtest/.cookie"
  (cd "$dir" && exec setsid "$bin/bitcoind" "${args[@]}" </dev/null >>"$dir/node.log" 2>&1) &
  p=$!; echo $p >"$dir/pid"
  end=$((SECONDS + START_WAIT))
  until cli getblockcount >/dev/null 2>&1; do
    kill -0 $p 2>/dev/null || { say "the node died; see $dir/node.log"; tail -5 "$dir/node.log" >&2; exit 1; }
    [ $SECONDS -lt $end ] || die "RPC does not answer in $START_WAIT s"
    sleep 0.1
  done
  write_env
}
stop() { # stop SIGNAL
  local p end; p="$(pid_of)" || { rm -f "$dir/pid"; return 0; }
  kill "-$1" "$p" 2>/dev/null || true
  end=$((SECONDS + STOP_WAIT))
  while pid_of >/dev/null; do
    if [ $SECONDS -ge $end ]; then say "does not end by itself: killing it"; kill -KILL "$p" 2>/dev/null || true; sleep 0.2; break; fi
    sleep 0.05
  done
  rm -f "$dir/pid"
}
case "$cmd" in
start) launch; cat "$dir/env";;
up) launch;;
stop) stop TERM;;
kill) stop KILL;;
pid) pid_of;;
env) cat "$dir/env";;
cli) bin="$(bin)"; cli "$@";;
*) die "unknown: $cmd";;
esac
