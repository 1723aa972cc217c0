#!/usr/bin/env python3
"""A WebSocket service as one would write it: it echoes, and says on stdout in one JSON line each what it has seen.

Usage: service.py PORT. A path chooses what else it does: /greet speaks first, /room passes messages on to everybody in it,
/leave closes with 4001 after one message, /quiet answers nothing, /about tells the upgrade's headers first.
"""

import asyncio
import json
import os
import resource
import sys

# Autobahn sends four megabytes in pieces of 64 bytes.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "100000"
import websockets  # noqa: E402 (it reads that once)

# What the largest proof sends, and some.
MOST = 32 << 20
room = set()


def say(event, connection, **more):
    print(json.dumps({"event": event, "connection": connection, **more}), flush=True)


async def serve(socket):
    connection = socket.request.headers.get("x-proof", "")
    path = socket.request.path.split("?")[0]
    headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
    say("open", connection, tenant=headers.get("x-tenant-id"), auth=headers.get("x-tenant-auth"))
    if path == "/greet":
        await socket.send("welcome")
    if path == "/about":
        await socket.send(json.dumps({"headers": headers, "extensions": [x.name for x in socket.protocol.extensions]}))
    if path == "/room":
        room.add(socket)
    try:
        async for message in socket:
            if connection:
                say("message", connection, size=len(message), begins=repr(message[:24]))
            if path == "/room":
                websockets.broadcast(room, message)
            elif path == "/leave":
                await socket.close(4001, "the service leaves")
            elif path != "/quiet":
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        room.discard(socket)
        say("close", connection, code=socket.close_code, reason=socket.close_reason)


async def main():
    port = int(sys.argv[1])
    async with websockets.serve(serve, "127.0.0.1", port, max_size=MOST, ping_interval=None, backlog=1024):
        print(json.dumps({"event": "listening"}), flush=True)
        await asyncio.Future()


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
asyncio.run(main())
