#!/usr/bin/env bash
# Runs a command beside a real Keycloak that has the realm and the development users of deploy/keycloak, and removes it
# afterwards. The distribution comes from Maven's central repository and stays in Maven's cache alone; Java 17 or 21, Maven and
# unzip are needed. The command finds the issuer in GPUAAS_TEST_OIDC_ISSUER and its administrator in GPUAAS_TEST_KEYCLOAK_*.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=26.4.7
artifact=org.keycloak:keycloak-quarkus-dist:$version:zip
[ $# -gt 0 ] || { echo "keycloak: a command must follow" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/gpuaas-keycloak-XXXXXX")
server=
finish() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$server" ]; then
    kill -TERM -- "-$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ] && [ -f "$work/log" ]; then
    echo "--- the end of Keycloak's log" >&2
    tail -n 40 "$work/log" >&2
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Offline first: what is in the cache needs nobody.
fetch() { mvn -q -B "$@" dependency:copy -Dartifact="$artifact" -DoutputDirectory="$work" -Dmdep.overWriteSnapshots=false; }
fetch -o >"$work/maven.log" 2>&1 || fetch >"$work/maven.log" 2>&1 ||
  { cat "$work/maven.log" >&2; echo "keycloak: Maven cannot get $artifact" >&2; exit 1; }
unzip -q "$work/keycloak-quarkus-dist-$version.zip" -d "$work"
home=$work/keycloak-$version
mkdir -p "$home/data/import"
cp deploy/keycloak/gpuaas-realm.json deploy/keycloak/gpuaas-users-0.json "$home/data/import/"

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
port=$(free_port)
console=http://localhost:$(free_port)
issuer=http://localhost:$port/realms/gpuaas
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

# The first compiler alone, and the small collector: a server that lives for a minute has no use for more. In a process
# group of its own, because the start script forks.
set -m
env GPUAAS_API_CLIENT_SECRET=dev-client-secret GPUAAS_DIRECT_GRANTS=true GPUAAS_CONSOLE_URL="$console" \
  KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD="$password" KC_DB=dev-mem \
  JAVA_OPTS_KC_HEAP="-Xms64m -Xmx512m" JAVA_OPTS_GC=-XX:+UseSerialGC JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1 \
  "$home/bin/kc.sh" start-dev --import-realm --http-host=127.0.0.1 --http-port="$port" --hostname="http://localhost:$port" >"$work/log" 2>&1 &
server=$!
set +m

begun=$SECONDS
until curl -sf -o /dev/null "$issuer/.well-known/openid-configuration"; do
  kill -0 "$server" 2>/dev/null || { echo "keycloak: it ended before it was ready" >&2; exit 1; }
  [ $((SECONDS - begun)) -lt 480 ] || { echo "keycloak: not ready after eight minutes" >&2; exit 1; }
  sleep 0.5
done
echo "keycloak: $version ready after $((SECONDS - begun)) s" >&2

GPUAAS_TEST_OIDC_ISSUER=$issuer GPUAAS_TEST_OIDC_REDIRECT=$console/api/v1/auth/callback \
  GPUAAS_TEST_KEYCLOAK_ADMIN=admin GPUAAS_TEST_KEYCLOAK_PASSWORD=$password "$@"
