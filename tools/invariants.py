#!/usr/bin/env python3
"""The project's own rules, each checked over the files of the repository. Prints every breach, not only the first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

os.chdir(Path(__file__).resolve().parent.parent)
FILES = [
    Path(name)
    for name in subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    if name and Path(name).is_file()
]
breaches = []


def text_of(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture, or a corpus of the fuzzer


def breach(path, line, words):
    breaches.append(f"{path}:{line}: {words}")


def lines_of(path):
    return enumerate(text_of(path).splitlines(), 1)


def code_of(path):
    """Rust lines without their comments; a // in a string ends the line early, which no rule here minds."""
    return ((number, line.split("//", 1)[0]) for number, line in lines_of(path))


def under(path, *folders):
    return any(str(path).startswith(folder) for folder in folders)


RUST = [path for path in FILES if path.suffix == ".rs"]
FILTER = [path for path in RUST if under(path, "src/") and not under(path, "src/bin/")]
YAML = [path for path in FILES if path.suffix in (".yaml", ".yml") and under(path, "envoy/")]
MANUAL = [path for path in FILES if path.suffix == ".md" and (path.parent == Path(".") or under(path, "docs/", "envoy/"))]


def is_of_envoy(path):
    return path == Path("src/wasm.rs") or under(path, "src/wasm/")


def one_room_speaks_to_envoy():
    for path in RUST:
        if not is_of_envoy(path):
            for number, line in code_of(path):
                if re.search(r"\bproxy_\w+\(", line):
                    breach(path, number, "only src/wasm.rs and what is in src/wasm/ may speak proxy-wasm")


def time_is_an_argument():
    for path in FILTER:
        if not is_of_envoy(path):
            for number, line in code_of(path):
                if re.search(r"\b(?:SystemTime|Instant)::now\b", line):
                    breach(path, number, "take the time as an argument")


def no_test_is_ignored():
    for path in RUST:
        for number, line in code_of(path):
            if re.search(r"#\[\s*ignore\b", line):
                breach(path, number, "a test that cannot run must fail, not be ignored")


def an_allowed_lint_has_its_reason():
    for path in RUST:
        text = text_of(path)
        for match in re.finditer(r"#!?\[\s*(?:allow|expect)\s*\(([^\]]*)\)\s*\]", text):
            if "reason" not in match.group(1):
                breach(path, text.count("\n", 0, match.start()) + 1, "say why: allow(…, reason = \"…\")")


def every_crate_takes_the_workspace_lints():
    for path in FILES:
        if path.name == "Cargo.toml" and not under(path, "fuzz/"):
            if not re.search(r"^\[lints\]\nworkspace = true$", text_of(path), re.MULTILINE):
                breach(path, 1, "needs [lints] workspace = true")


def no_path_of_one_machine():
    machine = re.compile(r"(?:^|[^A-Za-z0-9_.-])/(?:work|root|home|farm|Users)/")
    for path in FILES:
        for number, line in lines_of(path):
            if machine.search(line):
                breach(path, number, "holds a path of one machine")


def the_manual_names_what_exists():
    roots = {path.parts[0] for path in FILES if len(path.parts) > 1}
    verbs = set(re.findall(r"^([a-z0-9-]+):", text_of(Path("Makefile")), re.MULTILINE))
    for path in MANUAL:
        for number, line in lines_of(path):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if not re.match(r"[a-z]+:|#", target):
                    if not (path.parent / target.split("#")[0]).exists():
                        breach(path, number, f"the link {target} leads nowhere")
            for name in re.findall(r"`([A-Za-z0-9_.][\w.-]*(?:/[\w.-]+)+)/?`", line):
                if name.split("/")[0] in roots and not (Path(name).exists() or (path.parent / name).exists()):
                    breach(path, number, f"there is no {name}")
            for verb in re.findall(r"`make (?:-s )?([a-z0-9-]+)", line):
                if verb not in verbs:
                    breach(path, number, f"the Makefile has no verb {verb}")


def yaml_is_yaml():
    for path in YAML:
        try:
            list(yaml.safe_load_all(text_of(path)))
        except yaml.YAMLError as error:
            breach(path, getattr(error, "problem_mark", None) and error.problem_mark.line + 1, f"is no YAML: {error}")
    for path in MANUAL:
        text = text_of(path)
        for match in re.finditer(r"^```ya?ml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            try:
                list(yaml.safe_load_all(match.group(1)))
            except yaml.YAMLError as error:
                breach(path, text.count("\n", 0, match.start()) + 1, f"this block is no YAML: {error}")


def walk(node):
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def every_example_is_safe_to_copy():
    """An example is what people run in the end, so each has what keeps a tenant's door shut."""
    for path in YAML:
        try:
            nodes = [node for document in yaml.safe_load_all(text_of(path)) for node in walk(document)]
        except yaml.YAMLError:
            continue
        mappings = [node for node in nodes if isinstance(node, dict)]
        for node in mappings:
            kind = str(node.get("@type", ""))
            if node.get("allow_on_headers_stop_iteration"):
                breach(path, 1, "allow_on_headers_stop_iteration lets a request with a body through unjudged")
            if kind.endswith("extensions.filters.http.wasm.v3.Wasm"):
                config = node.get("config", {})
                if config.get("failure_policy") != "FAIL_RELOAD":
                    breach(path, 1, "needs failure_policy: FAIL_RELOAD")
                if not config.get("vm_config", {}).get("vm_id"):
                    breach(path, 1, "needs an explicit vm_id")
            if kind.endswith("HttpConnectionManager") and "wasm" in str(node):
                for key in ("stream_idle_timeout", "request_timeout"):
                    if key not in node:
                        breach(path, 1, f"needs {key}: it ends requests that a crash of the filter left waiting")
                if node.get("normalize_path") is not True:
                    breach(path, 1, "needs normalize_path: true")


def one_configuration_serves_both_demos():
    """Containers run envoy.yaml with other addresses: each line of containers.sed must still find its own."""
    script, config = Path("envoy/containers.sed"), text_of(Path("envoy/envoy.yaml"))
    for number, line in lines_of(script):
        rule = re.match(r"s/([^/]+)/[^/]+/$", line)
        if rule and config.count(rule.group(1).replace("\\.", ".")) != 1:
            breach(script, number, "does not fit exactly one place in envoy/envoy.yaml")


def scripts_stop_at_the_first_error():
    for path in FILES:
        if path.suffix == ".sh" or path == Path(".ci/run"):
            if path.name == "lib.sh" or not under(path, "tools/", ".ci/"):
                continue
            if "\nset -euo pipefail\n" not in text_of(path):
                breach(path, 1, "needs set -euo pipefail")
            if not os.access(path, os.X_OK):
                breach(path, 1, "needs its executable bit")


def every_verb_says_what_it_does():
    for number, line in lines_of(Path("Makefile")):
        if re.match(r"[a-z0-9-]+:(?!.*## )", line):
            breach("Makefile", number, "needs a ## description")


rules = [value for value in list(globals().values()) if callable(value) and getattr(value, "__module__", "") == "__main__"]
rules = [rule for rule in rules if rule.__code__.co_argcount == 0]
for rule in rules:
    rule()
for words in breaches:
    print(words, file=sys.stderr)
print(f"{len(rules)} rules over {len(FILES)} files, {len(breaches)} breaches", file=sys.stderr)
sys.exit(1 if breaches else 0)
