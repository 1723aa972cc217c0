#!/usr/bin/env python3
"""A Python client (`websockets`, with compression on) against each door: what it is let do, and what it is told at the end.

Usage: messages.py [PART OF A NAME…]
"""

import asyncio
import os
import socket
import struct
import time

import rig
import websockets
from rig import auth, token

MEGABYTES = 16
SKEW = 30
MISSING = "UNAUTHORIZED: no auth message in time"
scenarios = []


def scenario(function):
    scenarios.append(function)
    return function


def join(envoy, door, path="/", **more):
    headers = {"x-proof": more.pop("proof", ""), **more.pop("headers", {})}
    # The subdomain names the tenant where no token does.
    return websockets.connect(
        f"ws://acme.{rig.DOMAIN}:{envoy.doors[door]}{path}", host="127.0.0.1", additional_headers=headers,
        ping_interval=None, open_timeout=20, close_timeout=8, max_size=None, proxy=None, **more,
    )


async def said(socket_, *messages, wait=6.0):
    """Sends messages, and gives what came until the connection ended or `wait` is over: texts, then (code, reason)."""
    got = []
    try:
        for message in messages:
            await socket_.send(message)
        async with asyncio.timeout(wait):
            while True:
                got.append(await socket_.recv())
    except TimeoutError:
        got.append("open")
    except websockets.ConnectionClosed as closed:
        got.append((closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else ("cut", ""))
    return got


def equal(found, expected):
    assert found == expected, f"\n  found    {str(found)[:400]}\n  expected {str(expected)[:400]}"


async def until(condition, seconds=8.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that in time"
        await asyncio.sleep(0.05)


def frame(opcode, payload=b"", final=True):
    mask = b"\x11\x22\x33\x44"
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([final << 7 | opcode]) + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


async def raw(envoy, door, path="/", proof=""):
    """A connection after its upgrade, byte by byte one's own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", envoy.doors[door])
    writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: acme.{rig.DOMAIN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nx-proof: {proof}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head.split(b"\r\n")[0], head
    return reader, writer


@scenario
async def auth_message_lets_in_and_reaches_the_service(envoy):
    proof = f"let in {time.monotonic()}"
    async with join(envoy, "message", proof=proof) as ws:
        message = auth("acme")
        equal(await said(ws, message, "hi", wait=1), [message, "hi", "open"])
    equal([(event["tenant"], event["auth"]) for event in envoy.seen(proof) if event["event"] == "open"], [(None, "message")])


@scenario
async def auth_message_may_be_fragmented_and_come_after_pings(envoy):
    async with join(envoy, "message") as ws:
        message = auth("acme")
        pong = await ws.ping()
        equal(await said(ws, [message[:20], message[20:50], message[50:]], "hi", wait=1), [message, "hi", "open"])
        await asyncio.wait_for(pong, 1)


@scenario
async def what_the_service_says_first_waits_for_the_auth_message(envoy):
    async with join(envoy, "message", "/greet") as ws:
        equal(await said(ws, wait=1), ["open"])
        message = auth("acme")
        equal(await said(ws, message, wait=1), ["welcome", message, "open"])


@scenario
async def silent_client_is_told_the_time_is_over_where_the_service_has_spoken(envoy):
    async with join(envoy, "strict", "/greet") as ws:
        equal(await said(ws, wait=10), [(1008, MISSING)])


@scenario
async def silent_client_is_told_the_time_is_over_where_nobody_has_spoken(envoy):
    async with join(envoy, "strict") as ws:
        equal(await said(ws, wait=10), [(1008, MISSING)])


@scenario
async def client_that_only_pings_is_told_the_time_is_over(envoy):
    async with join(envoy, "strict") as ws:
        await ws.ping()
        equal(await said(ws, wait=10), [(1008, MISSING)])


async def refused(envoy, message, code, begins, door="strict", path="/", **more):
    async with join(envoy, door, path, proof="refused", **more) as ws:
        got = await said(ws, message)
    assert len(got) == 1 and got[0][0] == code and got[0][1].startswith(begins), f"\n  found {got}\n  expected {code} {begins}"
    texts = [event for event in envoy.seen("refused") if event["event"] == "message"]
    assert not texts, f"the service has seen {texts}"


@scenario
async def refusals_are_close_frames_with_their_reasons(envoy):
    for path in ("/", "/greet"):
        await refused(envoy, auth("acme", "globex"), 1008, "TENANT_MISMATCH", path=path)
        await refused(envoy, auth("acme", secret="x" * 32), 1008, "UNAUTHORIZED", path=path)
        await refused(envoy, auth("acme", seconds=-3600), 1008, "UNAUTHORIZED", path=path)
        await refused(envoy, auth("nobody"), 1008, "TENANT_NOT_FOUND", path=path)
        await refused(envoy, auth("hooli"), 1008, "TENANT_SUSPENDED", path=path)
        await refused(envoy, "hello", 1008, "UNAUTHORIZED: the first message is no auth message", path=path)
        await refused(envoy, b"hello", 1008, "UNAUTHORIZED: the first message is no auth message", path=path)
        await refused(envoy, "x" * 5000, 1009, "the auth message is too long", path=path)
        await refused(envoy, "x" * 500_000, 1009, "the auth message is too long", path=path)


@scenario
async def token_at_the_upgrade_needs_no_message(envoy):
    async with join(envoy, "message", headers={"authorization": f"Bearer {token('acme')}"}, proof="upgrade") as ws:
        equal(await said(ws, "hi", wait=1), ["hi", "open"])
    equal(envoy.seen("upgrade")[0]["tenant"], "acme")


@scenario
async def bad_token_at_the_upgrade_gets_401(envoy):
    try:
        async with join(envoy, "message", headers={"authorization": f"Bearer {token('acme', secret='x' * 32)}"}):
            raise AssertionError("it was let in")
    except websockets.InvalidStatus as refusal:
        equal(refusal.response.status_code, 401)


@scenario
async def connection_ends_with_its_token(envoy):
    async with join(envoy, "strict", proof="short") as ws:
        # It holds for clockSkewSeconds more.
        message = auth("globex", seconds=2 - SKEW)
        got = await said(ws, message, wait=12)
        # Nobody speaks, so nothing can carry a close frame.
        equal(got, [message, ("cut", "")])
    async with join(envoy, "strict", proof="short and busy") as ws:
        await ws.send(auth("globex", seconds=2 - SKEW))
        deadline = time.monotonic() + 12
        try:
            while time.monotonic() < deadline:
                await ws.ping()
                await asyncio.sleep(0.1)
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == 1008 and closed.rcvd.reason.startswith("UNAUTHORIZED"), closed
            # And the service is told as well.
            await until(lambda: envoy.seen("short and busy")[-1]["event"] == "close")
            equal(envoy.seen("short and busy")[-1]["code"], 1008)
            return
        raise AssertionError("it never ended")


@scenario
async def messages_beyond_the_quota_end_the_connection(envoy):
    async with join(envoy, "strict", proof="many") as ws:
        await ws.send(auth("initech"))
        await ws.recv()
        # The auth message is none of them.
        for number in range(rig.MESSAGES_A_MONTH):
            await ws.send(f"m{number}")
            equal(await ws.recv(), f"m{number}")
        got = await said(ws, "one too many")
        assert len(got) == 1 and got[0][0] == 1008 and got[0][1].startswith("QUOTA_EXCEEDED"), got
    await until(lambda: envoy.seen("many")[-1]["event"] == "close")
    equal(envoy.seen("many")[-1]["code"], 1008)
    equal(len(envoy.seen("many")), 1 + 1 + rig.MESSAGES_A_MONTH + 1)


@scenario
async def connections_beyond_the_quota_are_refused_until_one_ends(envoy):
    async def opened():
        ws = await join(envoy, "strict")
        return ws, await said(ws, auth("acme"), wait=1.0)

    await asyncio.sleep(1)
    held = []
    for _ in range(rig.CONNECTIONS):
        ws, got = await opened()
        assert got[-1] == "open", got
        held.append(ws)
    ws, got = await opened()
    assert got[-1][0] == 1008 and got[-1][1].startswith("QUOTA_EXCEEDED"), got
    await ws.close()
    await held.pop().close()
    await asyncio.sleep(0.5)
    ws, got = await opened()
    assert got[-1] == "open", got
    for ws in [*held, ws]:
        await ws.close()


@scenario
async def compression_is_on_at_the_upgrade_and_off_where_the_message_is_read(envoy):
    text = "tenancy " * 10_000
    for door, extensions in (("plain", ["permessage-deflate"]), ("judged", ["permessage-deflate"]),
                             ("followed", ["permessage-deflate"]), ("message", [])):
        async with join(envoy, door) as ws:
            if door == "message":
                message = auth("acme")
                equal(await said(ws, message, wait=0.5), [message, "open"])
            equal([extension.name for extension in ws.protocol.extensions], extensions)
            await ws.send(text)
            equal(await ws.recv(), text)
            await ws.send([text[:1000], text[1000:]])
            equal(await ws.recv(), text)


@scenario
async def sixteen_megabytes_go_both_ways(envoy):
    incompressible = os.urandom(MEGABYTES << 20)
    text = "x" * (MEGABYTES << 20)
    for door in ("plain", "followed", "message"):
        for compression in ("deflate", None):
            async with join(envoy, door, compression=compression) as ws:
                if door == "message":
                    await ws.send(auth("acme"))
                    await ws.recv()
                for message in (incompressible, text):
                    started = time.monotonic()
                    await ws.send(message)
                    assert await ws.recv() == message, "what came back is something else"
                    print(f"    {door:8} compression {str(compression):7} {time.monotonic() - started:.2f} s", flush=True)


@scenario
async def two_hundred_connections_come_and_go(envoy):
    async def one(number):
        async with join(envoy, "message") as ws:
            message = auth(("acme", "globex", "initech")[number % 3])
            await ws.send(message)
            equal(await ws.recv(), message)
            await ws.send(f"hi {number}")
            equal(await ws.recv(), f"hi {number}")

    started = time.monotonic()
    for begin in range(0, 200, 20):
        await asyncio.gather(*(one(number) for number in range(begin, begin + 20)))
    print(f"    200 in {time.monotonic() - started:.2f} s", flush=True)


@scenario
async def pieces_of_one_byte_change_nothing(envoy):
    for door in ("followed", "message"):
        reader, writer = await raw(envoy, door)
        message = auth("acme").encode()
        frames = [frame(9, b"early")]
        if door == "message":
            frames += [frame(1, message[:30], False), frame(9, b"between"), frame(0, message[30:])]
        frames += [frame(1, b"hello"), frame(2, b"\0" * 300)]
        expected = [b"\x8a\x05early"]
        if door == "message":
            expected += [b"\x8a\x07between", b"\x81\x7e" + struct.pack(">H", len(message)) + message]
        expected += [b"\x81\x05hello", b"\x82\x7e\x01\x2c" + b"\0" * 300]

        async def dribble(data):
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)

        await dribble(b"".join(frames))
        # The service pongs at once and echoes when it comes to it, so their order is its own.
        got = await asyncio.wait_for(reader.readexactly(sum(map(len, expected))), 10)
        for part in expected:
            assert part in got, f"{part[:40]} isn't in {got[:400]}"
        await dribble(frame(8, b"\x03\xe8done"))
        equal(await asyncio.wait_for(reader.read(), 10), b"\x88\x06\x03\xe8done")
        writer.close()


async def closed_with(reader, code, wait=8.0):
    """Waits for a close frame, after whatever else comes, and gives what came before it."""
    got = b""
    async with asyncio.timeout(wait):
        while b"\x88" not in got or len(got) < got.index(b"\x88") + 4:
            more = await reader.read(65536)
            assert more, f"it was cut after {got[:80]}, without a close frame"
            got += more
    before, close = got.split(b"\x88", 1)
    equal(int.from_bytes(close[1:3], "big"), code)
    return before


@scenario
async def auth_message_that_trickles_in_is_too_late(envoy):
    reader, writer = await raw(envoy, "strict", proof="trickle")

    async def trickle():
        for byte in frame(1, auth("acme").encode()):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    equal(await closed_with(reader, 1008), b"")
    trickling.cancel()
    writer.close()
    equal([event for event in envoy.seen("trickle") if event["event"] == "message"], [])


@scenario
async def nobody_fills_envoy_with_pings_before_the_auth_message(envoy):
    for sent in (frame(9, b"x" * 125) * 500, frame(1, b"x", False) + frame(0, b"", False) * 10_000):
        reader, writer = await raw(envoy, "strict", proof="flood")
        for at in range(0, len(sent), 8192):
            writer.write(sent[at:at + 8192])
            await asyncio.sleep(0.01)
        equal(await closed_with(reader, 1009), b"")
        writer.close()
    equal([event for event in envoy.seen("flood") if event["event"] == "message"], [])


@scenario
async def broken_frames_are_told_both_sides_at_once(envoy):
    for door in ("followed", "message"):
        reader, writer = await raw(envoy, door, proof=f"broken at {door}")
        if door == "message":
            writer.write(frame(1, auth("acme").encode()))
            await reader.readexactly(4)
        started = time.monotonic()
        writer.write(frame(3, b"what opcode is this"))
        got = b""
        while b"\x88" not in got:
            more = await asyncio.wait_for(reader.read(4096), 5)
            assert more, "it was cut without a close frame"
            got += more
        writer.write(frame(8, b"\x03\xea"))
        await asyncio.wait_for(reader.read(), 8)
        took = time.monotonic() - started
        writer.close()
        await until(lambda door=door: envoy.seen(f"broken at {door}")[-1]["event"] == "close")
        code = envoy.seen(f"broken at {door}")[-1]["code"]
        assert took < 2 and code == 1002, f"at {door} that took {took:.1f} s, and the service was told {code}"


@scenario
async def abrupt_ends_in_every_state_leave_nothing_behind(envoy):
    whole = frame(1, auth("initech").encode())
    states = {
        "before the upgrade": None,
        "after the upgrade": b"",
        "within the auth message": whole[:40],
        "with the auth message": whole,
        "within a frame": whole + frame(1, b"x" * 100)[:50],
        "within a message": whole + frame(1, b"x", False),
        "after close": whole + frame(8, b"\x03\xe8"),
        "refused": frame(1, b"no auth message"),
        "broken": whole + frame(3),
    }
    for reset in (False, True):
        for state, data in states.items():
            for _ in range(5):
                if data is None:
                    _, writer = await asyncio.open_connection("127.0.0.1", envoy.doors["message"])
                    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: web")
                else:
                    _, writer = await raw(envoy, "message", proof="abrupt")
                    writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.01)
                if reset:
                    sock = writer.transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                writer.close()
    # The service sees an end of each that it has seen begin, and everybody else is served as before.
    def all_ended():
        events = [event["event"] for event in envoy.seen("abrupt")]
        return events.count("open") == events.count("close") == 2 * 5 * (len(states) - 1)

    await until(all_ended, 15)
    await auth_message_lets_in_and_reaches_the_service(envoy)


@scenario
async def service_that_goes_away_takes_the_client_along(envoy):
    async with join(envoy, "message", "/leave") as ws:
        equal(await said(ws, auth("acme")), [(4001, "the service leaves")])


@scenario
async def broadcasts_reach_everybody_who_was_let_in_and_nobody_else(envoy):
    async with join(envoy, "message", "/room") as one, join(envoy, "message", "/room") as other, \
            join(envoy, "message", "/room") as outside:
        first, second = auth("acme"), auth("globex")
        equal(await said(one, first, wait=0.5), [first, "open"])
        equal(await said(other, second, wait=0.5), [first, second, "open"])
        equal(await said(one, "to all", wait=0.5), [second, "to all", "open"])
        equal(await said(other, wait=0.5), ["to all", "open"])
        equal(await said(outside, wait=0.5), ["open"])


async def within_two_minutes(function, envoy):
    await asyncio.wait_for(function(envoy), 120)


if __name__ == "__main__":
    rig.run(scenarios, lambda scenario, envoy: asyncio.run(within_two_minutes(scenario, envoy)))
