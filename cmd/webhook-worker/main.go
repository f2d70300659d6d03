// Command webhook-worker runs payments, refunds and disputes, and what Stripe tells of them; configuration by
// environment, listed by --help.
package main

import (
	"os"

	"github.com/gpuaas/gpuaas/internal/process"
)

func main() {
	os.Exit(process.Main("webhook-worker", "moves money from and to Stripe", process.RunWebhookWorker))
}
