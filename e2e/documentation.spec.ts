import { expect, instance, test } from "./platform.js";

test("the contract is read at /docs, without asking any other host", async ({ page }) => {
  await page.goto(`${instance.api_url}/docs`);
  await page.locator("#operations-tag-allocations").click();
  await page.locator("#operations-allocations-createAllocation").click();
  await expect(page.locator("#operations-allocations-createAllocation")).toContainText("insufficient_balance");
});
