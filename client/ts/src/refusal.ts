import { errorCatalogue, type ErrorCode } from "./errors.gen.js";
import type { components } from "./openapi.gen.js";

export type Schemas = components["schemas"];

/** A refusal of the API, in the terms of the catalogue. */
export class Refusal extends Error {
  /** The catalogue's code; an answer without one that is known, such as a proxy's, counts as upstream_error. */
  readonly code: ErrorCode;
  readonly correlationId: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly httpStatus: number;
  /** How long the server asks to wait before another attempt, in milliseconds; undefined where it does not say. */
  readonly retryAfterMs: number | undefined;

  constructor(response: Response, fault: Schemas["Fault"] | undefined) {
    super(fault?.message ?? errorCatalogue.upstream_error.sentence);
    this.name = "Refusal";
    this.httpStatus = response.status;
    this.code = isErrorCode(fault?.code) ? fault.code : "upstream_error";
    this.correlationId = fault?.correlation_id ?? response.headers.get("X-Correlation-Id") ?? "";
    this.details = fault?.details ?? {};
    this.retryAfterMs = retryAfterMs(response.headers, Date.now());
  }

  /** Whether the same request with the same idempotency key may succeed later. */
  get retryable(): boolean {
    return errorCatalogue[this.code].retryable;
  }
}

/** Whether a text is a code of the catalogue. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(errorCatalogue, code);
}

/** Unwraps an answer: the data, or a thrown Refusal. */
export function unwrap<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (!answer.response.ok || answer.data === undefined) {
    throw new Refusal(answer.response, isFault(answer.error) ? answer.error : undefined);
  }
  return answer.data;
}

function isFault(value: unknown): value is Schemas["Fault"] {
  return typeof value === "object" && value !== null && "code" in value && "message" in value;
}

/** Reads Retry-After in both its forms, seconds and a date, as milliseconds from now. */
export function retryAfterMs(headers: Headers, now: number): number | undefined {
  const text = headers.get("Retry-After")?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const at = /^[A-Z][a-z]{2}, /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(at - now, 0);
}
