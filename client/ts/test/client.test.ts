import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";

import { connect, each, Refusal, unwrap, type Retries, type TokenSource } from "../src/index.js";

interface Seen {
  readonly key: string | undefined;
  readonly token: string | undefined;
  readonly body: string;
  readonly at: number;
}
type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A real server that answers each attempt by the next of its answers, and the last one for ever. */
async function serve(...answers: Answer[]): Promise<{ seen: Seen[]; url: string }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { "x-idempotency-key": key, authorization: token } = request.headers;
      seen.push({ key: key as string | undefined, token, body: Buffer.concat(chunks).toString(), at: Date.now() });
      answers[Math.min(seen.length, answers.length) - 1]?.(request, response);
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.push(
    () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  );
  return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

const answer =
  (status: number, body: string, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(body);

const refuse = (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  answer(status, JSON.stringify({ code, message: "No.", correlation_id: "c1", details: {} }), headers);

/** Does the work and ends the connection before anything is answered. */
const drop: Answer = (request) => request.socket.destroy();

const empty = answer(200, '{"items":[]}');
const quick: Retries = { attempts: 4, firstDelayMs: 1, longestDelayMs: 5, totalMs: 10_000 };
const api = (url: string, token: TokenSource = () => "t1", retries: Partial<Retries> = quick) => connect(url, token, { retries });
const hourAway = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toUTCString();

describe("what may be repeated is repeated", () => {
  test.each<[string, Answer[], number, string]>([
    ["success at once", [empty], 1, ""],
    ["two failures, then success", [refuse(503, "service_unavailable"), refuse(502, "upstream_error"), empty], 3, ""],
    ["too many requests, at once", [refuse(429, "rate_limit_exceeded", { "Retry-After": "0" }), empty], 2, ""],
    ["a dropped connection", [drop, drop, empty], 3, ""],
    ["a proxy without a code", [answer(504, "<html>"), empty], 2, ""],
    ["a refusal for good", [refuse(403, "admin_required")], 1, "admin_required"],
    ["a conflict that passes", [refuse(409, "idempotency_in_flight"), empty], 2, ""],
    ["a conflict for good", [refuse(409, "idempotency_conflict")], 1, "idempotency_conflict"],
    ["our own fault", [refuse(500, "internal_error")], 1, "internal_error"],
    ["never any better", [refuse(503, "service_unavailable")], 4, "service_unavailable"],
    ["a proxy for good", [answer(418, "tea")], 1, "upstream_error"],
    ["longer than there is time", [refuse(429, "rate_limit_exceeded", { "Retry-After": "3600" })], 1, "rate_limit_exceeded"],
    ["a date that is too far away", [refuse(429, "rate_limit_exceeded", { "Retry-After": hourAway(1) })], 1, "rate_limit_exceeded"],
    ["a date that has passed", [refuse(429, "rate_limit_exceeded", { "Retry-After": hourAway(-1) }), empty], 2, ""],
  ])("%s", async (_, answers, attempts, code) => {
    const { seen, url } = await serve(...answers);
    const call = api(url).GET("/api/v1/skus").then(unwrap);
    if (code === "") expect(await call).toEqual({ items: [] });
    else await expect(call).rejects.toMatchObject({ name: "Refusal", code });
    expect(seen).toHaveLength(attempts);
  });
});

// The work of the first attempt was done when its connection broke: the second one carries the same key and the same body.
test.each([
  ["the caller's own", "mine"],
  ["one that the client makes", ""],
])("a mutation is repeated under the same key: %s", async (_, key) => {
  const { seen, url } = await serve(drop, refuse(503, "service_unavailable"), answer(201, "{}"));
  for (let call = 0; call < 2; call++) {
    unwrap(await api(url).POST("/api/v1/allocations", { params: { header: { "X-Idempotency-Key": key } }, body: { sku: "h100-8x" } }));
  }
  expect(seen).toHaveLength(4);
  const [first, second, third, next] = seen;
  expect(first?.key).toBeTruthy();
  if (key !== "") expect(first?.key).toBe(key);
  expect(JSON.parse(first?.body ?? "")).toEqual({ sku: "h100-8x" });
  for (const again of [second, third]) expect(again).toMatchObject({ key: first?.key, body: first?.body });
  if (key === "") expect(next?.key).not.toBe(first?.key);
});

test("a read carries a token and no key", async () => {
  const { seen, url } = await serve(empty);
  unwrap(await api(url).GET("/api/v1/skus"));
  expect(seen[0]).toMatchObject({ token: "Bearer t1", key: undefined });
});

test("the server's time is waited for", async () => {
  const { seen, url } = await serve(refuse(429, "rate_limit_exceeded", { "Retry-After": "1" }), empty);
  unwrap(await api(url).GET("/api/v1/skus"));
  expect(seen).toHaveLength(2);
  expect((seen[1]?.at ?? 0) - (seen[0]?.at ?? 0)).toBeGreaterThanOrEqual(990);
});

test("an AbortSignal ends the wait", async () => {
  const caller = new AbortController();
  const { seen, url } = await serve((request, response) => {
    refuse(503, "service_unavailable", { "Retry-After": "5" })(request, response);
    response.once("close", () => caller.abort(new Error("nobody waits any more")));
  });
  await expect(api(url).GET("/api/v1/skus", { signal: caller.signal })).rejects.toThrow("nobody waits any more");
  expect(seen).toHaveLength(1);
});

test("nobody listening is an error after all attempts", async () => {
  await expect(api("http://127.0.0.1:1").GET("/api/v1/skus")).rejects.toThrow("fetch failed");
});

// A token that ran out is replaced once; a source that has no other one is not asked for ever.
test.each<[string, string[], number, boolean]>([
  ["another one", ["old", "new"], 2, true],
  ["none", ["old", "old"], 1, false],
  ["another one, refused", ["old", "older", "oldest"], 2, false],
])("a refused token is renewed once: %s", async (_, tokens, attempts, succeeds) => {
  const { seen, url } = await serve((request, response) =>
    (request.headers.authorization === "Bearer new" ? empty : refuse(401, "token_expired"))(request, response),
  );
  let asked = 0;
  const call = api(url, () => tokens[Math.min(asked++, tokens.length - 1)] ?? "").GET("/api/v1/skus").then(unwrap);
  if (succeeds) await call;
  else await expect(call).rejects.toMatchObject({ code: "token_expired" });
  expect(seen).toHaveLength(attempts);
});

test("a list is read to its end", async () => {
  const { url } = await serve((request, response) => {
    const page = Number(new URL(request.url ?? "", "http://x").searchParams.get("cursor") ?? 0);
    answer(200, JSON.stringify({ items: [{ id: `tenant-${page}` }], ...(page < 2 && { next_cursor: String(page + 1) }) }))(request, response);
  });
  const found: string[] = [];
  const client = api(url);
  for await (const account of each((cursor) => client.GET("/api/v1/admin/accounts", { params: { query: cursor === undefined ? {} : { cursor } } }).then(unwrap))) {
    found.push(account.id);
  }
  expect(found).toEqual(["tenant-0", "tenant-1", "tenant-2"]);
});

test("a refusal says everything that the server said", async () => {
  const { url } = await serve(refuse(429, "rate_limit_exceeded", { "Retry-After": "7" }));
  const refusal = await api(url, () => "", { attempts: 1 })
    .GET("/api/v1/skus")
    .then(unwrap)
    .catch((thrown: unknown) => thrown);
  expect(refusal).toBeInstanceOf(Refusal);
  expect(refusal).toMatchObject({ httpStatus: 429, code: "rate_limit_exceeded", retryable: true, retryAfterMs: 7000, correlationId: "c1", message: "No." });
});

// The contract lists an operation's refusals, so a misspelt or impossible code does not compile.
test("the codes of an operation are typed", async () => {
  const { url } = await serve(refuse(404, "sku_not_found"));
  const { error } = await api(url).GET("/api/v1/skus/{sku}", { params: { path: { sku: "h100-8x" } } });
  expect(error?.code === "sku_not_found").toBe(true);
  // @ts-expect-error getSku never answers node_not_found
  expect(error?.code === "node_not_found").toBe(false);
});
