import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { unwrap } from "../client/ts/src/index.js";
import { apiOf, expect, instance, passwordOf, signInAtIssuer, test } from "./platform.js";

const session = "/api/v1/auth/session";

test("a browser signs in, holds no token, changes something only with the CSRF token, hears what happens, and signs out", async ({ page, context, complaints }) => {
  await page.goto(`${instance.api_url}/api/v1/auth/signin?return_to=/docs`);
  await signInAtIssuer(page, "acme-owner", "a guess");
  await expect(page.locator("body")).toContainText("User name or password is wrong.");
  expect(complaints.splice(0)).toEqual([`401 POST ${new URL(instance.issuer_url).pathname}/login`]);
  await signInAtIssuer(page, "acme-owner");
  await expect(page).toHaveURL(`${instance.api_url}/docs`);

  const cookies = await context.cookies(instance.api_url);
  expect(cookies).not.toEqual([]);
  expect(cookies.filter(({ httpOnly, sameSite }) => !httpOnly || sameSite !== "Lax")).toEqual([]);
  expect(await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }))).toBe("{}");

  const me = await page.evaluate(async (address) => (await fetch(address)).json() as Promise<{ csrf_token: string; signed_in: boolean }>, session);
  expect(me.csrf_token).toBeTruthy();

  // What happens is heard over the socket, which takes the cookie.
  await page.evaluate(() => {
    const heard: string[] = [];
    (window as unknown as { heard: string[] }).heard = heard;
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws/notifications`, "gpuaas.notifications.v1");
    socket.onopen = () => heard.push("open");
    socket.onmessage = (message) => heard.push(String(message.data));
  });
  const heard = () => page.evaluate(() => (window as unknown as { heard: string[] }).heard.join("\n"));
  await expect.poll(heard).toContain("open");

  const makeProject = (csrf: string) =>
    page.evaluate(
      async ([token, key]) => {
        const projects = (await (await fetch("/api/v1/projects")).json()) as { items: { id: string; tenant_id: string }[] };
        const answer = await fetch("/api/v1/projects", {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-Idempotency-Key": key!, ...(token ? { "X-CSRF-Token": token } : {}) },
          body: JSON.stringify({ tenant_id: projects.items[0]!.tenant_id, name: `made in a browser ${key}` }),
        });
        return answer.status;
      },
      [csrf, crypto.randomUUID()] as const,
    );
  expect(await makeProject("")).toBe(403);
  expect(complaints.splice(0)).toEqual(["403 POST /api/v1/projects"]);
  expect(await makeProject(me.csrf_token)).toBe(201);

  const { account_id: account } = unwrap(await apiOf("acme-owner").GET("/api/v1/billing/balance"));
  unwrap(
    await apiOf("dev-admin").POST("/api/v1/admin/accounts/{account_id}/adjustments", {
      params: { path: { account_id: account }, header: { "X-Idempotency-Key": crypto.randomUUID() } },
      body: { amount_minor: 100, currency: "usd", reason: "seen in a browser" },
    }),
  );
  await expect.poll(heard).toContain("billing.balance_adjusted");

  const status = await page.evaluate(async (token) => (await fetch("/api/v1/auth/logout", { method: "POST", headers: { "X-CSRF-Token": token } })).status, me.csrf_token);
  expect(status).toBeLessThan(300);
  expect(await page.evaluate(async () => (await fetch("/api/v1/me")).status)).toBe(401);
  expect(complaints.splice(0)).toEqual(["401 GET /api/v1/me"]);
});

test("the command line is approved in a browser", async ({ page }) => {
  const home = mkdtempSync(join(tmpdir(), "gpuaas-e2e-"));
  const login = spawn("../bin/gpuaas", ["--api-url", instance.api_url, "login", "--issuer", instance.issuer_url], { env: { ...process.env, HOME: home } });
  let said = "";
  login.stdout.on("data", (part: Buffer) => (said += part.toString()));
  login.stderr.on("data", (part: Buffer) => (said += part.toString()));
  const ended = new Promise<number | null>((resolve) => login.on("exit", resolve));
  try {
    await expect.poll(() => said).toMatch(/user_code=\S+/);
    await page.goto(/http\S+user_code=\S+/.exec(said)![0]);
    await signInAtIssuer(page, "dev-user", passwordOf("dev-user"));
    await expect(page.locator("body")).toContainText(/code: (\S+)/.exec(said)![1]!);
    await page.getByRole("button", { name: "Yes, allow it" }).click();
    expect(await ended).toBe(0);
    expect(said).toContain("dev-user");
  } finally {
    login.kill();
    await ended;
    rmSync(home, { recursive: true }); // it holds a token
  }
});
