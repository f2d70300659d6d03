#!/usr/bin/env bash
# Everything that CI checks, lane by lane; a lane that cannot run here is said and counted as skipped. All lanes run even
# when an early one failed, and the closing line counts tests from go test -json and one for each lane without tests.
set -uo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}
out=$PWD/out/verify
rm -rf "$out" && mkdir -p "$out" bin
counts=$out/counts
: >"$counts"
begun=$SECONDS
failures=()

# lane NAME WHAT COMMAND...: runs a gate without tests of its own and counts it as one.
lane() {
  local name=$1 what=$2 from=$SECONDS
  shift 2
  printf '\n== %s: %s\n' "$name" "$what"
  if "$@"; then
    echo "1 0 0" >>"$counts"
    printf '== %s: passed in %d s\n' "$name" $((SECONDS - from))
  else
    echo "0 1 0" >>"$counts"
    failures+=("$name")
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - from))
  fi
}

# tests NAME WHAT COMMAND...: runs a command that prints go test -json and counts its tests.
tests() {
  local name=$1 what=$2 from=$SECONDS
  shift 2
  printf '\n== %s: %s\n' "$name" "$what"
  if "$@" 2>&1 | bin/tally -counts "$counts"; then
    printf '== %s: passed in %d s\n' "$name" $((SECONDS - from))
  else
    failures+=("$name")
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - from))
  fi
}

# counted NAME WHAT COMMAND...: runs a gate that appends its own counts; one that ends with 3 could not be run here, and counts as skipped.
counted() {
  local name=$1 what=$2 from=$SECONDS before status=0
  shift 2
  before=$(wc -l <"$counts")
  printf '\n== %s: %s\n' "$name" "$what"
  "$@" || status=$?
  case $status in
  0) printf '== %s: passed in %d s\n' "$name" $((SECONDS - from)) ;;
  3)
    echo "0 0 1" >>"$counts"
    printf '== %s: SKIPPED: what it needs cannot be had here\n' "$name"
    ;;
  *)
    [ "$(wc -l <"$counts")" -gt "$before" ] || echo "0 1 0" >>"$counts" # it ended before it had anything to count
    failures+=("$name")
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - from))
    ;;
  esac
}

# where_possible NAME WHAT COMMAND...: a lane whose command ends with 3 where what it needs cannot be had here, and then counts as skipped.
where_possible() {
  local name=$1 what=$2 from=$SECONDS status=0
  shift 2
  printf '\n== %s: %s\n' "$name" "$what"
  "$@" || status=$?
  case $status in
  0)
    echo "1 0 0" >>"$counts"
    printf '== %s: passed in %d s\n' "$name" $((SECONDS - from))
    ;;
  3)
    echo "0 0 1" >>"$counts"
    printf '== %s: SKIPPED: what it needs cannot be had here\n' "$name"
    ;;
  *)
    echo "0 1 0" >>"$counts"
    failures+=("$name")
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - from))
    ;;
  esac
}

skipped() {
  printf '\n== %s: SKIPPED: %s\n' "$1" "$2"
  echo "0 0 1" >>"$counts"
}

go build -o bin/tally ./scripts/ci/tally || exit 1

lane build "every program of both modules" make --no-print-directory build
if command -v npm >/dev/null; then
  lane codegen "generated files are fresh, and the TypeScript client compiles" scripts/ci/codegen_clean.sh
else
  skipped codegen "npm is not installed, so the TypeScript types cannot be generated"
fi
lane breaking-changes "the contract breaks nothing that the last tag promised" scripts/ci/breaking_changes.sh
lane breaking-changes-drill "the check for breaking changes turns red when it must" scripts/ci/breaking_changes_drill.sh
lane lint "golangci-lint and workflowcheck" scripts/ci/lint.sh
tests unit "tests that need no infrastructure, with the race detector" go test -race -json -timeout 20m ./...
tests devstack "tests of the development stack" go -C devstack test -tags integration -json -timeout 20m ./...
if [ "$(scripts/ci/redis.sh)" = embedded ]; then
  skipped redis "tests that need a real redis-server; the others run on the embedded one"
fi
if [ -x bin/devstack ]; then
  tests integration "tests on real Postgres, Temporal, Redis, issuer and CA, with the race detector" scripts/ci/integration.sh -race -json
  counted oidc "one suite on the embedded issuer and on a real Keycloak" env OIDC_COUNTS="$counts" scripts/ci/oidc.sh
  if [ "$(id -u)" -eq 0 ]; then
    tests root "tests that make a real operating-system user" scripts/ci/root.sh -json
  else
    skipped root "only root can make an operating-system user"
  fi
  lane smoke-one-process "the main job, everything in one process" scripts/ci/smoke.sh one-process
  lane smoke-separate "the main job, every program a process of its own" scripts/ci/smoke.sh separate
  counted e2e "what people see, in a real browser on a whole instance" env E2E_COUNTS="$counts" scripts/ci/frontend_e2e.sh
  where_possible fuzz "every operation fuzzed by its contract as two people, from one seed" env N=1200 SEED=1 scripts/ci/fuzz_api.sh
  if command -v npm >/dev/null; then
    lane sdk "both clients as their users have them, each with calls to a real instance" env CODEGEN_ENFORCE_CLEAN=1 scripts/ci/sdk_codegen_smoke.sh
  else
    skipped sdk "npm is not installed"
  fi
else
  for name in integration oidc root smoke-one-process smoke-separate e2e fuzz sdk; do
    skipped "$name" "bin/devstack did not build"
  done
fi

awk -v seconds=$((SECONDS - begun)) -v bad="${failures[*]:-}" '
  {passed += $1; failed += $2; skipped += $3}
  END {
    if (bad != "") printf "\nverify: failed lanes: %s\n", bad
    printf "verify: took %d s\n%d passed, %d failed, %d skipped\n", seconds, passed, failed, skipped
  }' "$counts"
[ "${#failures[@]}" -eq 0 ]
