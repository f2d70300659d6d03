// The TypeScript client of the public API. The *.gen.ts files are generated (make codegen); this file adds what a
// contract cannot say: how a caller authenticates, and that a refusal is an error with a code of the catalogue.
import createClient, { type Client } from "openapi-fetch";

import { errorCatalogue, type ErrorCode } from "./errors.gen.ts";
import type { components, paths } from "./openapi.gen.ts";

export { errorCatalogue, type ErrorCode, type ErrorEntry } from "./errors.gen.ts";
export { policyDefaults, type PolicyKey, type PolicyValues } from "./policy.gen.ts";
export type { components, operations, paths } from "./openapi.gen.ts";

export type Schemas = components["schemas"];

/** A refusal of the API, in the terms of the catalogue. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  readonly correlationId: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly httpStatus: number;

  constructor(httpStatus: number, fault: Schemas["Fault"] | undefined, correlationId: string) {
    super(fault?.message ?? errorCatalogue.upstream_error.sentence);
    this.name = "Refusal";
    this.httpStatus = httpStatus;
    this.code = fault && fault.code in errorCatalogue ? (fault.code as ErrorCode) : "upstream_error";
    this.correlationId = fault?.correlation_id ?? correlationId;
    this.details = fault?.details ?? {};
  }

  /** Whether the same request with the same idempotency key may succeed later. */
  get retryable(): boolean {
    return errorCatalogue[this.code].retryable;
  }
}

/** Makes a client; token is asked before every request and may refresh. */
export function connect(baseUrl: string, token: () => Promise<string> | string): Client<paths> {
  const client = createClient<paths>({ baseUrl });
  client.use({
    async onRequest({ request }) {
      const bearer = await token();
      if (bearer !== "") request.headers.set("Authorization", `Bearer ${bearer}`);
      return request;
    },
  });
  return client;
}

/** Unwraps an answer: the data, or a thrown Refusal. */
export function unwrap<T>(answer: { data?: T; error?: Schemas["Fault"]; response: Response }): T {
  if (!answer.response.ok || answer.data === undefined) {
    throw new Refusal(answer.response.status, answer.error, answer.response.headers.get("X-Correlation-Id") ?? "");
  }
  return answer.data;
}
