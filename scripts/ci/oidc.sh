#!/usr/bin/env bash
# Holds both issuers to the same suite: the development stack's, and a real Keycloak 26 with the realm of deploy/keycloak. Prints
# both counts in its last line, and appends them to the file in OIDC_COUNTS, if that is set. Where Java and Maven are, the
# Keycloak must run; where they are not, it counts as skipped.
set -uo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p bin
[ -x bin/tally ] || go build -o bin/tally ./scripts/ci/tally || exit 1
failed=0

# run KIND COMMAND...: the suite beside an issuer that the command starts.
run() {
  local kind=$1
  shift
  printf '\n-- %s\n' "$kind"
  if ! "$@" env GPUAAS_TEST_OIDC_KIND="$kind" go test -tags oidc -count=1 -json -timeout 5m ./internal/oidc/conformance 2>&1 |
    bin/tally -counts "$out/$kind"; then
    failed=1
    [ -s "$out/$kind" ] || echo "0 1 0" >"$out/$kind"
  fi
}

run embedded bin/devstack run --parts oidc --
if command -v java >/dev/null && command -v mvn >/dev/null; then
  run keycloak scripts/ci/keycloak.sh
else
  echo "-- keycloak: SKIPPED: Java and Maven are not installed"
  echo "0 0 1" >"$out/keycloak"
fi

said=
for kind in embedded keycloak; do
  read -r passed bad skipped <"$out/$kind"
  said="$said${said:+; }$kind $passed passed, $bad failed, $skipped skipped"
  [ -z "${OIDC_COUNTS:-}" ] || echo "$passed $bad $skipped" >>"$OIDC_COUNTS"
done
echo "test-oidc: $said"
exit "$failed"
