// connect-web in headless Chromium: a page of another origin calls the edge, over HTTP/1.1 and, with TLS, HTTP/2.
import assert from "node:assert";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { test } from "node:test";

const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };
const { EDGE_PLAIN, EDGE_TLS } = process.env;

/** Serves this folder, and waits for what the page reports. */
function origin() {
  const { promise: reported, resolve } = Promise.withResolvers();
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    if (request.method === "POST") {
      const pieces = await request.toArray();
      resolve(JSON.parse(Buffer.concat(pieces)));
      return response.end();
    }
    try {
      const type = types[path.slice(path.lastIndexOf("."))] ?? "text/plain";
      const body = readFileSync(join(import.meta.dirname, path));
      response.writeHead(200, { "content-type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done({ server, reported })));
}

test("connect-web in Chromium", { timeout: 150_000 }, async (context) => {
  const { server, reported } = await origin();
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const page = new URL(`http://localhost:${server.address().port}/chromium.html`);
  page.searchParams.append("edge", `http://127.0.0.1:${EDGE_PLAIN}`);
  page.searchParams.append("edge", `https://edge.test:${EDGE_TLS}`);
  const browser = spawn("chromium", [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // The tests' authority is not the system's.
    "--ignore-certificate-errors",
    "--host-resolver-rules=MAP edge.test 127.0.0.1",
    `--user-data-dir=${profile}`,
    page.href,
  ]);
  const gone = new Promise((_, reject) => {
    let said = "";
    browser.stderr.on("data", (piece) => (said += piece));
    browser.on("error", (error) => reject(new Error(`${error.message}; \`make test\` installs it`)));
    browser.on("exit", () => reject(new Error(`Chromium is gone: ${said}`)));
  });
  gone.catch(() => {});
  try {
    const outcomes = Object.entries(await Promise.race([reported, gone]));
    assert.ok(outcomes.length > 0);
    for (const [name, error] of outcomes) await context.test(name, () => assert.equal(error, null));
  } finally {
    const closed = new Promise((resolve) => browser.once("exit", resolve));
    browser.kill("SIGKILL");
    await closed;
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
});
