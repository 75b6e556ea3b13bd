// Calls that every transport of connect-es has to get right, in Node.js as in a browser.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Echo, message } from "./echo.mjs";

// About the boundaries of frames and windows, with and without what surrounds a message.
const range = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);
const sizes = [...range(0, 2), ...range(16374, 16386), ...range(65520, 65541), 1 << 24];

const payload = (size) => Uint8Array.from({ length: size }, (_, at) => at % 251);

function equal(observed, expected) {
  const [left, right] = [JSON.stringify(observed), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${left} instead of ${right}`);
}

function same(observed, expected) {
  if (observed.length !== expected.length || observed.some((byte, at) => byte !== expected[at])) {
    throw new Error(`${observed.length} bytes instead of ${expected.length}, or others`);
  }
}

async function failure(call) {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call did not fail");
}

async function all(replies) {
  const messages = [];
  for await (const reply of replies) messages.push(reply.value);
  return messages;
}

async function* each(values) {
  for (const value of values) yield message(value);
}

let names = 0;
const unique = () => `${Math.random()}-${names++}`;

/** What `streams` names can be called: `client`, `bidi`; `full`: both directions at once. */
export function scenarios(transport, streams) {
  const client = createClient(Echo, transport);
  const tests = {
    async "messages of every size"() {
      for (const size of sizes) {
        const sent = payload(size);
        same((await client.unary(message(sent))).value, sent);
      }
    },

    async "a stream of replies"() {
      const sent = payload(65536);
      const replies = await all(client.serverStream(message(sent), { headers: { "x-replies": "5" } }));
      equal(replies.length, 5);
      for (const reply of replies) same(reply, sent);
      equal(await all(client.serverStream(message(sent), { headers: { "x-replies": "0" } })), []);
    },

    async "metadata both ways"() {
      const bytes = new Uint8Array([0, 255, 128, 10]);
      const base64 = btoa(String.fromCharCode(...bytes));
      const seen = {};
      await client.unary(message(payload(3)), {
        headers: {
          "x-header-note": "one, two",
          "x-header-note-bin": base64,
          "x-trailer-note-late": 'a "b" %41',
          "x-trailer-note-late-bin": base64,
        },
        onHeader: (headers) => (seen.headers = headers),
        onTrailer: (trailers) => (seen.trailers = trailers),
      });
      const unpadded = (text) => text.replace(/=+$/, "");
      equal(seen.headers.get("note"), "one, two");
      equal(unpadded(seen.headers.get("note-bin")), unpadded(base64));
      equal(seen.trailers.get("note-late"), 'a "b" %41');
      equal(unpadded(seen.trailers.get("note-late-bin")), unpadded(base64));
      equal(seen.trailers.get("x-received"), "1/5");
    },

    async "errors with all they say"() {
      const headers = {
        "x-trailer-grpc-status": "9",
        "x-trailer-grpc-message": "%E2%82%AC 5 %25",
        // google.rpc.Status with a google.protobuf.StringValue of "x"
        "x-trailer-grpc-status-details-bin":
          "CAkSBHRlc3QaNAovdHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucHJvdG9idWYuU3RyaW5nVmFsdWUSAQo",
        "x-trailer-note": "kept",
      };
      for (const end of [{ "x-trailers-only": "1" }, { "x-replies": "0" }, {}]) {
        const call = all(client.serverStream(message(payload(1)), { headers: { ...headers, ...end } }));
        const error = await failure(call);
        equal([error.code, error.metadata.get("note")], [Code.FailedPrecondition, "kept"]);
        equal(error.details.map((detail) => detail.type), ["google.protobuf.StringValue"]);
      }
      delete headers["x-trailer-grpc-status-details-bin"];
      for (const end of [{ "x-trailers-only": "1" }, { "x-replies": "0" }]) {
        const error = await failure(client.unary(message(payload(1)), { headers: { ...headers, ...end } }));
        equal([error.code, error.rawMessage], [Code.FailedPrecondition, "€ 5 %"]);
      }
      for (let code = 1; code <= 16; code++) {
        const headers = { "x-trailer-grpc-status": `${code}`, "x-trailers-only": "1" };
        equal((await failure(client.unary(message(payload(1)), { headers }))).code, code);
      }
    },

    async "a service that gives up"() {
      for (const [reset, code] of [["8", Code.Canceled], ["11", Code.ResourceExhausted]]) {
        const error = await failure(all(client.serverStream(message(payload(1)), { headers: { "x-reset": reset } })));
        // A reset may overtake what was sent before it, and then there was no answer.
        if (![code, Code.Unavailable].includes(error.code)) throw error;
      }
    },

    // The deadline is told as a header only: it is the gateway who has to end the call, and both of its ends.
    async "deadlines"() {
      for (const replies of ["0", "1"]) {
        const name = unique();
        const headers = { "grpc-timeout": "500m", "x-hang": name, "x-replies": replies };
        const error = await failure(all(client.serverStream(message(payload(1)), { headers })));
        equal(error.code, Code.DeadlineExceeded);
        await client.unary(message(payload(0)), { headers: { "x-await": `${name} given up` } });
      }
      const name = unique();
      const headers = { "x-hang": name, "x-replies": "0" };
      const error = await failure(client.unary(message(payload(1)), { headers, timeoutMs: 500 }));
      equal(error.code, Code.DeadlineExceeded);
      await client.unary(message(payload(0)), { headers: { "x-await": `${name} given up` } });
    },

    async "cancellation"() {
      const name = unique();
      const given = new AbortController();
      const replies = client.serverStream(message(payload(1)), { headers: { "x-hang": name }, signal: given.signal });
      const error = await failure(
        (async () => {
          for await (const _ of replies) given.abort();
        })(),
      );
      equal(error.code, Code.Canceled);
      await client.unary(message(payload(0)), { headers: { "x-await": `${name} given up` } });
    },
  };
  if (streams.includes("client")) {
    tests["a stream of requests"] = async () => {
      const sent = sizes.slice(0, -1).map(payload);
      same((await client.clientStream(each(sent))).value, sent.at(-1));
    };
  }
  if (streams.includes("bidi")) {
    tests["streams both ways"] = async () => {
      const sent = sizes.slice(0, -1).map(payload);
      const replies = await all(client.bidiStream(each(sent), { headers: { "x-replies": "2" } }));
      equal(replies.length, 2 * sent.length);
      replies.forEach((reply, at) => same(reply, sent[at >> 1]));
    };
  }
  if (streams.includes("full")) {
    tests["each message answered before the next"] = async () => {
      let next;
      const answered = () => new Promise((resolve) => (next = resolve));
      async function* asks() {
        for (let turn = 0; turn < 20; turn++) {
          const reply = answered();
          yield message(new Uint8Array([turn]));
          same(await reply, [turn]);
        }
      }
      for await (const reply of client.bidiStream(asks())) next(reply.value);
    };
  }
  return tests;
}
