#!/usr/bin/env bash
# Measures one thing beside its limit; prints lines "ratio NAME VALUE". Arguments after the name go to the benchmark.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=local CGO_CFLAGS=${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}
name=${1:?allocation, api, billing, funds or outbox}
shift
mkdir -p bin/bench
go build -o "bin/bench/$name" "./bench/$name"
parts=postgres,temporal,redis
[ "$name" != outbox ] || parts=postgres,nats,redis
exec bin/devstack run --parts "$parts" -- "bin/bench/$name" "$@"
