#!/usr/bin/env python3
"""Chromium's WebSocket at each door: it can send no headers, it always offers compression, and all it learns of an end is a CloseEvent."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import rig
from rig import auth

CHROMIUM = os.environ.get("CHROMIUM", "")
SECONDS = 90
MEGABYTE = 1 << 20
MISSING = "UNAUTHORIZED: no auth message in time"


def plan_of(envoy):
    """What the page does, and what it must see: by name, the order kept."""

    def url(door, path="/"):
        return f"{'wss' if door == 'secure' else 'ws'}://acme.{rig.DOMAIN}:{envoy.doors[door]}{path}"

    acme, globex = auth("acme"), auth("globex")
    compressed = "permessage-deflate"

    def talk(door, messages, got, how="open", extensions="", path="/", wait=1500):
        return (
            {"what": "talk", "url": url(door, path), "messages": messages, "wait": wait},
            lambda seen: (seen["got"], seen["how"], seen["extensions"].split(";")[0]) == (got, how, extensions),
        )

    def refused(messages, code, reason, path="/", wait=8000, door="strict", clean=True):
        return (
            {"what": "talk", "url": url(door, path), "messages": messages, "wait": wait},
            lambda seen: seen["got"] == [] and seen["how"]["code"] == code and seen["how"]["reason"].startswith(reason)
            and (seen["how"]["wasClean"] or not clean),
        )

    def large(door, first, extensions):
        return (
            {"what": "large", "url": url(door), "first": first, "size": 4 * MEGABYTE},
            lambda seen: seen["same"] and seen["extensions"].split(";")[0] == extensions,
        )

    long = "tenancy " * 4000
    return {
        "compression stays where there is no filter": talk("plain", [long], [long], extensions=compressed),
        "compression stays where the upgrade is judged": talk("judged", [long], [long], extensions=compressed),
        "compression stays where frames are followed": talk("followed", [long], [long], extensions=compressed),
        "compression is not agreed on where the message is read": talk("message", [acme, long], [acme, long]),
        "the service's greeting waits for the message": talk("message", [acme], ["welcome", acme], path="/greet"),
        "nothing comes before the message": talk("message", [], [], path="/greet"),
        "a room reaches all who were let in": (
            {"what": "room", "url": url("message", "/room"), "messages": [acme, globex, auth("initech")], "text": "to all"},
            lambda seen: seen == [["to all"]] * 3,
        ),
        "another tenant's name is refused": refused([auth("acme", "globex")], 1008, "TENANT_MISMATCH"),
        "another tenant's name is refused where the service speaks first":
            refused([auth("acme", "globex")], 1008, "TENANT_MISMATCH", "/greet"),
        "a forged token is refused": refused([auth("acme", secret="x" * 32)], 1008, "UNAUTHORIZED"),
        "an expired token is refused": refused([auth("acme", seconds=-3600)], 1008, "UNAUTHORIZED"),
        "a suspended tenant is refused": refused([auth("hooli")], 1008, "TENANT_SUSPENDED"),
        "an unknown tenant is refused": refused([auth("nobody")], 1008, "TENANT_NOT_FOUND"),
        "something else is refused": refused(["hello"], 1008, "UNAUTHORIZED: the first message is no auth message"),
        "too much is refused": refused(["x" * 5000], 1009, "the auth message is too long"),
        "a refusal takes what was sent after it along":
            # What it still sends can meet a connection that is gone, so the end isn't always clean.
            refused(["hello", *["more"] * 50], 1008, "UNAUTHORIZED", clean=False),
        "silence is refused": refused([], 1008, MISSING),
        "silence is refused where the service has spoken": refused([], 1008, MISSING, "/greet"),
        "an end by the service arrives": talk(
            "message", [acme], [], {"code": 4001, "reason": "the service leaves", "wasClean": True}, path="/leave"
        ),
        "four megabytes, followed and incompressible": large("followed", "", compressed),
        "four megabytes after the message": large("message", acme, ""),
        # At the end of a stream to a service of HTTP/1.1, Envoy resets it (CONNECT_ERROR), without the filter too: no end is clean.
        "a page comes over HTTP/2": ({"what": "visit", "url": url("secure").replace("wss", "https")}, lambda seen: seen == "visited"),
        "HTTP/2: the message lets in": talk("secure", [acme, long], ["welcome", acme, long], path="/greet"),
        "HTTP/2: another tenant's name is refused": refused([auth("acme", "globex")], 1008, "TENANT_MISMATCH", door="secure", clean=False),
        "HTTP/2: a forged token is refused where the service speaks first":
            refused([auth("acme", secret="x" * 32)], 1008, "UNAUTHORIZED", "/greet", door="secure", clean=False),
        "HTTP/2: an end by the service arrives": talk(
            "secure", [acme], [], {"code": 4001, "reason": "the service leaves", "wasClean": False}, path="/leave"
        ),
        "HTTP/2: four megabytes after the message": large("secure", acme, ""),
    }


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = (Path(__file__).parent / "browser.html").read_bytes()
        self.answer({"/": page, "/plan": self.server.plan}.get(self.path, b""))

    def do_POST(self):
        self.server.results = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(b"")
        self.server.came.set()

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def browse(plan):
    """Has the browser open the page, and gives what that posts."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.came, server.results = threading.Event(), {}
    server.plan = json.dumps([{"name": name, **what} for name, (what, _) in plan.items()]).encode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp(prefix="websocket-browser-")
    log = open(Path(folder) / "log", "wb")
    browser = subprocess.Popen(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--ignore-certificate-errors", "--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--remote-debugging-port=0",
            f"--user-data-dir={folder}/profile",
            # Nobody asks a name server for the tenant's domain.
            f"--host-resolver-rules=MAP *.{rig.DOMAIN} 127.0.0.1",
            f"http://127.0.0.1:{server.server_address[1]}/",
        ],
        stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )
    try:
        if not server.came.wait(SECONDS):
            print(Path(folder, "log").read_text(errors="replace")[-3000:], file=sys.stderr)
            sys.exit(f"error: the browser has posted nothing in {SECONDS} s; what it wrote is above")
        return server.results
    finally:
        # Debian's is a script that starts the browser: the whole family goes.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        server.shutdown()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    if not CHROMIUM:
        sys.exit("error: start this with tools/websocket-test.sh browser")
    passed = failed = 0
    with rig.Rig() as envoy:
        plan = plan_of(envoy)
        results = browse(plan)
        for name, (_, holds) in plan.items():
            seen = results.get(name, {"error": "it was not run"})
            try:
                good = holds(seen)
            except (KeyError, TypeError):
                good = False
            passed, failed = passed + good, failed + (not good)
            took = f" ({seen['milliseconds']} ms)" if isinstance(seen, dict) and "milliseconds" in seen else ""
            print(f"{'ok    ' if good else 'FAILED'} {name}{took}" + ("" if good else f": the browser saw {json.dumps(seen)[:600]}"), flush=True)
        # The page can't tell which protocol it was; Envoy can, at the end of each.
        envoy.stop()
        lines = [line.split() for line in envoy.text("envoy").splitlines() if line.startswith("secure ")]
        protocols = [protocol for _, protocol, code, *_ in lines if code in ("101", "200")]
        good = len(protocols) == 5 and set(protocols) == {"HTTP/2"}
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok    ' if good else 'FAILED'} HTTP/2 it was, five times: {protocols}")
    rig.passed_and_failed(passed, failed)


if __name__ == "__main__":
    main()
