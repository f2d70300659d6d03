import { defineConfig } from "@playwright/test";

// One browser after the other: they share one instance, and its people.
export default defineConfig({
  testDir: ".",
  outputDir: "../out/e2e/failures",
  workers: 1,
  retries: 0,
  forbidOnly: true,
  timeout: 120_000,
  expect: { timeout: 30_000 },
  reporter: [["list"], ["json", { outputFile: "../out/e2e/report.json" }]],
  use: {
    viewport: { width: 1400, height: 1100 },
    screenshot: "only-on-failure",
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      // What a browser does of its own accord is not the page's doing.
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage", // containers give little of it
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
