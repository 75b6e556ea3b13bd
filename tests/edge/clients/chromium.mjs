// What the page does: the calls of scenarios.mjs to each edge that its address names, and a report of them.
const outcomes = {};

async function note(name, run) {
  try {
    await run();
    outcomes[name] = null;
  } catch (error) {
    outcomes[name] = `${error?.stack ?? error}`;
  }
}

await note("the page loads", async () => {
  const { createGrpcWebTransport } = await import("@connectrpc/connect-web");
  const { scenarios } = await import("./scenarios.mjs");
  for (const baseUrl of new URL(location.href).searchParams.getAll("edge")) {
    const scheme = new URL(baseUrl).protocol;
    for (const [name, run] of Object.entries(scenarios(createGrpcWebTransport({ baseUrl }), []))) {
      await note(`${scheme} ${name}`, run);
    }
  }
});
await fetch("/report", { method: "POST", body: JSON.stringify(outcomes) });
