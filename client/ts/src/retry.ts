import { errorCatalogue } from "./errors.gen.js";
import { isErrorCode, retryAfterMs } from "./refusal.js";

/**
 * How a call is repeated. Every call may be: a read changes nothing, and a mutation carries an X-Idempotency-Key, which
 * is the same in each attempt, so that its work is done once.
 */
export interface Retries {
  /** How often a request is sent at most; 1 means never again. */
  readonly attempts: number;
  /** The mean of the first wait; each further one doubles. A Retry-After of the server counts instead. */
  readonly firstDelayMs: number;
  /** The longest wait that the server did not ask for. */
  readonly longestDelayMs: number;
  /** Bounds all attempts and waits of one call together: what cannot be waited for within it is not waited for. */
  readonly totalMs: number;
}

/** Four attempts within a minute. */
export const defaultRetries: Retries = { attempts: 4, firstDelayMs: 250, longestDelayMs: 8_000, totalMs: 60_000 };

/**
 * Answers the bearer token of the next request, "" for none; it may refresh it. Where the API refuses a token, the source
 * is asked once more, and the call repeated if it has another one by then.
 */
export type TokenSource = () => Promise<string> | string;

/** Makes a fetch that sends each request with a token and, where it changes something, an idempotency key, and again where that helps. */
export function repeating(token: TokenSource, retries: Retries, fetchOnce: typeof fetch): (request: Request) => Promise<Response> {
  return async (request) => {
    const headers = new Headers(request.headers);
    const changes = request.method !== "GET" && request.method !== "HEAD";
    if (changes && !headers.get("X-Idempotency-Key")) headers.set("X-Idempotency-Key", crypto.randomUUID());
    const body = request.body === null ? null : await request.arrayBuffer();
    const until = Date.now() + retries.totalMs;
    let bearer = await token();
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      if (bearer !== "") headers.set("Authorization", `Bearer ${bearer}`);
      const answer = await once(fetchOnce, request, headers, body);
      if (request.signal.aborted) throw request.signal.reason;
      if (answer.response?.status === 401 && !renewed) {
        // The token may have run out since it was handed over: a source that has another one now gets one more chance.
        renewed = true;
        const fresh = await token();
        if (fresh !== bearer) {
          await answer.response.body?.cancel();
          bearer = fresh;
          attempt--;
          continue;
        }
      }
      const wait = delayMs(retries, attempt, answer.response);
      if (attempt >= retries.attempts || Date.now() + wait > until || (answer.response && !(await worthRepeating(answer.response)))) {
        if (answer.response) return answer.response;
        throw answer.failure;
      }
      await answer.response?.body?.cancel();
      await pause(wait, request.signal);
    }
  };
}

type Attempt = { response: Response; failure?: undefined } | { response?: undefined; failure: unknown };

async function once(fetchOnce: typeof fetch, request: Request, headers: Headers, body: ArrayBuffer | null): Promise<Attempt> {
  try {
    return { response: await fetchOnce(new Request(request.url, { method: request.method, headers, body, signal: request.signal, credentials: request.credentials })) };
  } catch (failure) {
    return { failure };
  }
}

/**
 * Whether the same request may be answered otherwise later: by the catalogue, or where the answer has no code, as a
 * proxy's has not, by its status.
 */
async function worthRepeating(response: Response): Promise<boolean> {
  if (response.ok) return false;
  const code = await codeOf(response.clone());
  return isErrorCode(code) ? errorCatalogue[code].retryable : [429, 502, 503, 504].includes(response.status);
}

async function codeOf(response: Response): Promise<unknown> {
  try {
    const envelope: unknown = await response.json();
    return typeof envelope === "object" && envelope !== null && "code" in envelope ? envelope.code : undefined;
  } catch {
    return undefined;
  }
}

/** What the server asks for, or a random time around a doubling one, so that callers who were refused together do not return together. */
function delayMs(retries: Retries, attempt: number, response: Response | undefined): number {
  const asked = response && retryAfterMs(response.headers, Date.now());
  return asked ?? Math.min(retries.firstDelayMs * 2 ** (attempt - 1) * (0.5 + Math.random()), retries.longestDelayMs);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", end);
      resolve();
    }, ms);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}
