// What the specs stand on: the addresses of the instance, its people, and a page that tells of everything a person would call
// broken. Imports Playwright and the TypeScript client alone, so that it sees the platform as everybody outside does.
import { readFileSync } from "node:fs";

import { test as plain, expect, type Page } from "@playwright/test";

import { connect } from "../client/ts/src/index.js";

export { expect };

interface Endpoints {
  readonly api_url: string;
  readonly token_url: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly temporal_ui_url: string;
  readonly temporal_namespace: string;
  readonly issuer_url: string;
  readonly stripe_url: string;
  readonly users: readonly { readonly username: string; readonly password: string }[];
}

const file = process.env["ENDPOINTS"];
if (!file) throw new Error("ENDPOINTS does not name the endpoints.json of an instance: run make test-e2e");
export const instance = JSON.parse(readFileSync(file, "utf8")) as Endpoints;

/** The password of one of the instance's people. */
export function passwordOf(username: string): string {
  const found = instance.users.find((user) => user.username === username);
  if (!found) throw new Error(`the instance has no ${username}`);
  return found.password;
}

/** A person's access token, by the password grant of development issuers. */
async function tokenOf(username: string): Promise<string> {
  const answer = await fetch(instance.token_url, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "password",
      client_id: instance.client_id,
      client_secret: instance.client_secret,
      username,
      password: passwordOf(username),
    }),
  });
  const { access_token: token } = (await answer.json()) as { access_token?: string };
  if (!token) throw new Error(`the issuer answers ${answer.status} for ${username}`);
  return token;
}

/** The API as one of the instance's people has it who writes programs. */
export const apiOf = (username: string) => connect(instance.api_url, () => tokenOf(username));

/** Signs in at the issuer's page, to which the platform has sent the browser. */
export async function signInAtIssuer(page: Page, username: string, password = passwordOf(username)): Promise<void> {
  await expect(page).toHaveURL((address) => address.href.startsWith(instance.issuer_url));
  await page.locator("input[name=username]").fill(username);
  await page.locator("input[name=password]").fill(password);
  await page.locator("[type=submit]").click();
}

interface Fixtures {
  /** What went wrong in the page, and every address outside the instance that it asked; empty at the end of a spec, which takes out what it expects. */
  readonly complaints: string[];
}

export const test = plain.extend<Fixtures>({
  complaints: [
    async ({ page }, use) => {
      const complaints: string[] = [];
      const own = new Set([instance.api_url, instance.issuer_url, instance.stripe_url].map((address) => new URL(address).origin));
      page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
      page.on("console", (message) => {
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(`console: ${message.text()}`);
      });
      page.on("response", (response) => {
        if (response.status() >= 400) complaints.push(`${response.status()} ${response.request().method()} ${new URL(response.url()).pathname}`);
      });
      page.on("requestfailed", (request) => {
        const why = request.failure()?.errorText ?? "";
        // A page that is left, or asks anew, drops what it was waiting for.
        if (why !== "net::ERR_ABORTED") complaints.push(`${why} ${new URL(request.url()).pathname}`);
      });
      page.on("request", (request) => {
        const address = new URL(request.url());
        if (address.protocol.startsWith("http") && !own.has(address.origin)) complaints.push(`asks ${address.origin}`);
      });
      await use(complaints);
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});
