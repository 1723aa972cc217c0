#!/usr/bin/env bash
# WebSocket clients as they are, through real Envoy with the filter and without: the Autobahn test suite, Chromium, Python's
# `websockets` with what its users do, and HTTP/2's extended CONNECT.
# Usage: tools/websocket-test.sh [messages|http2|browser|conformance]…, all of them if none is named; or bench.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

[ -f dist/tenancy.wasm ] || die "there is no dist/tenancy.wasm; run make build first"
need python3 python3 "Python"
need openssl openssl "OpenSSL (one of the doors speaks TLS)"
ENVOY_BIN=$(tools/envoy.sh)
tools/venv.sh tools/requirements-websocket.txt
export ENVOY_BIN TENANCY_WASM="${TENANCY_WASM:-$ROOT/dist/tenancy.wasm}" PYTHONDONTWRITEBYTECODE=1
python="$ROOT/.venv/bin/python3"

# The suite is published as sources for Python 2 alone, and asks for this release of autobahn. Neither is installed: the one is
# brought to Python 3 as it is loaded, the other runs there as it is.
suite="$ROOT/.venv/autobahn-suite"
get_suite() {
  [ ! -f "$suite/done" ] || return 0
  say "Getting the Autobahn test suite from PyPI into .venv"
  rm -rf "$suite"
  mkdir -p "$suite/archives"
  cat >"$suite/archives.txt" <<'HASHES'
autobahntestsuite==25.10.1 --hash=sha256:b083d6e15330fc16f3e5f0975cce2b15f21bfa0c6db09547316b1852c6dbd6df
autobahn==0.10.9 --hash=sha256:3fecc1e2a26a0421128ddcfb4e577f0bc669dd65d0e0fdad1c773965cbcef75a
HASHES
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
    --dest "$suite/archives" --requirement "$suite/archives.txt" >&2
  local name
  for name in autobahntestsuite autobahn; do
    mkdir "$suite/$name"
    tar --extract --gzip --strip-components 1 --directory "$suite/$name" --file "$suite/archives/$name"-[0-9]*.tar.gz
  done
  touch "$suite/done"
}

# Debian's own: a browser that downloads itself could not be had everywhere.
find_chromium() {
  local name
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$name"; then return; fi
  done
  install_packages "a browser" chromium-headless-shell
  command -v chromium-headless-shell || die "Debian's chromium-headless-shell has no program of that name"
}

failed=()
part() {
  say "$1"
  shift
  nice -n 5 "$python" "$@" || failed+=("$(basename "$1" .py)")
}

[ $# -gt 0 ] || set -- messages http2 browser conformance
for name; do
  case $name in
  messages) part "Python's websockets" tests/clients/messages.py ;;
  http2) part "HTTP/2's extended CONNECT" tests/clients/http2.py ;;
  browser)
    CHROMIUM=$(find_chromium)
    export CHROMIUM
    part "Chromium ($("$CHROMIUM" --version 2>/dev/null || true))" tests/clients/browser.py
    ;;
  conformance)
    get_suite
    part "The Autobahn test suite's fuzzing client" tests/clients/conformance.py "$suite"
    ;;
  bench) part "What a connection and a message cost" tests/clients/costs.py ;;
  *) die "there is no part '$name': messages, http2, browser, conformance or bench" ;;
  esac
done
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
