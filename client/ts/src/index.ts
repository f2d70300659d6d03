// The TypeScript client of the public API. The *.gen.ts files are generated (make codegen); the others add what a contract
// cannot say: how a caller authenticates, that every call is safe to repeat and when that is worth it, how a list is read
// to its end, and that a refusal is an error with a code of the catalogue.
import createClient, { type Client } from "openapi-fetch";

import type { paths } from "./openapi.gen.js";
import { defaultRetries, repeating, type Retries, type TokenSource } from "./retry.js";

export { errorCatalogue, type ErrorCode, type ErrorEntry } from "./errors.gen.js";
export { policyDefaults, type PolicyKey, type PolicyValues } from "./policy.gen.js";
export type { components, operations, paths } from "./openapi.gen.js";
export { each, type Page } from "./pages.js";
export { Refusal, isErrorCode, unwrap, type Schemas } from "./refusal.js";
export { defaultRetries, type Retries, type TokenSource } from "./retry.js";

export interface ConnectOptions {
  /** Bounds on repeated attempts; what is left out is as in defaultRetries. */
  readonly retries?: Partial<Retries>;
  /** Sends one attempt; the platform's own fetch where it is left out. */
  readonly fetch?: typeof fetch;
}

/**
 * Makes a client of the API at baseUrl. A mutation without an X-Idempotency-Key is given one, and calls are repeated as
 * the options say. An AbortSignal given to a call ends its waits as well.
 */
export function connect(baseUrl: string, token: TokenSource, options: ConnectOptions = {}): Client<paths> {
  const retries = { ...defaultRetries, ...options.retries };
  return createClient<paths>({ baseUrl, fetch: repeating(token, retries, options.fetch ?? globalThis.fetch) });
}
