package queries

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
)

// EnrolWithToken uses a token up for one key, named by the SHA-256 of its public half; the same key may repeat it
// until the token expires. pgx.ErrNoRows when the token is unknown, expired or was used by another key.
func EnrolWithToken(ctx context.Context, db DB, tokenSHA256, keySHA256 [32]byte) (EnrolToken, error) {
	return one[EnrolToken](ctx, db, "GatewayEnrolTokenUse", pgx.NamedArgs{"token_sha256": tokenSHA256[:], "key_sha256": keySHA256[:]})
}

// Standing is what the node gateway asks about a node on every request.
type Standing struct {
	ID           id.Node
	SKU          id.SKU `db:"sku_id"`
	Reachability node.Reachability
	Scheduling   node.Scheduling
	// Generation is the newest claim's: the floor of the node's fence.
	Generation int64
}

// GetStanding reads it by primary key; pgx.ErrNoRows when there is no such node.
func GetStanding(ctx context.Context, db DB, nodeID id.Node) (Standing, error) {
	return one[Standing](ctx, db, "GatewayStanding", pgx.NamedArgs{"id": nodeID})
}

// ListDenied lists every denied node.
func ListDenied(ctx context.Context, db DB) ([]id.Node, error) {
	rows, err := many[struct{ ID id.Node }](ctx, db, "GatewayDenied")
	if err != nil {
		return nil, err
	}
	denied := make([]id.Node, 0, len(rows))
	for _, row := range rows {
		denied = append(denied, row.ID)
	}
	return denied, nil
}
