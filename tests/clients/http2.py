#!/usr/bin/env python3
"""WebSockets in streams of HTTP/2 (RFC 8441), over cleartext, with `h2`: several at once on one connection, each with an end of its own.

Usage: http2.py [PART OF A NAME…]
"""

import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import rig
from messages import SKEW, equal, frame
from rig import auth, token

scenarios = []


def scenario(function):
    scenarios.append(function)
    return function


class Client:
    """One connection of HTTP/2, with what has come in each stream."""

    def __init__(self, envoy, door):
        self.socket = socket.create_connection(("127.0.0.1", envoy.doors[door]))
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.port = envoy.doors[door]
        self.headers, self.data, self.ended, self.reset = {}, {}, set(), {}
        self.flush()
        self.wait(lambda: self.h2.remote_settings.enable_connect_protocol, "SETTINGS_ENABLE_CONNECT_PROTOCOL")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def open(self, path="/", **headers):
        stream = self.h2.get_next_available_stream_id()
        self.data[stream] = b""
        self.h2.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
            (":authority", f"acme.{rig.DOMAIN}:{self.port}"), ("sec-websocket-version", "13"),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ])
        self.flush()
        return stream

    def joined(self, path="/", **headers):
        stream = self.open(path, **headers)
        self.wait(lambda: stream in self.headers, "the response")
        equal(self.headers[stream][":status"], "200")
        return stream

    def send(self, stream, data, end=False):
        while data or end:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if data and not room:
                self.read(5)
                continue
            self.h2.send_data(stream, data[:room], end_stream=end and room == len(data))
            self.flush()
            end = end and room != len(data)
            data = data[room:]

    def read(self, seconds):
        self.socket.settimeout(max(seconds, 0.01))
        try:
            came = self.socket.recv(65536)
        except TimeoutError:
            return True
        if not came:
            return False
        for event in self.h2.receive_data(came):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.reset[event.stream_id] = event.error_code
        self.flush()
        return True

    def wait(self, condition, what, seconds=8):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline and self.read(deadline - time.monotonic()), f"{what} has not come"

    def wait_for(self, stream, begins, seconds=8):
        """Waits for so many bytes in a stream, and takes them: they must be these."""
        over = lambda: len(self.data[stream]) >= len(begins) or stream in self.ended or stream in self.reset  # noqa: E731
        self.wait(over, f"{begins[:40]} in place of {self.data[stream][:80]}", seconds)
        equal(self.data[stream][: len(begins)], begins)
        self.data[stream] = self.data[stream][len(begins):]

    def closed_with(self, stream, code, reason, seconds=8):
        """Waits for a close frame and answers it, and then for the stream's end."""
        gone = lambda: stream in self.ended or stream in self.reset  # noqa: E731
        self.wait(lambda: len(self.data[stream]) >= 4 or gone(), "a close frame", seconds)
        data = self.data[stream]
        assert data[:1] == b"\x88" and int.from_bytes(data[2:4], "big") == code, (
            f"found {data[:80]}, ended {stream in self.ended}, reset {self.reset.get(stream)}; expected a close frame {code}"
        )
        assert data[4:].decode().startswith(reason), data
        if not gone():
            self.send(stream, frame(8, data[2:4]))
        started = time.monotonic()
        self.wait(gone, "the stream's end")
        return time.monotonic() - started


def echo(data):
    return (b"\x81" + (bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big"))) + data


@scenario
def stream_passes_without_the_filter(envoy):
    with Client(envoy, "plain") as client:
        stream = client.joined()
        client.send(stream, frame(1, b"hi"))
        client.wait_for(stream, echo(b"hi"))


@scenario
def tenant_is_known_at_the_upgrade(envoy):
    for door in ("judged", "followed"):
        with Client(envoy, door) as client:
            stream = client.joined(x_proof=f"http2 {door}")
            client.send(stream, frame(1, b"hi"))
            client.wait_for(stream, echo(b"hi"))
            equal(envoy.seen(f"http2 {door}")[0]["tenant"], "acme")


@scenario
def unknown_tenant_gets_a_status(envoy):
    with Client(envoy, "followed") as client:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"),
            (":authority", f"nobody.{rig.DOMAIN}"), ("sec-websocket-version", "13"),
        ])
        client.data[stream] = b""
        client.flush()
        client.wait(lambda: stream in client.headers, "the response")
        equal(client.headers[stream][":status"], "404")


@scenario
def bad_token_at_the_upgrade_gets_401(envoy):
    with Client(envoy, "message") as client:
        stream = client.open(authorization=f"Bearer {token('acme', secret='x' * 32)}")
        client.wait(lambda: stream in client.headers, "the response")
        equal(client.headers[stream][":status"], "401")


@scenario
def plain_connect_is_no_websocket(envoy):
    """CONNECT without :protocol would be a tunnel: Envoy has no route for it, and nothing reaches the service."""
    with Client(envoy, "message") as client:
        stream = client.h2.get_next_available_stream_id()
        client.data[stream] = b""
        client.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", f"acme.{rig.DOMAIN}:80")])
        client.flush()
        client.wait(lambda: stream in client.headers or stream in client.reset, "an answer")
        status = client.headers.get(stream, {}).get(":status", "reset")
        assert status in ("400", "401", "403", "404", "reset"), status


@scenario
def auth_message_lets_in(envoy):
    with Client(envoy, "message") as client:
        stream = client.joined("/greet", x_proof="http2 in")
        client.read(0.5)
        equal(client.data[stream], b"")
        message = auth("acme").encode()
        client.send(stream, frame(1, message[:50], False))
        client.send(stream, frame(0, message[50:]))
        client.wait_for(stream, echo(b"welcome") + echo(message))
        client.send(stream, frame(1, b"hi"))
        client.wait_for(stream, echo(b"hi"))
        equal([event["auth"] for event in envoy.seen("http2 in") if event["event"] == "open"], ["message"])


@scenario
def early_auth_message_may_come_with_the_upgrade(envoy):
    with Client(envoy, "message") as client:
        message = auth("acme").encode()
        stream = client.open()
        client.send(stream, frame(1, message) + frame(1, b"hi"))
        client.wait_for(stream, echo(message) + echo(b"hi"))


@scenario
def refusals_are_close_frames_and_end_their_stream_alone(envoy):
    with Client(envoy, "message") as client:
        message = auth("acme").encode()
        friend = client.joined()
        client.send(friend, frame(1, message))
        client.wait_for(friend, echo(message))
        for path in ("/", "/greet"):
            for first, code, reason in (
                (auth("acme", "globex"), 1008, "TENANT_MISMATCH"),
                (auth("acme", secret="x" * 32), 1008, "UNAUTHORIZED"),
                (auth("hooli"), 1008, "TENANT_SUSPENDED"),
                (auth("nobody"), 1008, "TENANT_NOT_FOUND"),
                ("hello", 1008, "UNAUTHORIZED: the first message is no auth message"),
            ):
                stream = client.joined(path, x_proof="http2 refused")
                client.send(stream, frame(1, first.encode()))
                took = client.closed_with(stream, code, reason)
                assert took < 2, f"the stream ended {took:.1f} s after the answer"
                client.send(friend, frame(1, b"still here"))
                client.wait_for(friend, echo(b"still here"))
    equal([event for event in envoy.seen("http2 refused") if event["event"] == "message"], [])


@scenario
def silent_stream_is_told_the_time_is_over(envoy):
    with Client(envoy, "strict") as client:
        quiet, greeted = client.joined(), client.joined("/greet")
        for stream in (quiet, greeted):
            client.closed_with(stream, 1008, "UNAUTHORIZED: no auth message in time", 10)


@scenario
def stream_ends_with_its_token(envoy):
    with Client(envoy, "strict") as client:
        message = auth("globex", seconds=2 - SKEW).encode()
        stream = client.joined(x_proof="http2 short")
        client.send(stream, frame(1, message))
        client.wait_for(stream, echo(message))
        deadline = time.monotonic() + 10
        while not client.data[stream] and time.monotonic() < deadline:
            client.send(stream, frame(10, b"unasked"))
            client.read(0.2)
        client.closed_with(stream, 1008, "UNAUTHORIZED")
    deadline = time.monotonic() + 5
    while envoy.seen("http2 short")[-1]["event"] != "close" and time.monotonic() < deadline:
        time.sleep(0.05)
    equal(envoy.seen("http2 short")[-1]["code"], 1008)


@scenario
def end_of_the_clients_side_ends_the_stream(envoy):
    """A stream can be ended on one side, as HTTP/1.1's connection can't."""
    with Client(envoy, "message") as client:
        for sent in (b"", frame(1, auth("acme").encode())[:30]):
            stream = client.joined(x_proof="http2 half")
            client.send(stream, sent, end=True)
            client.wait(lambda stream=stream: stream in client.ended or stream in client.reset or client.data[stream], "an end")
            if client.data[stream]:
                equal(client.data[stream][:4], b"\x88\x02\x03\xe8")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        events = [event["event"] for event in envoy.seen("http2 half")]
        if events.count("close") == events.count("open"):
            break
        time.sleep(0.05)
    equal(events.count("close"), events.count("open"))


@scenario
def a_hundred_streams_and_a_megabyte_in_each_of_three(envoy):
    with Client(envoy, "message") as client:
        message = auth("acme").encode()
        streams = [client.joined() for _ in range(90)]
        for stream in streams:
            client.send(stream, frame(1, message))
        for stream in streams:
            client.wait_for(stream, echo(message))
        for stream in streams[::2]:
            client.h2.reset_stream(stream)
        client.flush()
        size = 1 << 20
        large = b"\x82\xff" + size.to_bytes(8, "big") + bytes(4) + b"m" * size
        for stream in streams[1:6:2]:
            client.send(stream, large)
            client.wait_for(stream, b"\x82\x7f" + size.to_bytes(8, "big") + b"m" * size, 20)


if __name__ == "__main__":
    rig.run(scenarios, lambda scenario, envoy: scenario(envoy))
