#!/usr/bin/env python3
"""The Autobahn test suite's fuzzing client, through Envoy without the filter and through each kind of door with it.

Usage: conformance.py SUITE [PATTERN…], where SUITE is a folder with the unpacked sources of autobahntestsuite and autobahn.

The suite is for Python 2, which nobody ships any more, so its cases are brought to Python 3 as they are loaded: a string stays a
string of bytes, one letter for each (Latin-1), until it reaches autobahn, which speaks Python 3 and does the rest. What a case
expects, and how it judges what it got, is the suite's own.

The service behind has habits of its own, so what counts is the comparison: with the filter no case may come out worse.
"""

import binascii
import builtins
import hashlib
import json
import re
import sys
import time
import types
from pathlib import Path

SUITE = Path(sys.argv[1]) if len(sys.argv) > 1 else sys.exit(__doc__)
PATTERNS = sys.argv[2:] or ["*"]
sys.path.insert(0, str(SUITE / "autobahn"))

import rig  # noqa: E402 (what follows is found only now)
import txaio  # noqa: E402

txaio.use_twisted()
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol  # noqa: E402
from autobahn.websocket import utf8validator, xormasker  # noqa: E402
from autobahn.websocket import protocol as engine  # noqa: E402
from twisted.internet import reactor  # noqa: E402

# The suite sends 1,000 messages in each of its 234 cases of compression and of its cases of round trips. What they are to show
# here, fewer do as well.
MESSAGES = {"9": 200, "12": 20, "13": 20}
WITH_FILTER = ("followed", "message")
AT_ONCE = 6
SECONDS = 900
# Some cases are races within the service (does it echo what came before the fault?), and each door gets so many more tries in them.
TRIES = 5
# What is worse with the filter, and known to be.
KNOWN = {
    "7.3.6": "a client whose own close frame is malformed waits for the connection's end, and the filter for the client's answer to"
    " its close frame: that takes three seconds",
}
# The suite's own verdicts, from the best to the worst.
ORDER = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "WRONG CODE", "FAILED BY CLIENT", "UNCLEAN", "FAILED"]


def letters(data):
    return data if isinstance(data, str) else data.decode("latin-1")


def octets(data):
    return data if isinstance(data, bytes) else data.encode("latin-1")


class Mask:
    """autobahn's own takes every byte by itself, and sixteen megabytes of them."""

    def __init__(self, mask):
        self.mask, self.done = bytes(mask), 0

    def pointer(self):
        return self.done

    def reset(self):
        self.done = 0

    def process(self, data):
        size, turn = len(data), self.done % 4
        mask = (self.mask[turn:] + self.mask[:turn]) * (size // 4 + 1)
        self.done += size
        return (int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")).to_bytes(size, "big")


class Validator(utf8validator.Utf8Validator):
    def validate(self, data):
        # Where all is ASCII there is nothing to look at, in its sixteen megabytes either.
        if isinstance(data, bytes) and data.isascii() and self.state == 0:
            self.i += len(data)
            return True, True, len(data), self.i
        return super().validate(octets(data))


class Sha1:
    def __init__(self):
        self.inner = hashlib.sha1()

    def update(self, data):
        self.inner.update(octets(data))

    def digest(self):
        return self.inner.digest()


def load_cases():
    """The suite's cases, its file case/__init__.py telling which and in which order."""
    folder = SUITE / "autobahntestsuite" / "autobahntestsuite" / "case"
    builtins.xrange, builtins.unichr, builtins.implements = range, chr, lambda *_: None
    builtins.hexed = lambda data: binascii.hexlify(octets(data)).decode()
    builtins.sha1 = Sha1
    builtins.test_data = str(folder.parent / "testdata")

    def translated(path):
        source = path.read_text(encoding="latin-1" if path.name != "case12_x_x.py" else "utf-8")
        for pattern, replacement in (
            (r"(?m)^( *)print\b.*$", r"\1pass"),
            (r"(?m)^from zope\.interface import implements$", ""),
            (r"binascii\.(?:b2a_hex|hexlify)\(", "hexed("),
            (r"hashlib\.sha1\(\)", "sha1()"),
            (r"\(object, Case, *\)", "(Case,)"),
            (r"len\(self\.payload\) / self", "len(self.payload) // self"),
            (r"import copy, os, pkg_resources, hashlib, binascii", "import copy, os, hashlib"),
            (r'pkg_resources\.resource_filename\("autobahntestsuite", "testdata/%s" % ([^\n]*)\)\n', r"os.path.join(test_data, \1)\n"),
        ):
            source = re.sub(pattern, replacement, source)
        return source.replace("\t", "   ")

    sys.dont_write_bytecode = True
    wanted = re.findall(r"(?m)^from (case\w+) import", (folder / "__init__.py").read_text())
    for name in ["case", *wanted]:
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(translated(folder / f"{name}.py"), f"{name}.py", "exec"), module.__dict__)
    sys.modules["case"].Case.compare = lambda self, one, other: one == other
    everything = types.ModuleType("cases")
    exec(compile(translated(folder / "__init__.py"), "cases.py", "exec"), everything.__dict__)
    return {case.__name__[4:].replace("_", "."): case for case in everything.Cases}


class Fuzzer(WebSocketClientProtocol):
    """One case on one connection."""

    # What the cases of all strings expect of autobahn, as they are for the other Python.
    def sendFrame(self, opcode, payload="", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        payload = octets(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        super().sendFrame(opcode, payload, fin, rsv, octets(mask) if mask else None, None, chopsize, sync)

    def sendMessage(self, payload, isBinary=False, **more):
        super().sendMessage(octets(payload), isBinary, **more)

    def sendMessageFrameData(self, payload, sync=False):
        return super().sendMessageFrameData(octets(payload), sync)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, None if reasonUtf8 is None else octets(reasonUtf8), isReply)

    def connectionMade(self):
        self.connectionWasOpen = False
        self.createWirelog = False
        self.txFrameStats = {}
        self.runCase = self.factory.case(self)
        self.awaits_echo = self.factory.first is not None
        super().connectionMade()

    def onOpen(self):
        self.connectionWasOpen = True
        if self.awaits_echo:
            self.sendMessage(self.factory.first)
        else:
            self.begin()

    def begin(self):
        self.trafficStats.outgoingWebSocketFrames = 0
        self.txFrameStats = {}
        self.runCase.onOpen()

    def onMessage(self, payload, isBinary):
        if self.awaits_echo:
            # The service echoes the auth message like any other. Only then does the case begin.
            self.awaits_echo = False
            self.begin()
            return
        compressed = hasattr(self.runCase, "TESTDATA")
        self.runCase.onMessage(payload if compressed else letters(payload), isBinary)

    def onPing(self, payload):
        # As the suite does: its cases look at pongs, and autobahn answers.
        super().onPing(payload)

    def onPong(self, payload):
        self.runCase.onPong(letters(payload or b""))

    def onClose(self, wasClean, code, reason):
        self.runCase.onClose(wasClean, code, reason)

    def connectionLost(self, reason):
        super().connectionLost(reason)
        self.runCase.onConnectionLost(self.failedByMe)
        self.factory.done(self.runCase, {"code": self.remoteCloseCode, "reason": self.remoteCloseReason, "clean": self.wasClean})

    def logTxFrame(self, header, payload, *more):
        self.txFrameStats[header.opcode] = self.txFrameStats.get(header.opcode, 0) + 1

    def logRxFrame(self, header, payload):
        pass

    def logTxOctets(self, data, sync):
        pass

    def logRxOctets(self, data):
        pass

    def later(self, delay, what, *more):
        reactor.callLater(delay, lambda: self.state != engine.WebSocketProtocol.STATE_CLOSED and what(*more))

    def continueLater(self, delay, fun, tag=None):
        self.later(delay, fun)

    def killAfter(self, delay):
        self.later(delay, self.failConnection)

    def closeAfter(self, delay):
        self.later(delay, self.sendClose)

    def enableWirelog(self, enable):
        pass


class Attempt(WebSocketClientFactory):
    protocol = Fuzzer

    def __init__(self, case, port, first, done):
        super().__init__(f"ws://acme.{rig.DOMAIN}:{port}/", useragent="fuzzer")
        self.case, self.first, self.finish = case, first, done
        self.logFrames = True
        self.setProtocolOptions(failByDrop=False)

    def done(self, case, seen):
        self.finish({"behavior": case.behavior, "close": case.behaviorClose, "result": f"{case.result} / {case.resultClose}", **seen})

    def clientConnectionFailed(self, connector, reason):
        self.finish({"behavior": "FAILED", "close": "FAILED", "result": reason.getErrorMessage(), "code": None})


def run(pairs, cases, doors, then):
    """Runs cases at doors, a few at once, puts what came of each into `then`'s argument, and calls it."""
    waiting, seen, under_way = list(pairs), {}, set()
    left = len(waiting)

    def next_ones():
        while waiting and len(under_way) < AT_ONCE:
            name, door = waiting.pop(0)
            case, first = cases[name], rig.auth("acme") if door == "message" else None
            count = MESSAGES.get(name.split(".")[0])
            if count and hasattr(case, "COUNT"):
                case.COUNT = count

            def done(result, key=(name, door)):
                if key not in seen:
                    seen[key] = result
                    under_way.discard(key)
                    reactor.callLater(0, next_ones if len(seen) < left else lambda: then(seen))

            under_way.add((name, door))
            reactor.connectTCP("127.0.0.1", doors[door], Attempt(case, doors[door], first, done))

    next_ones()


def rank(verdict):
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def worse(without, with_filter):
    return any(rank(with_filter[part]) > rank(without[part]) for part in ("behavior", "close"))


def unread(name, door, result):
    """Where the auth message is to be read, no compression is agreed on: what has to be compressed isn't run then."""
    return door == "message" and name.split(".")[0] in ("12", "13") and result["behavior"] == "UNIMPLEMENTED"


def compare(cases, doors):
    """Runs all, and those again that came out worse with the filter. Gives the best of each."""
    best = {}

    def doubtful():
        return [
            (name, door) for name in cases for door in WITH_FILTER
            if worse(best[name, "plain"], best[name, door]) and not unread(name, door, best[name, door])
        ]

    def take(seen, tries=0):
        for key, result in seen.items():
            if key not in best or worse(result, best[key]):
                best[key] = result
        again = doubtful()
        if again and tries < TRIES:
            run(again, cases, doors, lambda seen: take(seen, tries + 1))
        else:
            reactor.stop()

    def give_up():
        print(f"error: not all cases have ended in {SECONDS} s", flush=True)
        reactor.stop()

    reactor.callWhenRunning(run, [(name, door) for name in cases for door in ("plain", *WITH_FILTER)], cases, doors, take)
    reactor.callLater(SECONDS, give_up)
    reactor.run()
    return best


def main():
    xormasker.createXorMasker = engine.createXorMasker = lambda mask, length=None: Mask(mask)
    utf8validator.Utf8Validator = engine.Utf8Validator = Validator
    patterns = [re.compile(re.escape(pattern).replace(r"\*", ".*")) for pattern in PATTERNS]
    cases = {name: case for name, case in load_cases().items() if any(pattern.fullmatch(name) for pattern in patterns)}
    doors = ["plain", *WITH_FILTER]
    print(f"{len(cases)} cases of the Autobahn suite, at each of {len(doors)} doors: {', '.join(doors)}", flush=True)
    started = time.monotonic()
    with rig.Rig(doors) as envoy:
        best = compare(cases, envoy.doors)
    passed = failed = 0
    ended = {"behavior": "NOT ENDED", "close": "NOT ENDED", "code": None, "result": ""}
    for name in cases:
        without = best.get((name, "plain"), ended)
        if "FAILED" in (without["behavior"], without["close"]):
            print(f"fails without the filter, {name}: {without['result']}")
        for door in WITH_FILTER:
            result = best.get((name, door), ended)
            if result is ended or (worse(without, result) and not unread(name, door, result) and name not in KNOWN):
                failed += 1
                print(f"WORSE {name} at {door}:\n  without {json.dumps(without)}\n  with    {json.dumps(result)}")
            else:
                passed += 1
                if worse(without, result) and name in KNOWN:
                    print(f"known {name} at {door}: {KNOWN[name]}")
    for door in doors:
        for part in ("behavior", "close"):
            found = [best.get((name, door), ended)[part] for name in cases]
            print(f"{door:9} {part:9} " + ", ".join(f"{found.count(v)} {v}" for v in [*ORDER, "NOT ENDED"] if v in found))
    others = [
        f"{name} at {door} ({best[name, 'plain']['code']}, {best[name, door]['code']})" for name in cases for door in WITH_FILTER
        if (name, door) in best and (name, "plain") in best and best[name, door]["code"] != best[name, "plain"]["code"]
    ]
    print(f"with other close codes (without the filter, with it): {'; '.join(others) or 'none'}")
    print(f"in {time.monotonic() - started:.0f} s")
    rig.passed_and_failed(passed, failed)


if __name__ == "__main__":
    main()
