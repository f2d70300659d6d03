package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type createEnrolTokenIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	Body           struct {
		SKU      id.SKU `json:"sku" pattern:"^[a-z0-9][a-z0-9-]{0,62}$"`
		Hostname string `json:"hostname" minLength:"1" maxLength:"253"`
	}
}

type enrolTokenBody struct {
	Token     string  `json:"token" doc:"Shown once."`
	NodeID    id.Node `json:"node_id" pattern:"^node_[a-z2-7]{26}$"`
	SKU       id.SKU  `json:"sku"`
	Hostname  string  `json:"hostname"`
	ExpiresAt moment  `json:"expires_at"`
}

type enrolTokenOut struct{ Body enrolTokenBody }

var saneHostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// createNodeEnrolToken mints a token. Only its hash is stored, and its answer is never kept for replay: with an
// idempotency key, token and node id derive from the key, so a repeat mints the same token again and finds its row.
func (s *server) createNodeEnrolToken(ctx context.Context, in *createEnrolTokenIn) (*enrolTokenOut, error) {
	if !saneHostname.MatchString(in.Body.Hostname) {
		return nil, invalid("body.hostname", "this is no host name")
	}
	who := middleware.Principal(ctx)
	entropy, nodeID := random32(), id.New[id.Node](random16())
	if in.IdempotencyKey != "" {
		entropy = s.derive("enrol-token", string(who.TenantID), string(who.UserID), in.IdempotencyKey)
		nodeID = deriveID[id.Node](s, "enrol-node", string(who.TenantID), string(who.UserID), in.IdempotencyKey)
	}
	token := secret.EnrolTokenPrefix + base64.RawURLEncoding.EncodeToString(entropy[:])
	hash := sha256.Sum256([]byte(token))
	if in.IdempotencyKey != "" {
		minted, err := queries.GetEnrolToken(ctx, s.config.Pool, hash)
		switch {
		case err == nil && (minted.SKU != in.Body.SKU || minted.Hostname != in.Body.Hostname):
			return nil, fault.New(fault.IdempotencyConflict, "")
		case err == nil:
			middleware.MarkReplayed(ctx)
			return renderEnrolToken(token, minted), nil
		case !errors.Is(err, pgx.ErrNoRows):
			return nil, err
		}
	}
	if _, err := s.sku(ctx, in.Body.SKU); err != nil {
		return nil, err
	}
	if enrolled, err := queries.NodeByHostname(ctx, s.config.Pool, in.Body.Hostname); err == nil {
		return nil, fault.New(fault.NodeAlreadyExists, "").With(map[string]any{"node_id": enrolled.ID})
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return nil, err
	}
	minted := queries.EnrolToken{
		NodeID: nodeID, SKU: in.Body.SKU, Hostname: in.Body.Hostname, CreatedBy: string(who.UserID),
		ExpiresAt: s.config.Now().UTC().Truncate(time.Millisecond).Add(values.Seconds(authored.NodeEnrolTokenTTLSeconds)),
	}
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if err := queries.InsertEnrolToken(ctx, tx, hash, minted); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: who.Actor(), Action: "node.mint_enrol_token", TargetType: "node", TargetID: string(nodeID), CorrelationID: telemetry.Correlation(ctx),
			Details: map[string]any{"sku": minted.SKU, "hostname": minted.Hostname},
		})
	})
	if err != nil {
		return nil, err
	}
	return renderEnrolToken(token, minted), nil
}

func renderEnrolToken(token string, minted queries.EnrolToken) *enrolTokenOut {
	return &enrolTokenOut{Body: enrolTokenBody{Token: token, NodeID: minted.NodeID, SKU: minted.SKU, Hostname: minted.Hostname, ExpiresAt: moment(minted.ExpiresAt)}}
}

func random16() (entropy [16]byte) {
	_, _ = rand.Read(entropy[:]) // never fails since Go 1.24
	return entropy
}

func random32() (entropy [32]byte) {
	_, _ = rand.Read(entropy[:])
	return entropy
}
