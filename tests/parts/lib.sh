# Sourced by the scripts here: where things are cached, and what they all need.
: "${SLUICE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/chainsluice}"
mkdir -p "$SLUICE_CACHE"
SLUICE_CACHE="$(cd "$SLUICE_CACHE" && pwd)"
export SLUICE_CACHE

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# one_at_a_time NAME: only one script at once makes NAME. The lock ends with the script (fd 9: close it for children that outlive it).
one_at_a_time() { exec 9>"$SLUICE_CACHE/.lock-$1"; flock 9; }

# need_debian COMMAND=PACKAGE|PACKAGE...: installs the packages that are missing if we may, else says which to install.
need_debian() {
  local want missing=()
  for want in "$@"; do
    case "$want" in
      *=*) command -v "${want%%=*}" >/dev/null || missing+=("${want#*=}");;
      *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$want" 2>/dev/null)" = installed ] || missing+=("$want");;
    esac
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || die "please install these packages (Debian's names): ${missing[*]}"
  say "installing ${missing[*]}"
  (
    exec 8>"$SLUICE_CACHE/.lock-apt"; flock 8
    export DEBIAN_FRONTEND=noninteractive
    opts=(-qq -y --no-install-recommends -o DPkg::Lock::Timeout=300)
    apt-get install "${opts[@]}" "${missing[@]}" >&2 || { apt-get update -qq >&2; apt-get install "${opts[@]}" "${missing[@]}" >&2; }
  ) 9>&-
}

# retry COMMAND...: three tries, for registries.
retry() { local try; for try in 1 2 3; do "$@" && return; [ "$try" = 3 ] || sleep 3; done; die "failed three times: $*"; }

# file_is SHA256 FILE: what was downloaded is what was checked.
file_is() { echo "$1  $2" | sha256sum --check --quiet >&2 || die "$2 is not the file that was expected"; }

# free_ports N: prints the first of N ports in a row on 127.0.0.1 where nothing listens. Callers at the same time get different ones.
free_ports() {
  local at i
  exec 7>"$SLUICE_CACHE/.lock-ports"; flock 7
  at="$(cat "$SLUICE_CACHE/.next-port" 2>/dev/null)" || at=
  while :; do
    # below the kernel's own range for outgoing connections (32768 and up)
    if ! [ "${at:-0}" -ge 20000 ] || [ $((at + $1)) -gt 32000 ]; then at=20000; fi
    for ((i = at; i < at + $1; i++)); do if (exec 3<>"/dev/tcp/127.0.0.1/$i") 2>/dev/null; then at=$((i + 1)); continue 2; fi; done
    break
  done
  echo $((at + $1)) >"$SLUICE_CACHE/.next-port"; exec 7>&-
  echo "$at"
}
