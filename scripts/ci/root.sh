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

# Only the tests of the tagged files: the other tests of their packages are of the lane integration, which has the parts they need.
mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*_test.go' ':!devstack' | xargs grep -lE '^//go:build .*\bhostroot\b')
[ "${#files[@]}" -gt 0 ] || { echo "root: no file has such tests" >&2; exit 1; }
mapfile -t packages < <(dirname "${files[@]}" | sort -u | sed 's|^|./|')
names=$(sed -nE 's/^func (Test[A-Z][A-Za-z0-9_]*)\(.*/\1/p' "${files[@]}" | paste -sd '|')
[ -n "$names" ] || { echo "root: the tagged files have no test" >&2; exit 1; }
GPUAAS_REDIS=$(scripts/ci/redis.sh)
export GPUAAS_REDIS
exec bin/devstack run --parts postgres,temporal,ui,oidc,ca,redis -- go test -tags hostroot,integration -count=1 -timeout 15m -run "^($names)\$" "$@" "${packages[@]}"
