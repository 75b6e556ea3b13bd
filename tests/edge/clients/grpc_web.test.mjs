// The official gRPC-Web client, in text and binary; XMLHttpRequest is xhr2's, which shows a reply once it is whole.
import assert from "node:assert";
import { test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import XMLHttpRequest from "xhr2";
import { message } from "./echo.mjs";

// Looked for where a browser has it, and at once.
globalThis.XMLHttpRequest = XMLHttpRequest;
const { GrpcWebClientBase, MethodDescriptor, MethodType, StatusCode } = (await import("grpc-web")).default;

const edge = `http://127.0.0.1:${process.env.EDGE_PLAIN}`;
const path = (method) => `/edge.test.Echo/${method}`;
const descriptor = (method, type) =>
  new MethodDescriptor(
    path(method),
    type,
    Object,
    Object,
    (request) => toBinary(BytesValueSchema, request),
    (bytes) => fromBinary(BytesValueSchema, bytes),
  );
const Unary = descriptor("Unary", MethodType.UNARY);
const ServerStream = descriptor("ServerStream", MethodType.SERVER_STREAMING);
const payload = (size) => Uint8Array.from({ length: size }, (_, at) => at % 251);
const range = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);
const sizes = [...range(0, 2), ...range(16374, 16386), ...range(65520, 65541), 1 << 20];

const unary = (client, size, metadata = {}) =>
  new Promise((resolve, reject) => {
    const done = (error, reply) => (error ? reject(error) : resolve(reply));
    client.rpcCall(edge + path("Unary"), message(payload(size)), metadata, Unary, done);
  });

const failure = (client, size, metadata) =>
  unary(client, size, metadata).then(() => assert.fail("the call did not fail"), (error) => error);

/** All that a stream told. */
function stream(client, size, metadata) {
  const told = { messages: [] };
  const replies = client.serverStreaming(edge + path("ServerStream"), message(payload(size)), metadata, ServerStream);
  return new Promise((resolve) => {
    replies.on("data", (reply) => told.messages.push(reply.value));
    replies.on("metadata", (metadata) => (told.metadata = metadata));
    replies.on("status", (status) => (told.status = status));
    replies.on("error", (error) => resolve({ ...told, error }));
    replies.on("end", () => resolve(told));
  });
}

for (const format of ["text", "binary"]) {
  const client = new GrpcWebClientBase({ format });
  const it = (what, run) => test(`${format}: ${what}`, { timeout: 90_000 }, run);

  it("messages of every size", async () => {
    for (const size of sizes) {
      const { value } = await unary(client, size);
      assert.ok(Buffer.from(value).equals(payload(size)), `${size} bytes`);
    }
  });

  it("errors with all they say", async () => {
    const fails = { "x-trailer-grpc-status": "9", "x-trailer-grpc-message": "%E2%82%AC 5 %25", "x-trailer-note": "kept" };
    for (const end of [{ "x-trailers-only": "1" }, { "x-replies": "0" }]) {
      const error = await failure(client, 1, { ...fails, ...end });
      assert.deepEqual([error.code, error.message], [StatusCode.FAILED_PRECONDITION, "€ 5 %"]);
      assert.equal(error.metadata.note, "kept");
    }
    for (let code = 1; code <= 16; code++) {
      const error = await failure(client, 1, { "x-trailer-grpc-status": `${code}`, "x-trailers-only": "1" });
      assert.equal(error.code, code);
    }
  });

  it("deadlines", async () => {
    const name = `deadline ${format}`;
    const error = await failure(client, 1, { "grpc-timeout": "500m", "x-hang": name, "x-replies": "0" });
    assert.equal(error.code, StatusCode.DEADLINE_EXCEEDED);
    await unary(client, 0, { "x-await": `${name} given up` });
  });
}

const client = new GrpcWebClientBase({ format: "text" });

test("text: a stream of replies with metadata", { timeout: 90_000 }, async () => {
  const headers = { "x-replies": "5", "x-header-note": "one", "x-trailer-note-late": "two" };
  const told = await stream(client, 65536, headers);
  assert.equal(told.error, undefined);
  assert.equal(told.messages.length, 5);
  assert.ok(told.messages.every((value) => Buffer.from(value).equals(payload(65536))));
  assert.equal(told.metadata.note, "one");
  assert.equal(told.status.metadata["note-late"], "two");
});

test("text: a stream that fails after a reply", { timeout: 90_000 }, async () => {
  const told = await stream(client, 3, { "x-trailer-grpc-status": "8", "x-trailer-grpc-message": "enough" });
  assert.equal(told.messages.length, 1);
  assert.deepEqual([told.error.code, told.error.message], [StatusCode.RESOURCE_EXHAUSTED, "enough"]);
});
