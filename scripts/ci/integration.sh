#!/usr/bin/env bash
# Runs the packages that have integration tests, on an infrastructure that is started for them and removed afterwards.
# Takes flags of go test, such as -race or -json. Where all tests ran, each kind of event must have been written by one.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}

mapfile -t packages < <(git ls-files --cached --others --exclude-standard -- '*_test.go' ':!devstack' |
  xargs grep -lE '^//go:build .*\bintegration\b' | xargs -n1 dirname | sort -u | sed 's|^|./|')
[ "${#packages[@]}" -gt 0 ] || { echo "integration: no package has integration tests" >&2; exit 1; }
GPUAAS_REDIS=$(scripts/ci/redis.sh)
export GPUAAS_REDIS
GPUAAS_TEST_WRITTEN_EVENTS=$(mktemp -d)
export GPUAAS_TEST_WRITTEN_EVENTS
trap 'rm -rf "$GPUAAS_TEST_WRITTEN_EVENTS"' EXIT
bin/devstack run --parts postgres,temporal,ui,oidc,ca,redis,nats,stripe -- go test -tags integration -count=1 -timeout 35m "$@" "${packages[@]}"
case " $* " in
*" -run"* | *" -short "* | *" -skip"*) ;; # not all of them
*) go run ./scripts/ci/written "$GPUAAS_TEST_WRITTEN_EVENTS" ;;
esac
