#!/usr/bin/env bash
# Runs the tests that make a real operating-system user, as root, on an infrastructure of their own.
# Takes flags of go test, such as -json.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}
[ "$(id -u)" -eq 0 ] || { echo "root: these tests need root" >&2; exit 1; }

# The tests log in over a real sshd of their own, on a port of their own; the package's service is not started.
if [ ! -x /usr/sbin/sshd ]; then
  echo "root: installing openssh-server" >&2
  apt-get update -qq >&2 && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server >&2
fi

mapfile -t packages < <(git ls-files --cached --others --exclude-standard -- '*_test.go' ':!devstack' |
  xargs grep -lE '^//go:build .*\bhostroot\b' | xargs -rn1 dirname | sort -u | sed 's|^|./|')
[ "${#packages[@]}" -gt 0 ] || { echo "root: no package has such tests" >&2; exit 1; }
GPUAAS_REDIS=$(scripts/ci/redis.sh)
export GPUAAS_REDIS
exec bin/devstack run --parts postgres,temporal,ui,oidc,ca,redis -- go test -tags hostroot,integration -count=1 -timeout 15m "$@" "${packages[@]}"
