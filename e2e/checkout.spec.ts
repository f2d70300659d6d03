import { unwrap } from "../client/ts/src/index.js";
import { apiOf, expect, instance, test } from "./platform.js";

const payer = apiOf("dev-user");

const balance = async () => unwrap(await payer.GET("/api/v1/billing/balance")).balance_micros;

async function checkout(amountMinor: number) {
  const payment = unwrap(
    await payer.POST("/api/v1/payments/checkout", {
      params: { header: { "X-Idempotency-Key": crypto.randomUUID() } },
      body: { amount_minor: amountMinor, currency: "usd", success_url: `${instance.api_url}/docs`, cancel_url: `${instance.api_url}/docs` },
    }),
  );
  const state = async () => unwrap(await payer.GET("/api/v1/payments/{payment_id}", { params: { path: { payment_id: payment.id } } })).state;
  return { url: payment.checkout_url!, state };
}

test("money that is paid on the checkout page arrives once, and leads back", async ({ page }) => {
  const before = await balance();
  const { url, state } = await checkout(2500);
  await page.goto(url);
  await expect(page.locator("body")).toContainText("25.00 USD");
  await page.getByRole("button", { name: "Pay with the card 4242" }).click();
  await expect(page).toHaveURL(`${instance.api_url}/docs`);
  await expect.poll(state).toBe("credited");
  expect((await balance()) - before).toBe(25_000_000);
});

test("a card that is declined moves no money, and the page can still be paid", async ({ page }) => {
  const before = await balance();
  const { url, state } = await checkout(1200);
  await page.goto(url);
  await page.getByRole("button", { name: "Have the card declined" }).click();
  await page.goto(url);
  expect(await state()).toBe("open");
  expect(await balance()).toBe(before);
  await page.getByRole("button", { name: "Pay with the card 4242" }).click();
  await expect.poll(state).toBe("credited");
  expect((await balance()) - before).toBe(12_000_000);
});
