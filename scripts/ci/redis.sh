#!/usr/bin/env bash
# Makes sure that tests have a real redis-server, and prints GPUAAS_REDIS for them: real, or embedded where there is none and
# none can be installed. The package's service is neither started nor enabled; devstack runs a server of its own.
set -euo pipefail
if ! command -v redis-server >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "redis: installing redis-server" >&2
  # A masked unit is not enabled by the package either; RUNLEVEL=1 holds where there is no systemd.
  mkdir -p /etc/systemd/system
  [ -e /etc/systemd/system/redis-server.service ] || ln -s /dev/null /etc/systemd/system/redis-server.service
  { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >&2 ||
    echo "redis: redis-server could not be installed" >&2
fi
if command -v redis-server >/dev/null; then
  echo real
else
  echo "redis: no redis-server is here: tests use the embedded server, and those that need a real one are skipped" >&2
  echo embedded
fi
