# Sourced by gates that judge a whole platform from outside: start_instance runs one of its own in one process, waits until it
# is ready, and stops and removes it when the gate ends. ENDPOINTS names the file with its addresses.

# start_instance GATE OUT: OUT is where its logs stay.
start_instance() {
  gate=$1 instance_out=$2
  [ -x bin/devstack ] || { echo "$gate: bin/devstack is missing; make build-devstack" >&2; exit 2; }
  mkdir -p "$instance_out"
  # A directory that another user may enter: Postgres does not run as root.
  GPUAAS_DATA=$(mktemp -d "${TMPDIR:-/tmp}/gpuaas-$gate-XXXXXX")
  chmod 0755 "$GPUAAS_DATA"
  export GPUAAS_DATA ENDPOINTS=$GPUAAS_DATA/endpoints.json
  bin/devstack up >"$instance_out/devstack.out" 2>&1 &
  instance=$!
  trap stop_instance EXIT
  trap 'exit 130' INT TERM
  for _ in $(seq 1 1800); do
    grep -q '^ready' "$instance_out/devstack.out" && return 0
    kill -0 "$instance" 2>/dev/null || { echo "$gate: the instance ended before it was ready" >&2; tail -n 40 "$instance_out/devstack.out" >&2; exit 1; }
    sleep 0.2
  done
  echo "$gate: the instance was not ready after six minutes" >&2
  exit 1
}

stop_instance() {
  local status=$?
  trap - EXIT INT TERM
  cp "$GPUAAS_DATA"/*.log "$instance_out/" 2>/dev/null || true
  kill -TERM "$instance" 2>/dev/null || true
  wait "$instance" || true
  bin/devstack down-clean >/dev/null || true
  rm -rf "$GPUAAS_DATA"
  exit "$status"
}
