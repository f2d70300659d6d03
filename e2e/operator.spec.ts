import type { Page } from "@playwright/test";

import { unwrap } from "../client/ts/src/index.js";
import { apiOf, expect, instance, signInAtIssuer, test } from "./platform.js";

/** Every word that the page shows, those of its frames as well: Temporal's UI renders what workflows say of themselves in frames. */
async function words(page: Page): Promise<string> {
  const shown = await Promise.all(
    page.frames().map((frame) =>
      frame
        .locator("body")
        .innerText({ timeout: 1_000 })
        .catch(() => ""), // a frame that is gone already
    ),
  );
  return shown.join("\n");
}

const toldIn = (page: Page, sentence: RegExp) => expect.poll(() => words(page), { message: `${sentence} is told` }).toMatch(sentence);

test("an operator reads an allocation as a story in Temporal's UI, and can change nothing there", async ({ page, complaints }) => {
  const user = apiOf("dev-user");
  const { id } = unwrap(
    await user.POST("/api/v1/allocations", {
      params: { header: { "X-Idempotency-Key": crypto.randomUUID() } },
      body: { sku: "h100-8x", name: "story" },
    }),
  );
  const ofAllocation = { params: { path: { allocation_id: id } } };
  const state = async () => unwrap(await user.GET("/api/v1/allocations/{allocation_id}", ofAllocation)).state;
  await expect.poll(state, { timeout: 60_000 }).toBe("active");

  await page.goto(instance.temporal_ui_url);
  await signInAtIssuer(page, "dev-admin");
  await expect(page).toHaveURL(new RegExp(`/operator/temporal/namespaces/${instance.temporal_namespace}/workflows`));

  await page.goto(`${instance.temporal_ui_url}/namespaces/${instance.temporal_namespace}/workflows/${encodeURIComponent(`allocation/${id}`)}`);
  await expect(page).toHaveURL(/\/timeline/);
  for (const sentence of [
    /Admit: count, check the runway, claim a node of h100-8x/,
    /requested → provisioning/,
    /Make the tenant.s login on node_/,
    /Log in as the tenant would on node_/,
    /provisioning → active/,
    /Next settlement at /,
  ]) {
    await toldIn(page, sentence);
  }
  await expect(page.getByRole("button", { name: "Request Cancellation" })).toBeDisabled();
  await page.getByRole("tab", { name: "User Metadata" }).click();
  await toldIn(page, /active \(version \d+\)/);
  await toldIn(page, /\d+\.\d+ usd an hour, a window every \d+ s/);

  unwrap(await user.POST("/api/v1/allocations/{allocation_id}/release", ofAllocation));
  await expect.poll(state, { timeout: 60_000 }).toBe("released");
  await page.reload();
  await toldIn(page, /final bill: \d+\.\d+ usd/);

  // The frames are sandboxed by the UI itself, and a browser says so of what it does not run in them.
  const others = complaints.splice(0).filter((complaint) => !/^console: Blocked script execution in '.*\/render\?/.test(complaint));
  expect(others).toEqual([]);
});

test("Temporal's UI shows a tenant's user nothing", async ({ page, complaints }) => {
  await page.goto(instance.temporal_ui_url);
  await signInAtIssuer(page, "dev-user");
  await expect(page.locator("body")).toContainText("admin_required");
  expect(complaints.splice(0)).toEqual(["403 GET /operator/temporal"]);
});
