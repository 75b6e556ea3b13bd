// connect-es in Node.js: gRPC, and gRPC-Web over HTTP/1.1 and HTTP/2; in plain text, with TLS and with a certificate.
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { compressionGzip, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Echo, message } from "./echo.mjs";
import { scenarios } from "./scenarios.mjs";

const { EDGE_PLAIN, EDGE_TLS, EDGE_MTLS, EDGE_CERTIFICATES } = process.env;
const file = (name) => readFileSync(`${EDGE_CERTIFICATES}/${name}`);
const trust = { ca: file("ca.crt"), servername: "edge.test" };
const pos = { cert: file("pos.crt"), key: file("pos.key") };
const plain = { baseUrl: `http://127.0.0.1:${EDGE_PLAIN}` };
const tls = { baseUrl: `https://127.0.0.1:${EDGE_TLS}`, nodeOptions: trust };
const mtls = { baseUrl: `https://127.0.0.1:${EDGE_MTLS}`, nodeOptions: { ...trust, ...pos } };
const gzip = { sendCompression: compressionGzip, acceptCompression: [compressionGzip], compressMinBytes: 1 };

const transports = {
  "gRPC": [createGrpcTransport({ ...plain }), ["client", "bidi", "full"]],
  "gRPC, TLS": [createGrpcTransport({ ...tls }), ["client", "bidi", "full"]],
  "gRPC, a certificate": [createGrpcTransport({ ...mtls }), ["client", "bidi", "full"]],
  "gRPC, gzip": [createGrpcTransport({ ...plain, ...gzip }), ["client", "bidi", "full"], "compressed"],
  "gRPC-Web, HTTP/1.1": [createGrpcWebTransport({ ...plain, httpVersion: "1.1" }), ["client", "bidi"]],
  "gRPC-Web, HTTP/1.1, TLS": [createGrpcWebTransport({ ...tls, httpVersion: "1.1" }), ["client", "bidi"]],
  "gRPC-Web, HTTP/2": [createGrpcWebTransport({ ...plain, httpVersion: "2" }), ["client", "bidi", "full"]],
  "gRPC-Web, HTTP/2, a certificate": [
    createGrpcWebTransport({ ...mtls, httpVersion: "2" }),
    ["client", "bidi", "full"],
  ],
  "gRPC-Web, HTTP/1.1, gzip": [
    createGrpcWebTransport({ ...plain, ...gzip, httpVersion: "1.1" }),
    ["client", "bidi"],
    "compressed",
  ],
};

for (const [name, [transport, streams, compressed]] of Object.entries(transports)) {
  for (const [what, run] of Object.entries(scenarios(transport, streams))) {
    // The length that a service counts is that of the compressed message.
    if (!compressed || what !== "metadata both ways") test(`${name}: ${what}`, { timeout: 90_000 }, run);
  }
}

test("nobody gets in without a certificate of the authority", { timeout: 90_000 }, async () => {
  const stranger = { cert: file("stranger.crt"), key: file("stranger.key") };
  for (const nodeOptions of [trust, { ...trust, ...stranger }]) {
    const client = createClient(Echo, createGrpcTransport({ ...mtls, nodeOptions }));
    const refused = await client.unary(message(new Uint8Array())).then(
      () => "called",
      (error) => ConnectError.from(error).code,
    );
    if (![Code.Unavailable, Code.Internal, Code.Unknown].includes(refused)) throw new Error(`${refused}`);
  }
});
