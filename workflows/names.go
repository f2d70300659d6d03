// Package workflows says what happens: a file a noun, deterministic, each opening with its input, id,
// states, signals, updates and steps, then run as prose. It imports domain and the Temporal SDK and
// nothing else, so that a history can be replayed anywhere.
package workflows

import (
	"go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Namespace is where every workflow lives.
const Namespace = "gpuaas"

// Task queues, by who polls them.
const (
	// AllocationsQueue runs Allocation, Funds, Adjustment, Suspension, TenantClosure, Reconciliation and Correction and the steps
	// that touch Postgres: billing-worker.
	AllocationsQueue = "allocations"
	// ProvisioningQueue runs Node, the login probe and, in noop mode, the node tasks: provisioning-worker.
	ProvisioningQueue = "provisioning"
	// PaymentsQueue runs Payment, Refund, Dispute, Card and StripeSweep with their steps, and what Reconciliation asks Stripe: webhook-worker.
	PaymentsQueue = "payments"
	// WebhooksQueue runs WebhookEvent and its steps: webhook-worker.
	WebhooksQueue = "webhooks"
	// DeliveriesQueue runs WebhookDelivery and EmailDelivery with their steps, which speak to addresses that customers chose:
	// notification-relay, which holds no secret of the platform's money or nodes.
	DeliveriesQueue = "deliveries"
)

// NodeQueue is the activity queue that only the agent of this node polls, through the node gateway.
func NodeQueue(node id.Node) string { return "node-" + string(node) }

// Runtime modes, pinned by Admit.
const (
	RuntimeAgent = "agent"
	RuntimeNoop  = "noop"
)

// Search attributes, all Keyword, upserted on transitions only.
var (
	AttributeState   = temporal.NewSearchAttributeKeyKeyword("GpuaasState")
	AttributeAccount = temporal.NewSearchAttributeKeyKeyword("GpuaasAccount")
	AttributeNode    = temporal.NewSearchAttributeKeyKeyword("GpuaasNode")
	AttributeSKU     = temporal.NewSearchAttributeKeyKeyword("GpuaasSku")
)

// SearchAttributes lists the attributes a namespace must know before the first workflow starts.
func SearchAttributes() []string {
	return []string{AttributeState.GetName(), AttributeAccount.GetName(), AttributeNode.GetName(), AttributeSKU.GetName()}
}
