"""What every proof here stands on: one Envoy with several doors to one echo service, tokens, and how to say what was seen.

The doors differ in what the filter does with a connection:
  plain    there is no filter
  judged   the tenant is known at the upgrade, and the filter doesn't look at bytes
  followed the same, but messages are counted and the tenant is looked up again: every frame is followed
  message  the tenant is known by the first message
  strict   the same, with little time, five connections at once and twenty messages a month
  secure   the same as message, over TLS, where browsers speak HTTP/2
"""

import base64
import hashlib
import hmac
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVOY = os.environ.get("ENVOY_BIN", "")
WASM = os.environ.get("TENANCY_WASM", str(ROOT / "dist/tenancy.wasm"))
SECRET = "0123456789abcdef0123456789abcdef"
DOMAIN = "app.example.com"
AUTH_SECONDS = 2
RECHECK_SECONDS = 1
MESSAGES_A_MONTH = 20
CONNECTIONS = 5
PLENTY = 1_000_000_000
DOORS = ("plain", "judged", "followed", "message", "strict", "secure")

COMMON = {
    "isolation": {
        "resolution": ["jwt", "subdomain"],
        "baseDomain": DOMAIN,
        "jwt": {"secret": {"env": "SECRET"}, "algorithms": ["HS256"]},
    },
    "tenants": [{"id": "acme"}, {"id": "globex"}, {"id": "initech"}, {"id": "hooli", "status": "suspended"}],
}
BY_MESSAGE = {
    **COMMON,
    "isolation": {**COMMON["isolation"], "resolution": ["jwt"]},
}
CONFIGURATIONS = {
    "judged": {**COMMON, "websocket": {"recheckSeconds": 0}},
    "followed": {
        **COMMON,
        "websocket": {"recheckSeconds": RECHECK_SECONDS},
        "quotas": [{"quotaKey": "messages", "unit": "message", "period": "month", "limit": PLENTY}],
    },
    "message": {
        **BY_MESSAGE,
        "websocket": {"authMessage": "required", "authTimeoutSeconds": 30, "recheckSeconds": RECHECK_SECONDS},
        "quotas": [{"quotaKey": "messages", "unit": "message", "period": "month", "limit": PLENTY}],
    },
    "strict": {
        **BY_MESSAGE,
        "websocket": {
            "authMessage": "required",
            "authTimeoutSeconds": AUTH_SECONDS,
            "maxMessageBytes": 4096,
            "recheckSeconds": RECHECK_SECONDS,
        },
        "quotas": [
            {"quotaKey": "connections", "unit": "connection", "period": "none", "limit": CONNECTIONS},
            {"quotaKey": "messages", "unit": "message", "period": "month", "limit": MESSAGES_A_MONTH},
        ],
    },
}
CONFIGURATIONS["secure"] = CONFIGURATIONS["message"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def token(tenant, seconds=300, secret=SECRET):
    """A token as an issuer would sign it."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"tenant_id": tenant, "exp": int(time.time()) + seconds}
    signed = part(b'{"alg":"HS256"}') + "." + part(json.dumps(claims).encode())
    return signed + "." + part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())


def auth(tenant, named=None, **more):
    """The auth message, as a browser would send it."""
    return json.dumps({"action": "auth", "token": token(tenant, **more), "tenantId": named or tenant})


def listener(door, port, folder):
    filters = []
    if door != "plain":
        filters.append({
            "name": "tenancy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "tenancy",
                    "root_id": "tenancy",
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": {
                        "vm_id": door,
                        "runtime": "envoy.wasm.runtime.v8",
                        "environment_variables": {"key_values": {"SECRET": SECRET}},
                        "code": {"local": {"filename": WASM}},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.Struct",
                        "value": CONFIGURATIONS[door],
                    },
                },
            },
        })
    filters.append({
        "name": "router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
    log = f"{door} %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %FILTER_STATE(wasm.tenant_id:PLAIN)% %FILTER_STATE(wasm.tenant_decision:PLAIN)%\n"
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": door,
        "normalize_path": True,
        "request_timeout": "60s",
        "stream_idle_timeout": "300s",
        # Envoy waits so long for a client to close a connection first. With its usual second, who waits a second as well, as the
        # Autobahn suite does, sees now the one and now the other.
        "delayed_close_timeout": "0.2s",
        # RFC 8441: a WebSocket in a stream of HTTP/2.
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [{
            "name": "file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": {"text_format_source": {"inline_string": log}},
            },
        }],
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": "service", "timeout": "0s"},
                    # HTTP/2's upgrade has no such header, Envoy makes none up for it, and a service of HTTP/1.1 asks for one. It
                    # keeps nothing secret.
                    "request_headers_to_add": [{
                        "header": {"key": "sec-websocket-key", "value": "AAAAAAAAAAAAAAAAAAAAAA=="},
                        "append_action": "ADD_IF_ABSENT",
                    }],
                }],
            }],
        },
        "http_filters": filters,
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if door == "secure":
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{
                        "certificate_chain": {"filename": f"{folder}/certificate.pem"},
                        "private_key": {"filename": f"{folder}/key.pem"},
                    }],
                },
            },
        }
    return {
        "name": door,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }


class Rig:
    """The service and Envoy, from `with` to its end. What they write is in its folder, kept where something failed."""

    def __init__(self, doors=DOORS, workers=2):
        self.doors = {door: free_port() for door in doors}
        self.workers = workers
        self.admin = free_port()
        self.service_port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="websocket-proof-"))
        self.processes = []

    def __enter__(self):
        if not ENVOY or not Path(WASM).is_file():
            sys.exit("error: start this with tools/websocket-test.sh, after make build")
        try:
            # Thousands of connections, in here and in what is started here.
            resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
            self.service = self.start("service", [sys.executable, str(HERE / "service.py"), str(self.service_port)])
            self.until_it_answers("service", self.service_port)
            if "secure" in self.doors:
                subprocess.run([
                    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", f"/CN=acme.{DOMAIN}", "-keyout", str(self.folder / "key.pem"),
                    "-out", str(self.folder / "certificate.pem"),
                ], check=True, capture_output=True)
            plan = {
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
                "static_resources": {
                    "listeners": [listener(door, port, self.folder) for door, port in self.doors.items()],
                    "clusters": [{
                        "name": "service",
                        "connect_timeout": "5s",
                        "circuit_breakers": {"thresholds": [{
                            "max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000,
                        }]},
                        "load_assignment": {
                            "cluster_name": "service",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                                "socket_address": {"address": "127.0.0.1", "port_value": self.service_port},
                            }}}]}],
                        },
                    }],
                },
            }
            (self.folder / "envoy.json").write_text(json.dumps(plan, indent=1))
            self.envoy = self.start("envoy", [
                ENVOY, "--config-path", str(self.folder / "envoy.json"), "--concurrency", str(self.workers),
                "--disable-hot-restart", "--log-level", "warning",
            ])
            for port in self.doors.values():
                self.until_it_answers("envoy", port)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        crashed = [line for line in self.text("envoy").splitlines() if "[critical]" in line or "[error]" in line]
        if kind is None and not crashed:
            for file in self.folder.iterdir():
                file.unlink()
            self.folder.rmdir()
            return
        print(f"What the service and Envoy wrote is in {self.folder}", file=sys.stderr)
        if kind is None:
            sys.exit("error: Envoy had faults:\n" + "\n".join(crashed[:20]))

    def start(self, name, command):
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.processes.append(process)
        return process

    def until_it_answers(self, name, port):
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.processes[-1].poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"error: {name} doesn't answer:\n{self.text(name)[-2000:]}") from None
                time.sleep(0.05)

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def text(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def seen(self, connection):
        """What the service has seen of a connection that named itself with the header x-proof."""
        events = [json.loads(line) for line in self.text("service").splitlines() if line.startswith("{")]
        return [event for event in events if event.get("connection") == connection]

    def url(self, door, path="/"):
        return f"ws://127.0.0.1:{self.doors[door]}{path}"


def run(scenarios, perform):
    """Performs scenarios one after the other, those alone whose names the command line has parts of, and tells how each ended."""
    passed = failed = 0
    with Rig() as envoy:
        for function in scenarios:
            name = function.__name__.replace("_", " ")
            if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
                continue
            started = time.monotonic()
            try:
                perform(function, envoy)
                passed += 1
                print(f"ok     {name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Exception as error:
                failed += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                print(f"FAILED {name}, line {place.lineno}: {type(error).__name__} {error}", flush=True)
    passed_and_failed(passed, failed)


def passed_and_failed(passed, failed):
    """The closing line that counts, and the end of the program."""
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
