#!/usr/bin/env python3
"""What an open connection and a message on it cost in Envoy: at each door an Envoy of its own, with one worker.

Memory is what Envoy has more of (RSS) with so many idle connections than without them. Time is Envoy's own CPU time for a message
there and back, in rounds that take the doors in turn; what is printed is the median of the rounds, and their range.

Usage: costs.py; CONNECTIONS (2000) and ROUNDS (7) in the environment.
"""

import asyncio
import os
import statistics
import time
from contextlib import ExitStack

import rig
import websockets

CONNECTIONS = int(os.environ.get("CONNECTIONS", "2000"))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
# How many messages of which size are one measurement.
LOADS = ((32, 4000), (1024, 4000), (65536, 300), (1 << 20, 24))
DOORS = ("plain", "judged", "followed", "message")
# How many connections speak at once.
SPEAKERS = 8


def cpu_seconds(process):
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(process):
    for line in open(f"/proc/{process.pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("error: this system doesn't tell a process's VmRSS")


async def opened(envoy, door):
    ws = await websockets.connect(
        f"ws://acme.{rig.DOMAIN}:{envoy.doors[door]}/", host="127.0.0.1", compression=None, ping_interval=None,
        open_timeout=60, max_size=None, proxy=None,
    )
    if door == "message":
        await ws.send(rig.auth("acme", seconds=3600))
        await ws.recv()
    return ws


async def open_many(envoy, door, count):
    held = []
    while len(held) < count:
        held += await asyncio.gather(*(opened(envoy, door) for _ in range(min(50, count - len(held)))))
    return held


async def close_all(held):
    await asyncio.gather(*(ws.close() for ws in held))


async def memory(envoy, door):
    # The first connections pay for what all share.
    await close_all(await open_many(envoy, door, 50))
    await asyncio.sleep(1.5)
    before = rss_kib(envoy.envoy)
    held = await open_many(envoy, door, CONNECTIONS)
    await asyncio.sleep(1.5)
    after, idle = rss_kib(envoy.envoy), cpu_seconds(envoy.envoy)
    # What it costs to look at idle connections again, once a second here.
    await asyncio.sleep(5)
    idle = (cpu_seconds(envoy.envoy) - idle) / 5
    await close_all(held)
    return (after - before) / CONNECTIONS, idle


async def messages(envoy, door, size, count):
    held = await open_many(envoy, door, SPEAKERS)
    payload = os.urandom(size)

    async def speak(ws):
        for _ in range(count // SPEAKERS):
            await ws.send(payload)
            if await ws.recv() != payload:
                raise SystemExit("error: what came back is something else")

    before, started = cpu_seconds(envoy.envoy), time.monotonic()
    await asyncio.gather(*map(speak, held))
    cpu, wall = cpu_seconds(envoy.envoy) - before, time.monotonic() - started
    await close_all(held)
    sent = count // SPEAKERS * SPEAKERS
    return cpu / sent * 1e6, sent / wall


async def main():
    with ExitStack() as stack:
        envoys = {door: stack.enter_context(rig.Rig([door], workers=1)) for door in DOORS}
        print(f"{'door':9} {'KiB a connection':>17} {'CPU of ' + str(CONNECTIONS) + ' idle':>18}", flush=True)
        for door, envoy in envoys.items():
            kib, idle = await memory(envoy, door)
            print(f"{door:9} {kib:17.1f} {idle * 100:16.2f} %", flush=True)
        found = {}
        for _ in range(ROUNDS):
            for size, count in LOADS:
                for door, envoy in envoys.items():
                    found.setdefault((size, door), []).append(await messages(envoy, door, size, count))
        print(f"\n{'bytes':>8} {'door':9} {'CPU µs a message':>17} {'range':>17} {'over plain':>11} {'messages/s':>11}", flush=True)
        for size, _ in LOADS:
            plain = statistics.median(cpu for cpu, _ in found[size, "plain"])
            for door in DOORS:
                cpus = sorted(cpu for cpu, _ in found[size, door])
                median = statistics.median(cpus)
                rate = statistics.median(rate for _, rate in found[size, door])
                span = f"{cpus[0]:.1f}–{cpus[-1]:.1f}"
                print(f"{size:8} {door:9} {median:17.1f} {span:>17} {median - plain:+11.1f} {rate:11.0f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
