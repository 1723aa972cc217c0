#!/usr/bin/env bash
# The containers: `images` builds them, `demo` starts them all, asks the demo's questions, and always takes them down.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

command -v docker >/dev/null || die "docker is not installed; make demo shows the same without it"
docker info >/dev/null 2>&1 || die "no Docker engine answers; start it, or see the same with make demo"
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
else
  need docker-compose docker-compose "Docker Compose"
  compose=(docker-compose)
fi
compose+=(--project-name envoy-tenancy-demo --file envoy/docker-compose.yaml)
export ENVOY_PORT=${ENVOY_PORT:-10000}
export TENANCYD_TOKEN=${TENANCYD_TOKEN:-$(random_secret)}
export TENANCYD_CONNECTIONS_SECRET=${TENANCYD_CONNECTIONS_SECRET:-$(random_secret)}
export TENANCY_JWT_SECRET=${TENANCY_JWT_SECRET:-$(random_secret)}

tools/docker-images.sh
"${compose[@]}" build >&2
[ "${1:-}" = demo ] || exit 0

need curl curl "curl"
tools/venv.sh tools/requirements.txt
[ -z "$("${compose[@]}" ps -q)" ] || die "the demo's containers are there already; take them down with: ${compose[*]} down -v"
if (exec 3<>"/dev/tcp/127.0.0.1/$ENVOY_PORT") 2>/dev/null; then
  die "port $ENVOY_PORT is taken by another program: choose a free one, as in: make docker-demo ENVOY_PORT=$((ENVOY_PORT + 1000))"
fi

take_down() {
  local status=$?
  trap - EXIT
  [ "$status" -eq 0 ] || "${compose[@]}" logs --tail 40 >&2 || true
  say "Taking the containers down"
  "${compose[@]}" down -v --timeout 5 >&2
  exit "$status"
}
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the containers"
"${compose[@]}" up -d >&2

base="http://127.0.0.1:$ENVOY_PORT"
deadline=$((SECONDS + 60))
until [ "$(curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$base/healthz")" = 200 ]; do
  [ $SECONDS -lt $deadline ] || die "Envoy does not answer at $base/healthz after 60 seconds"
  sleep 0.5
done
.venv/bin/python3 -B tools/demo-checks.py "$base"
