// What somebody who depends on the TypeScript client writes: compiled by scripts/ci/sdk_codegen_smoke.sh in a directory of its own.
import { readFileSync } from "node:fs";

import { connect, each, Refusal, unwrap } from "@gpuaas/client";

const at = JSON.parse(readFileSync(process.env["ENDPOINTS"] ?? "", "utf8")) as { api_url: string; token_url: string };

/** Asks for a token at each call; a real program keeps it until it ends. */
async function signIn(): Promise<string> {
  const form = new URLSearchParams({
    grant_type: "password",
    client_id: "gpuaas-api",
    client_secret: "dev-client-secret",
    username: "dev-user",
    password: "dev123",
  });
  const answer = (await (await fetch(at.token_url, { method: "POST", body: form })).json()) as { access_token: string };
  return answer.access_token;
}

const api = connect(at.api_url, signIn);
let found = 0;
for await (const sku of each((cursor) => api.GET("/api/v1/skus", { params: { query: cursor === undefined ? {} : { cursor } } }).then(unwrap))) {
  found++;
  console.log("ts:", sku.sku, "with", sku.available_nodes, "free nodes");
}
if (found === 0) throw new Error("there is no SKU");

const refusal = await api
  .GET("/api/v1/skus/{sku}", { params: { path: { sku: "no-such-sku" } } })
  .then(unwrap)
  .catch((thrown: unknown) => thrown);
if (!(refusal instanceof Refusal) || refusal.code !== "sku_not_found") throw new Error(`an unknown SKU answers ${String(refusal)}`);
