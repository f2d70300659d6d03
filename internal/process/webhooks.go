package process

import (
	"fmt"

	rules "github.com/gpuaas/gpuaas/domain/webhook"
	"github.com/gpuaas/gpuaas/internal/webhook"
)

// WebhooksConfig is how customers' webhooks are signed, and which addresses they may have.
type WebhooksConfig struct {
	Keys     string   `env:"GPUAAS_WEBHOOK_KEYS" usage:"id:hex,id:hex: keys of 32 bytes that seal the signing secrets of customers' webhooks, the current one first, the same everywhere; empty sends none"`
	Networks []string `env:"GPUAAS_WEBHOOK_ALLOWED_NETWORKS" usage:"networks that webhooks may be sent to although they are not public, such as 10.1.0.0/16, comma separated"`
}

// Enabled says whether webhooks are sent.
func (c WebhooksConfig) Enabled() bool { return c.Keys != "" }

// Check says what is wrong with it.
func (c WebhooksConfig) Check() []string {
	var mistakes []string
	if c.Enabled() {
		if _, err := webhook.ParseKeys(c.Keys); err != nil {
			mistakes = append(mistakes, "GPUAAS_WEBHOOK_KEYS is not usable: "+err.Error()+".")
		}
	}
	if _, err := rules.ParseNetworks(c.Networks); err != nil {
		mistakes = append(mistakes, fmt.Sprintf("GPUAAS_WEBHOOK_ALLOWED_NETWORKS: %v.", err))
	}
	return mistakes
}

// open reads the keys, nil where no webhooks are sent, and the guard.
func (c WebhooksConfig) open() (*webhook.Keys, rules.Guard, error) {
	networks, err := rules.ParseNetworks(c.Networks)
	if err != nil || !c.Enabled() {
		return nil, rules.Guard{Allowed: networks}, err
	}
	keys, err := webhook.ParseKeys(c.Keys)
	return keys, rules.Guard{Allowed: networks}, err
}
