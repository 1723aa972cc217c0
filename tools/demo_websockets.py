"""The part of the demo's checks that a person would try with WebSocket clients: each line that is said and heard is shown."""

import contextlib
import json
import os
import shlex
import subprocess

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from demo_lib import BOLD, DIM, GREEN, PLAIN, section, token, verdict

PATIENCE = 10  # seconds until something must have come
QUIET = 0.3  # seconds without anything, after which nothing is taken to be on its way


class Client:
    """A client of a library that people use, with the library's own settings: it asks for compression and sends pings."""

    def __init__(self, name, url, opened, headers=None):
        self.name, self.url, self.opened, self.headers, self.socket = name, url, opened, headers, None

    def says(self, message):
        if self.socket is None:
            connection = connect(self.url, additional_headers=self.headers, proxy=None, open_timeout=PATIENCE)
            self.socket = self.opened.enter_context(connection)
        text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
        print(f"    {self.name:<5}> {BOLD}{text}{PLAIN}")
        self.socket.send(text)

    def hears(self, patience=PATIENCE):
        """The next message; or how the connection ended, as text; or None."""
        try:
            text = self.socket.recv(timeout=patience)
        except TimeoutError:
            return None
        except ConnectionClosed as end:
            heard = f"{end.rcvd.code} {end.rcvd.reason}" if end.rcvd else "the connection was cut"
            print(f"    {self.name:<5}< closed: {heard}")
            return heard
        print(f"    {self.name:<5}< {GREEN}{text}{PLAIN}")
        return json.loads(text)


@contextlib.contextmanager
def step(title):
    """One check: gives what a client must hear, and notes what it hears instead."""
    print(f"  {title}")
    faults = []

    def hears(client, expected):
        got = client.hears()
        if got != expected:
            faults.append(f"{client.name} heard {got!r}, expected {expected!r}")

    try:
        yield hears
    except (WebSocketException, OSError, ValueError) as error:
        faults.append(f"{type(error).__name__}: {error}")
    verdict(faults)


def auth(tenant, tenant_id=None, **claims):
    return {"action": "auth", "token": token(tenant_id=tenant, **claims), "tenantId": tenant_id or tenant}


def show(base, tenancyd):
    """`tenancyd` is where its API answers, if it can be reached from here."""
    url = f"ws{base.removeprefix('http')}/ws"
    with contextlib.ExitStack() as opened:
        ada, bob, hal = (Client(name, url, opened) for name in ("ada", "bob", "hal"))
        section("WebSockets: a client's first message says who it is")
        print(f"  To say such lines yourself:\n    {BOLD}$ .venv/bin/websockets {url}{PLAIN}")
        first_messages(ada, bob, hal)
        token_at_the_upgrade(url)
        section("Tenants hear nothing of each other")
        messages(ada, bob, hal)
        if tenancyd:
            message_to_tenant(ada, bob, tenancyd)
        with step(f"and nothing else came to any of them {DIM}(within {QUIET} seconds){PLAIN}"):
            for client in (ada, bob, hal):
                if (more := client.hears(QUIET)) is not None:
                    raise ValueError(f"{client.name} heard {more!r}")
        section("Which connections are closed, and what they are told")
        refusals(lambda name: Client(name, url, opened))


def first_messages(ada, bob, hal):
    for client, tenant in ((ada, "acme"), (bob, "acme"), (hal, "hooli")):
        with step(f"{client.name} is {tenant}'s") as hears:
            client.says(auth(tenant, sub=client.name))
            hears(client, {"action": "auth", "success": True})


def token_at_the_upgrade(url):
    with step("pat's program can send headers, and brings the token with the upgrade; x-tenancy-secret it has made up") as hears:
        with contextlib.ExitStack() as opened:
            headers = {"Authorization": f"Bearer {token(tenant_id='acme', sub='pat')}", "x-tenancy-secret": "made up"}
            pat = Client("pat", url, opened, headers)
            pat.says({"action": "ping"})
            hears(pat, {"action": "pong"})


def messages(ada, bob, hal):
    with step("ada broadcasts, and all of acme's hear it") as hears:
        ada.says({"action": "broadcast", "data": "lunch is at one"})
        for client in (ada, bob):
            hears(client, {"action": "broadcast", "from": "ada", "data": "lunch is at one"})
    with step("hooli's has not: what it hears next is the answer to its own ping, and its own broadcast") as hears:
        hal.says({"action": "ping"})
        hears(hal, {"action": "pong"})
        hal.says({"action": "broadcast", "data": "only hooli's"})
        hears(hal, {"action": "broadcast", "from": "hal", "data": "only hooli's"})
    with step("ada sends to bob alone") as hears:
        ada.says({"action": "send", "to": "bob", "data": {"text": "are you coming?"}})
        hears(bob, {"action": "send", "from": "ada", "data": {"text": "are you coming?"}})
    with step("and cannot send to hal, of whom acme knows nothing") as hears:
        ada.says({"action": "send", "to": "hal", "data": "and you?"})
        heard = ada.hears()
        if not isinstance(heard, dict) or heard.get("error", {}).get("code") != "NOT_FOUND":
            raise ValueError(f"expected the error NOT_FOUND, heard {heard!r}")


def message_to_tenant(ada, bob, tenancyd):
    data = {"text": "maintenance at six"}
    command = ["curl", "-H", f"Authorization: Bearer {os.environ['TENANCYD_TOKEN']}"]
    command += ["-d", json.dumps({"data": data}), f"{tenancyd}/tenants/acme/messages"]
    with step("the platform tells all of acme's") as hears:
        print(f"    {BOLD}$ {shlex.join(command)}{PLAIN}")
        run = subprocess.run([*command, "--silent", "--show-error", "--max-time", "20"], capture_output=True, text=True, check=False)
        print(f"    {run.stdout}{run.stderr}")
        for client in (ada, bob):
            hears(client, {"action": "message", "data": data})
        if json.loads(run.stdout) != {"connections": 2, "complete": True}:
            raise ValueError("expected 2 connections")


def refusals(client):
    unlike = "UNAUTHORIZED: the first message is no auth message"
    rows = [
        ("globex is suspended", "gus", auth("globex"), "TENANT_SUSPENDED: Tenant 'globex' is suspended"),
        ("acme's token with hooli's name", "eve", auth("acme", "hooli"), "TENANT_MISMATCH: The request names different tenants"),
        ("a token that has expired", "old", auth("acme", exp=1_700_000_000), "UNAUTHORIZED: expired"),
        ("another message comes first", "joe", {"action": "broadcast", "data": "hello, all"}, unlike),
    ]
    for title, name, message, reason in rows:
        with step(title) as hears:
            refused = client(name)
            refused.says(message)
            hears(refused, f"1008 {reason}")
    with step("hooli's record allows it two connections: hal's, one more, and no third") as hears:
        second, third = client("huw"), client("hui")
        second.says(auth("hooli", sub="huw"))
        hears(second, {"action": "auth", "success": True})
        third.says(auth("hooli", sub="hui"))
        hears(third, "1008 QUOTA_EXCEEDED: Tenant 'hooli' has used up its quota 'connections'")
