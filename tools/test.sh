#!/usr/bin/env bash
# Runs the tests against the filter just built and a real Envoy.
# Usage: tools/test.sh [cargo test's arguments…]
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# The crowd of the end-to-end tests needs some thousands; where the bound can't be raised, that test says so.
ulimit -S -n "$(ulimit -H -n)" || true
need curl curl "curl (it drives the end-to-end tests)"
tools/build.sh
ENVOY_BIN=$(tools/envoy.sh)
# Never in dist/: the filter with a way to crash its VM.
tools/wasm.sh build --profile crash --lib --locked --features crash >&2
export TENANCY_CRASH_WASM="$ROOT/target/wasm/wasm32-wasip1/crash/envoy_tenancy.wasm"
export ENVOY_BIN TENANCY_WASM="$ROOT/dist/tenancy.wasm" TENANCYD_BIN="$ROOT/dist/tenancyd" UPSTREAM_BIN="$ROOT/dist/upstream"
# With everything else that there is to test.
if [ "${1:-}" = --workspace ]; then
  need redis-server redis-server "Redis (tenancyd's tests and the end-to-end tests start one)"
  tools/api-test.sh
  # Chromium and the Autobahn suite are left to make websocket-test.
  tools/websocket-test.sh messages http2
fi
# Whoever names tests says all of it.
case " $* " in
*" -- "*) exec cargo test --locked "$@" ;;
esac
# The crowds take both cores, and the clocks of tests beside them would suffer: they come last, one after the other.
cargo test --locked "$@" -- --skip crowd::
exec cargo test --locked "$@" -- --test-threads=1 crowd::
