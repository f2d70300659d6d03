package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	// policyChannel is where a trigger tells of every value that is set: its key, and its tenant if it holds for one alone.
	policyChannel = "policy_changed"
	// budgetKey is what the trigger on budgets names, topUpKey what those on automatic top-ups and saved cards do.
	budgetKey = "project.budget"
	topUpKey  = "billing.auto_topup"
	// listenAgain is how long to wait before listening anew.
	listenAgain = 5 * time.Second
)

// Watch has every account that something costs looked at when it starts, and whenever policy moves the ladder, until ctx ends. What
// happened while nobody listened is covered by looking at all of them before listening again.
func (f *Funds) Watch(ctx context.Context, log *slog.Logger) error {
	for {
		err := f.listen(ctx, log)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.WarnContext(ctx, "changes of policy are not heard; every account is looked at before they are heard again", "error", err.Error())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(listenAgain):
		}
	}
}

func (f *Funds) listen(ctx context.Context, log *slog.Logger) error {
	connection, err := f.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("a connection to listen on: %w", err)
	}
	// A connection that listens is never given back: somebody else's statement would be told of changes.
	own := connection.Hijack()
	defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	if _, err := own.Exec(ctx, "LISTEN "+policyChannel); err != nil {
		return fmt.Errorf("listen to changes of policy: %w", err)
	}
	if err := f.tellAll(ctx, "", "a worker started"); err != nil {
		return err
	}
	log.DebugContext(ctx, "changes of policy are heard")
	for {
		told, err := own.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen to changes of policy: %w", err)
		}
		key, tenant, _ := strings.Cut(told.Payload, " ")
		if !movesLadder(key) {
			continue
		}
		if err := f.tellAll(ctx, id.Tenant(tenant), "policy changed: "+key); err != nil {
			return err
		}
	}
}

// movesLadder says whether a value of the key decides where the rungs are.
func movesLadder(key string) bool {
	return key == budgetKey || key == topUpKey || key == authored.PaymentsAutoTopupLeadSeconds.Name || key == authored.BillingLowBalanceThresholdMinor.Name || key == authored.BillingAutoReleaseGraceSeconds.Name
}

// tellAll has the accounts of a tenant, or of everybody, looked at.
func (f *Funds) tellAll(ctx context.Context, tenant id.Tenant, because string) error {
	accounts, err := queries.CostingAccounts(ctx, f.Pool, tenant)
	if err != nil {
		return err
	}
	var failed []error
	for _, account := range accounts {
		failed = append(failed, f.tell(ctx, account.TenantID, workflows.TellFundsIn{AccountID: account.AccountID, Because: because}, true))
	}
	return errors.Join(failed...)
}
