#!/usr/bin/env python3
"""Asks a running Envoy what a person would ask with curl, shows each answer, and judges it.

Usage: tools/demo-checks.py BASE_URL, where envoy/envoy.yaml and envoy/demo-tenants.json are in force, and
TENANCY_JWT_SECRET in the environment is Envoy's own. Where tenancyd can be reached, TENANCYD_URL says where, and
TENANCYD_TOKEN is its own. With STAYS_UP=1 there are words at the end for a person who goes on from here.
Exits with 1 if one answer is not what the manual promises.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import demo_websockets
from demo_lib import BOLD, DIM, GREEN, PLAIN, counts, section, token, verdict

BASE = sys.argv[1].rstrip("/")
SHOWN = ("x-tenant-", "x-forwarded-prefix")  # what of the upstream's headers is worth a person's eyes
ABSENT = None


def host(name):
    return ["-H", f"Host: {name}"]


def header(line):
    return ["-H", line]


def bearer(**claims):
    return header(f"Authorization: Bearer {token(**claims)}")


def ask(title, arguments, path, status, /, **expected):
    """One curl, printed so that it can be pasted. The other names are what the answer must hold: of a refusal its
    code, else what the upstream says of itself and, with _ for -, the headers that it received."""
    command = ["curl", "-i", *arguments, BASE + path]
    print(f"  {title}\n    {BOLD}$ {shlex.join(command)}{PLAIN}")
    code, body, faults = answer_to(command, status, "application/json")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
        faults.append(f"the body is no JSON: {body[:200]!r}")
    if not isinstance(answer, dict):
        answer = {}
    got = seen_in(answer)
    for name, value in expected.items():
        name = name.replace("_", "-")
        if got.get(name, ABSENT) != value:
            faults.append(f"{name} is {got.get(name, ABSENT)!r}, expected {value!r}")
    print(f"    {code}  {in_words(answer, got, body)}")
    verdict(faults)


def answer_to(command, status, content_type):
    run = subprocess.run(
        [*command, "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    answered, _, code = run.stdout.rpartition("\n")
    head, _, body = answered.partition("\n\n")  # Python has made each \r\n a \n
    faults = [f"curl failed: {run.stderr.strip()}"] if run.returncode else []
    if code != str(status):
        faults.append(f"status {code}, expected {status}")
    if f"\ncontent-type: {content_type}" not in head:
        faults.append(f"the content-type is not {content_type}")
    return code, body, faults


def page(title, path, file):
    """Asks for a page, which Envoy serves from that file."""
    command = ["curl", "-i", BASE + path]
    print(f"  {title}\n    {BOLD}$ {shlex.join(command)}{PLAIN}")
    code, body, faults = answer_to(command, 200, "text/html")
    if body != file.read_text(encoding="utf-8"):
        faults.append(f"the body is not {file.name}: {body[:200]!r}")
    print(f"    {code}  {GREEN}{file.name}{PLAIN}, {len(body)} letters")
    verdict(faults)


def seen_in(answer):
    error = answer.get("error")
    if isinstance(error, dict):
        return {"code": error.get("code"), "message": error.get("message")}
    headers = answer.get("headers", {})
    got = {name: ", ".join(values) for name, values in headers.items()}
    got.update({"name": answer.get("name"), "method": answer.get("method"), "path": answer.get("path")})
    got["bodyBytes"] = answer.get("bodyBytes")
    return got


def in_words(answer, got, body):
    if "code" in got:
        return f"{got['code']}: {got['message']}"
    if "name" not in answer:
        return f"{DIM}{body[:200]}{PLAIN}"
    shown = [f"{name}: {value}" for name, value in got.items() if name.startswith(SHOWN)]
    return f"{GREEN}{got['name']} received {got['method']} {got['path']}{PLAIN}  {'  '.join(shown) or '(no tenant headers)'}"


ACME = {"name": "blue", "x_tenant_id": "acme", "x_tenant_slug": "acme", "x_tenant_plan": "pro"}

section("Each way to name a tenant")
ask("subdomain", host("acme.app.example.com"), "/api/tasks", 200, path="/api/tasks", **ACME)
ask("custom domain, which tenancyd knows", host("app.acme.com"), "/api/tasks", 200, path="/api/tasks", **ACME)
ask(
    "path; the service sees it without the prefix",
    [],
    "/t/acme/api/tasks",
    200,
    path="/api/tasks",
    x_forwarded_prefix="/t/acme",
    **ACME,
)
ask("header", header("X-Tenant-ID: acme"), "/api/tasks", 200, path="/api/tasks", **ACME)
ask("token", bearer(tenant_id="acme"), "/api/tasks", 200, path="/api/tasks", **ACME)
ask("query", [], "/api/tasks?tenant=acme&page=2", 200, path="/api/tasks?tenant=acme&page=2", **ACME)

section("The tenant chooses the route")
ask("acme, on the plan pro, is served by blue", host("acme.app.example.com"), "/", 200, **ACME)
ask(
    "hooli, on the plan enterprise, by green",
    host("hooli.app.example.com"),
    "/",
    200,
    name="green",
    x_tenant_id="hooli",
    x_tenant_plan="enterprise",
)
ask("and by its own domain", host("portal.hooli.com"), "/", 200, name="green", x_tenant_id="hooli")

section("Who is refused")
ask("globex is suspended", host("globex.app.example.com"), "/api/tasks", 403, code="TENANT_SUSPENDED")
ask("initech is inactive", host("initech.app.example.com"), "/api/tasks", 403, code="TENANT_INACTIVE")
ask("nobody is unknown", host("nobody.app.example.com"), "/api/tasks", 404, code="TENANT_NOT_FOUND")
ask("no tenant is named at all", [], "/api/tasks", 404, code="TENANT_NOT_FOUND")
ask(
    "acme's host with hooli's header",
    host("acme.app.example.com") + header("X-Tenant-ID: hooli"),
    "/api/tasks",
    403,
    code="TENANT_MISMATCH",
)
ask(
    "acme's host with hooli's token",
    host("acme.app.example.com") + bearer(tenant_id="hooli"),
    "/api/tasks",
    403,
    code="TENANT_MISMATCH",
)
ask(
    "acme's host with a token that has expired",
    host("acme.app.example.com") + bearer(tenant_id="acme", exp=1_700_000_000),
    "/api/tasks",
    401,
    code="UNAUTHORIZED",
)
ask("one source, two tenants", [], "/api/tasks?tenant=acme&tenant=hooli", 403, code="TENANT_AMBIGUOUS")

section("What a tenant may use")
UMBRELLA = {"x_tenant_id": "umbrella", "x_tenant_plan": "free"}
for number, warning in enumerate((ABSENT, ABSENT, "apiRequests=80"), 1):
    ask(
        f"umbrella has 3 requests a month, this is number {number}",
        host("umbrella.app.example.com"),
        "/api/tasks",
        200,
        x_tenant_quota_warning=warning,
        **UMBRELLA,
    )
ask("the fourth is refused", host("umbrella.app.example.com"), "/api/tasks", 429, code="QUOTA_EXCEEDED")
ask("which costs no other tenant anything", host("acme.app.example.com"), "/api/tasks", 200, **ACME)

section("What a client says of itself does not count")
ask(
    "acme claims another plan",
    host("acme.app.example.com") + header("x-tenant-plan: enterprise"),
    "/api/tasks",
    200,
    **ACME,
)
ask(
    "an excluded path passes, without tenant headers",
    header("x-tenant-plan: enterprise"),
    "/healthz",
    200,
    name="blue",
    x_tenant_id=ABSENT,
    x_tenant_plan=ABSENT,
)
ask(
    "a body goes through whole",
    host("acme.app.example.com") + ["--data", "task=write the manual"],
    "/api/tasks",
    200,
    method="POST",
    bodyBytes=21,
    **ACME,
)

demo_websockets.show(BASE, os.environ.get("TENANCYD_URL"))
page("in a browser: three clients side by side", "/demo", Path("envoy/websocket.html"))

print(f"\n{counts['passed']} passed, {counts['failed']} failed")
if os.environ.get("STAYS_UP"):
    section(f"Open {BASE}/demo for three WebSocket clients, and give them these tokens")
    for tenant, user in (("acme", "ada"), ("hooli", "hal"), ("globex", "gus")):
        print(f"  {tenant:<7} {token(tenant_id=tenant, sub=user)}")
sys.exit(1 if counts["failed"] else 0)
