package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

// Transfer is one ledger entry with both of its accounts; AmountMicros is what went from the one to the other.
type Transfer struct {
	ID              int64
	Kind            string
	DebitAccountID  id.Account
	CreditAccountID id.Account
	Currency        string
	AmountMicros    money.Micros
	PeriodStart     *time.Time
	PeriodEnd       *time.Time
	CreatedAt       time.Time
}

// TransfersOfAllocation reads every entry of an allocation of the tenant, in the order of the ledger.
func TransfersOfAllocation(ctx context.Context, db DB, tenant id.Tenant, account id.Account, allocation id.Allocation) ([]Transfer, error) {
	return many[Transfer](ctx, db, "LedgerEvidence", pgx.NamedArgs{"tenant_id": tenant, "account_id": account, "allocation_id": allocation})
}

// PinnedPrice is a price as admission pinned it.
type PinnedPrice struct {
	ID                id.Price
	SKU               id.SKU `db:"sku_id"`
	Currency          string
	RateMicrosPerHour money.Micros
	ValidFrom         time.Time
}

// GetPinnedPrice reads a price of the list or of the tenant's own; pgx.ErrNoRows when there is none.
func GetPinnedPrice(ctx context.Context, db DB, tenant id.Tenant, price id.Price) (PinnedPrice, error) {
	return one[PinnedPrice](ctx, db, "PricePinned", pgx.NamedArgs{"id": price, "tenant_id": tenant})
}

// NodeCertificate is a certificate that a node was given; Serial is lower-case hexadecimal.
type NodeCertificate struct {
	NodeID    id.Node
	Serial    string
	NotBefore time.Time
	NotAfter  time.Time
}

// InsertNodeCertificate keeps what a node was given.
func InsertNodeCertificate(ctx context.Context, db DB, c NodeCertificate) error {
	_, err := execute(ctx, db, "NodeCertificateInsert", pgx.NamedArgs{"node_id": c.NodeID, "serial": c.Serial, "not_before": c.NotBefore, "not_after": c.NotAfter})
	return err
}

// NodeCertificatesWithin reads the certificates that a node held at some instant of a time.
func NodeCertificatesWithin(ctx context.Context, db DB, node id.Node, since, until time.Time) ([]NodeCertificate, error) {
	return many[NodeCertificate](ctx, db, "NodeCertificatesWithin", pgx.NamedArgs{"node_id": node, "since": since, "until": until})
}
