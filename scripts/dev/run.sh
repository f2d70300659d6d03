#!/usr/bin/env bash
# Builds and runs one program of cmd/ against the instance that make dev-infra (or make up) has started. With --reload it is
# built and started anew whenever a Go, SQL or YAML file of the repository changes.
set -euo pipefail
cd "$(dirname "$0")/../.."
reload=false
if [ "${1:-}" = --reload ]; then
  reload=true
  shift
fi
program=${1:?the name of a program in cmd/}
data=${GPUAAS_DATA:-.data/dev}
[ -f "$data/endpoints.json" ] || { echo "run: no instance in $data; start one with make dev-infra" >&2; exit 2; }
[ -x bin/devstack ] || make --no-print-directory build-devstack
variables=$(bin/devstack env)
set -a
eval "$variables"
set +a
mkdir -p bin

go build -o "bin/$program" "./cmd/$program"
[ "$reload" = true ] || exec "bin/$program"

pid=
stop() {
  [ -z "$pid" ] || { kill -TERM "$pid" 2>/dev/null || true; wait "$pid" || true; }
}
trap 'stop; exit 0' INT TERM
mark=$(mktemp)
trap 'rm -f "$mark"' EXIT

# changed: some source is newer than the mark, or a directory is, from which one was removed.
changed() {
  [ -n "$(find . \( -name .git -o -name node_modules -o -name .data -o -name out -o -name bin \) -prune -o \
    \( -type d -o -name '*.go' -o -name '*.sql' -o -name '*.yaml' \) -newer "$mark" -print -quit)" ]
}

"bin/$program" &
pid=$!
while true; do
  until changed; do
    # In the background, so that a signal is answered at once.
    sleep 1 &
    wait $! || true
  done
  touch "$mark"
  echo "run: something changed, building $program" >&2
  if go build -o "bin/$program.next" "./cmd/$program"; then
    # A change that does not reach this program does not interrupt it.
    if cmp -s "bin/$program.next" "bin/$program" && kill -0 "$pid" 2>/dev/null; then continue; fi
    stop
    mv "bin/$program.next" "bin/$program"
    "bin/$program" &
    pid=$!
  else
    echo "run: it does not build; the former $program goes on" >&2
  fi
done
