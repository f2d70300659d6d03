#!/usr/bin/env bash
# Starts an instance of its own, runs the main job once on it, and stops it. The argument says how it is started:
#   one-process   everything in bin/devstack up
#   separate      bin/devstack infra, and each program of ours as a process of its own
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=${1:?one-process or separate}
# A directory that another user may enter: Postgres does not run as root.
data=$(mktemp -d "${TMPDIR:-/tmp}/gpuaas-smoke-XXXXXX")
chmod 0755 "$data"
export GPUAAS_DATA=$data
pids=()

finish() {
  status=$?
  trap - EXIT INT TERM
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[$i]}" 2>/dev/null || true
    if ! wait "${pids[$i]}"; then
      echo "smoke: process ${pids[$i]} did not end cleanly" >&2
      [ "$status" -ne 0 ] || status=1
    fi
  done
  if [ "$status" -ne 0 ]; then
    for log in "$data"/*.log; do
      [ -f "$log" ] && { echo "--- the end of $log" >&2; tail -n 40 "$log" >&2; }
    done
  fi
  bin/devstack down-clean || true
  rm -rf "$data"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_for FILE PATTERN PID: until the program has said so, or has ended, or three minutes are over.
wait_for() {
  for _ in $(seq 1 900); do
    grep -q "$2" "$1" 2>/dev/null && return 0
    kill -0 "$3" 2>/dev/null || { echo "smoke: the process ended before it was ready" >&2; cat "$1" >&2; return 1; }
    sleep 0.2
  done
  echo "smoke: not ready after three minutes" >&2
  cat "$1" >&2
  return 1
}

start() { # start NAME COMMAND...
  local name=$1
  shift
  "$@" >"$data/$name.log" 2>&1 &
  pids+=($!)
}

# configured PROGRAM: the program with the instance's variables, which stay its own: DATABASE_URL means something else to
# bin/devstack.
configured() {
  local variables
  variables=$(bin/devstack env)
  eval "$variables"
  export GPUAAS_NODE_MODE=sim
  exec "bin/$1"
}

# usable: dev-user can sign in, has money, and some node is free. In separate mode the development stack pays the opening
# credit and has the nodes enrolled once the API answers.
usable() {
  GPUAAS_PASSWORD=dev123 HOME=$data bin/gpuaas login --username dev-user &&
    HOME=$data bin/gpuaas balance -o json | grep -Eq '"balance_micros": *[1-9]' &&
    HOME=$data bin/gpuaas sku list -o json | grep -Eq '"available_nodes": *[1-9]'
}

wait_until_usable() {
  for _ in $(seq 1 120); do
    usable >"$data/usable.log" 2>&1 && return 0
    for pid in "${pids[@]}"; do
      kill -0 "$pid" 2>/dev/null || { echo "smoke: process $pid ended before the platform was usable" >&2; return 1; }
    done
    sleep 0.5
  done
  echo "smoke: not usable after a minute" >&2
  return 1
}

case "$mode" in
one-process)
  start up bin/devstack up
  wait_for "$data/up.log" '^ready' "${pids[0]}"
  ;;
separate)
  start infra bin/devstack infra
  wait_for "$data/infra.log" '^ready' "${pids[0]}"
  for program in api billing-worker provisioning-worker webhook-worker outbox-relay notification-relay node-agent; do
    start "$program" configured "$program"
  done
  wait_until_usable
  ;;
*)
  echo "smoke: $mode is neither one-process nor separate" >&2
  exit 2
  ;;
esac
bin/smoke
