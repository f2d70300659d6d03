package stack

import (
	"strconv"

	"github.com/gpuaas/gpuaas/devstack/stripe"
	provider "github.com/gpuaas/gpuaas/internal/stripe"
)

const (
	stripeKeyPrefix     = "sk_test_"
	stripeWebhookPrefix = "whsec_"
	stripeWebhookPath   = "/api/v1/payments/webhook"
)

// startStripe runs the stand-in. That of an instance sends its webhooks to the instance's API.
func (s *Stack) startStripe() error {
	config := stripe.Config{
		Port: s.Ports.Stripe(), Directory: s.path(stripeName), Faults: s.cfg.StripeFaults, Seed: s.cfg.StripeSeed, Logger: s.cfg.Logger,
	}
	if s.cfg.Product {
		config.Endpoints = []stripe.Endpoint{{
			Key: stripeKeyPrefix + s.memory.StripeKey, Secret: stripeWebhookPrefix + s.memory.StripeWebhook, Events: provider.EventTypes(),
			URL: "http://127.0.0.1:" + strconv.Itoa(s.Ports.API()) + stripeWebhookPath,
		}}
	}
	running, err := stripe.Start(config)
	s.Stripe = running
	return err
}
