#!/usr/bin/env python3
"""What an open connection and a message on it cost in Envoy: at each door an Envoy of its own, with one worker.

Memory is what an Envoy just started has more of (RSS) with so many idle connections than with fifty that were there and have gone.
Time is Envoy's own CPU time for a message there and back. Both come in rounds that take the doors in turn, and what is printed is the
median and the range.

Usage: costs.py; CONNECTIONS (2000), MEMORY_ROUNDS (3) and ROUNDS (9) in the environment.
"""

import asyncio
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import rig
import websockets

CONNECTIONS = int(os.environ.get("CONNECTIONS", "2000"))
MEMORY_ROUNDS = int(os.environ.get("MEMORY_ROUNDS", "3"))
ROUNDS = int(os.environ.get("ROUNDS", "9"))
# How many messages of which size are one measurement.
LOADS = ((32, 4000), (1024, 4000), (65536, 300), (1 << 20, 24))
DOORS = ("plain", "judged", "followed", "message")
# How many connections speak at once.
SPEAKERS = 8


def cpu_seconds(process):
    """To the nanosecond, where /proc/PID/stat has hundredths of a second. None of Envoy's threads ends meanwhile."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


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
    return (after - before) / CONNECTIONS, after / 1024, idle * 100


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


def median_and_range(values, digits=1):
    return f"{statistics.median(values):9.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


async def main():
    found = {}
    for _ in range(MEMORY_ROUNDS):
        for door in DOORS:
            with rig.Rig([door], workers=1) as envoy:
                found.setdefault(door, []).append(await memory(envoy, door))
    print(f"{CONNECTIONS} idle connections, {MEMORY_ROUNDS} rounds")
    print(f"{'door':9} {'KiB each':>22} {'Envoy whole, MiB':>24} {'CPU, % of one':>24}", flush=True)
    for door in DOORS:
        kib, whole, idle = (median_and_range(values, digits) for values, digits in zip(zip(*found[door]), (1, 0, 2)))
        print(f"{door:9} {kib:>22} {whole:>24} {idle:>24}", flush=True)

    found = {}
    with ExitStack() as stack:
        envoys = {door: stack.enter_context(rig.Rig([door], workers=1)) for door in DOORS}
        # The first messages of all are slower.
        for door, envoy in envoys.items():
            await messages(envoy, door, 1024, 1000)
        for round_ in range(ROUNDS):
            for size, count in LOADS:
                # Nobody is always first.
                for door in DOORS[round_ % len(DOORS):] + DOORS[:round_ % len(DOORS)]:
                    found.setdefault((size, door), []).append(await messages(envoys[door], door, size, count))
    print(f"\nMessages there and back, {SPEAKERS} connections, {ROUNDS} rounds")
    print(f"{'bytes':>8} {'door':9} {'CPU µs a message':>28} {'over plain':>11} {'messages/s':>11}")
    for size, _ in LOADS:
        plain = statistics.median(cpu for cpu, _ in found[size, "plain"])
        for door in DOORS:
            cpus, rates = zip(*found[size, door])
            over = statistics.median(cpus) - plain
            print(f"{size:8} {door:9} {median_and_range(cpus):>28} {over:+11.1f} {statistics.median(rates):11.0f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
