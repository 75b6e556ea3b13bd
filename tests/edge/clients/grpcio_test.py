"""grpcio's client: plain HTTP/2, TLS, and with a certificate. Messages are google.protobuf.BytesValue, read as bytes."""

import os
import pathlib
import queue
import unittest

import grpc

CERTIFICATES = pathlib.Path(os.environ["EDGE_CERTIFICATES"])
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.ssl_target_name_override", "edge.test"),
    ("grpc.enable_http_proxy", 0),
]
# About the boundaries of frames and windows, with and without what surrounds a message.
SIZES = [*range(0, 2), *range(16374, 16386), *range(65520, 65541), 1 << 24]


def payload(size):
    return bytes(at % 251 for at in range(251)) * (size // 251) + bytes(range(size % 251))


def channel(listener, certificate=None):
    address = f"127.0.0.1:{os.environ['EDGE_' + listener.upper()]}"
    if listener == "plain":
        return grpc.insecure_channel(address, OPTIONS)
    read = lambda name: (CERTIFICATES / name).read_bytes()
    own = [read(f"{certificate}.key"), read(f"{certificate}.crt")] if certificate else []
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), *own), OPTIONS)


class Echo:
    """The methods of the service, raw bytes in and out."""

    def __init__(self, to):
        self.unary = to.unary_unary("/edge.test.Echo/Unary")
        self.server_stream = to.unary_stream("/edge.test.Echo/ServerStream")
        self.client_stream = to.stream_unary("/edge.test.Echo/ClientStream")
        self.bidi_stream = to.stream_stream("/edge.test.Echo/BidiStream")


class Calls(unittest.TestCase):
    def each(self, calls):
        for listener, certificate in [("plain", None), ("tls", None), ("mtls", "pos")]:
            with self.subTest(listener), channel(listener, certificate) as to:
                calls(listener, Echo(to))

    def fails(self, code, call):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        self.assertEqual(raised.exception.code(), code)
        return raised.exception

    def test_sizes(self):
        def calls(listener, echo):
            for size in SIZES:
                self.assertTrue(echo.unary(payload(size)) == payload(size), size)
            sent = [payload(size) for size in SIZES[:-1]]
            self.assertTrue(list(echo.server_stream(sent[-1], metadata=[("x-replies", "5")])) == sent[-1:] * 5)
            self.assertTrue(echo.client_stream(iter(sent)) == sent[-1])
            self.assertTrue(list(echo.bidi_stream(iter(sent))) == sent)

        self.each(calls)

    def test_metadata(self):
        def calls(listener, echo):
            raw = bytes([0, 255, 128, 10])
            _, call = echo.unary.with_call(
                b"abc",
                metadata=[
                    ("x-header-note", "one, two"),
                    ("x-header-note-bin", raw),
                    ("x-trailer-note-late", "three"),
                    ("x-trailer-note-late-bin", raw),
                ],
            )
            headers, trailers = dict(call.initial_metadata()), dict(call.trailing_metadata())
            self.assertEqual((headers["note"], headers["note-bin"]), ("one, two", raw))
            self.assertEqual((trailers["note-late"], trailers["note-late-bin"]), ("three", raw))
            self.assertEqual(trailers["x-received"], "1/3")

        self.each(calls)

    def test_errors(self):
        def calls(listener, echo):
            said = [
                ("x-trailer-grpc-status", "9"),
                ("x-trailer-grpc-message", "%E2%82%AC 5 %25"),
                ("x-trailer-grpc-status-details-bin", b"\x08\x09\x12\x04test"),
            ]
            for end in [("x-trailers-only", "1"), ("x-replies", "0")]:
                error = self.fails(
                    grpc.StatusCode.FAILED_PRECONDITION, lambda: echo.unary(b"a", metadata=[*said, end])
                )
                self.assertEqual(error.details(), "€ 5 %")
                trailers = dict(error.trailing_metadata())
                self.assertEqual(trailers["grpc-status-details-bin"], b"\x08\x09\x12\x04test")
            for code in grpc.StatusCode:
                if code is not grpc.StatusCode.OK:
                    metadata = [("x-trailer-grpc-status", str(code.value[0])), ("x-trailers-only", "1")]
                    self.fails(code, lambda: echo.unary(b"a", metadata=metadata))

        self.each(calls)

    def test_resets(self):
        def calls(listener, echo):
            for reset, code in [("8", grpc.StatusCode.CANCELLED), ("11", grpc.StatusCode.RESOURCE_EXHAUSTED)]:
                asks = queue.SimpleQueue()
                asks.put(b"a")
                replies = echo.bidi_stream(iter(asks.get, None), metadata=[("x-reset", reset)])
                self.assertEqual(next(replies), b"a")
                asks.put(None)
                self.fails(code, lambda: next(replies))

        self.each(calls)

    def test_deadlines(self):
        def calls(listener, echo):
            for replies in ["0", "1"]:
                name = f"late {listener} {replies}"
                metadata = [("x-hang", name), ("x-replies", replies)]
                call = lambda: list(echo.server_stream(b"a", metadata=metadata, timeout=0.5))
                self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, call)
                echo.unary(b"", metadata=[("x-await", f"{name} given up")])

        self.each(calls)

    def test_cancellation(self):
        def calls(listener, echo):
            replies = echo.server_stream(b"a", metadata=[("x-hang", listener)])
            self.assertEqual(next(replies), b"a")
            replies.cancel()
            self.fails(grpc.StatusCode.CANCELLED, lambda: next(replies))
            echo.unary(b"", metadata=[("x-await", f"{listener} given up")])

        self.each(calls)

    def test_compression(self):
        def calls(listener, echo):
            reply, call = echo.unary.with_call(bytes(100_000), compression=grpc.Compression.Gzip)
            self.assertTrue(reply == bytes(100_000))
            received = int(dict(call.trailing_metadata())["x-received"].split("/")[1])
            self.assertLess(received, 1000)

        self.each(calls)

    def test_certificates(self):
        for certificate in [None, "stranger"]:
            with channel("mtls", certificate) as to:
                self.fails(grpc.StatusCode.UNAVAILABLE, lambda: Echo(to).unary(b"a"))


if __name__ == "__main__":
    unittest.main()
