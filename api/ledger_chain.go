package api

import (
	"context"
	"encoding/hex"
)

type (
	verifyLedgerIn struct {
		FromBlock int64 `query:"from_block" minimum:"1" default:"1"`
		Limit     int64 `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"Blocks at most; each holds up to 10000 entries."`
	}
	ledgerBlockBody struct {
		Number    int64  `json:"number"`
		AfterID   int64  `json:"after_id" doc:"The block holds the entries above this id."`
		UpToID    int64  `json:"up_to_id" doc:"And those at or below this one."`
		Entries   int64  `json:"entries"`
		SHA256    string `json:"sha256" pattern:"^[0-9a-f]{64}$" doc:"The hash that stands."`
		CreatedAt moment `json:"created_at"`
	}
	brokenLedgerBlockBody struct {
		Number int64  `json:"number"`
		Reason string `json:"reason"`
	}
	ledgerVerificationBody struct {
		Blocks           []ledgerBlockBody       `json:"blocks" doc:"The blocks that were recomputed, in their order."`
		Entries          int64                   `json:"entries" doc:"How many entries were hashed."`
		Broken           []brokenLedgerBlockBody `json:"broken" doc:"The blocks that do not hold, and why; empty when all do."`
		NextBlock        int64                   `json:"next_block,omitempty" doc:"Where to go on; absent at the end of the chain."`
		UncoveredEntries int64                   `json:"uncovered_entries" doc:"Entries behind the last block that was looked at."`
		UncoveredUpToID  int64                   `json:"uncovered_up_to_id" doc:"The highest id of them; 0 when there are none."`
	}
	ledgerVerificationOut struct{ Body ledgerVerificationBody }
)

func (s *server) ledgerChainOperations() {
	handle(s, "verifyLedger", s.verifyLedger)
}

// verifyLedger recomputes a stretch of the chain. What is final when a verification begins is covered by it.
func (s *server) verifyLedger(ctx context.Context, in *verifyLedgerIn) (*ledgerVerificationOut, error) {
	if in.FromBlock == 1 {
		if err := s.config.Chain.Cut(ctx); err != nil {
			return nil, err
		}
	}
	found, err := s.config.Chain.Verify(ctx, in.FromBlock, int(in.Limit))
	if err != nil {
		return nil, err
	}
	body := ledgerVerificationBody{
		Blocks: []ledgerBlockBody{}, Broken: []brokenLedgerBlockBody{}, Entries: found.Entries, NextBlock: found.Next,
		UncoveredEntries: found.Uncovered.Entries, UncoveredUpToID: found.Uncovered.UpToID,
	}
	for _, block := range found.Blocks {
		body.Blocks = append(body.Blocks, ledgerBlockBody{
			Number: block.Number, AfterID: block.AfterID, UpToID: block.UpToID, Entries: block.Entries, SHA256: hex.EncodeToString(block.SHA256),
			CreatedAt: moment(block.CreatedAt),
		})
	}
	for _, broken := range found.Broken {
		body.Broken = append(body.Broken, brokenLedgerBlockBody{Number: broken.Number, Reason: broken.Reason})
	}
	return &ledgerVerificationOut{Body: body}, nil
}
