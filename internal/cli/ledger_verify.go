package cli

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/hashchain"
	"github.com/gpuaas/gpuaas/internal/evidence"
)

func (c *command) adminLedgerCommand() *cobra.Command {
	return group("ledger", "Verify the hash chain over the ledger", c.ledgerVerifyCommand())
}

// verification is what a run over the whole chain found out.
type verification struct {
	Blocks    int64                      `json:"blocks"`
	Entries   int64                      `json:"entries"`
	Broken    []client.BrokenLedgerBlock `json:"broken"`
	Heads     int                        `json:"heads"`
	Uncovered int64                      `json:"uncovered_entries"`
	UpToID    int64                      `json:"uncovered_up_to_id"`
	hashes    map[int64]string
	// given says that files of heads were named, be there any in them or not.
	given bool
}

func (c *command) ledgerVerifyCommand() *cobra.Command {
	var headFiles []string
	var keyFile string
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute the whole chain, and compare it with signed heads", Args: none,
		Long: `Recompute every block of the hash chain over the ledger and name those that do not hold. With --heads, each head in the files that the
platform keeps outside its database (GPUAAS_LEDGER_HEADS_DIRECTORY) is verified with --public-key and must still be part of the chain:
whoever rewrites entries and blocks together, or cuts the end off, is found by it. It ends with another exit code than 0 if anything does not hold.`,
	}
	cmd.Flags().StringArrayVar(&headFiles, "heads", nil, "file of signed heads; may be given several times")
	cmd.Flags().StringVar(&keyFile, "public-key", "", "file with the platform's public keys in PEM form, for --heads")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		heads, err := readHeads(cmd, headFiles, keyFile)
		if err != nil {
			return err
		}
		found, err := c.verifyChain(cmd)
		if err != nil {
			return err
		}
		found.given = len(headFiles) > 0
		found.compare(heads)
		body, err := json.Marshal(found)
		if err != nil {
			return err
		}
		if err := c.show(body, func() table { return verificationTable(found) }); err != nil {
			return err
		}
		if len(found.Broken) > 0 {
			return fmt.Errorf("the chain does not hold: %d blocks are broken", len(found.Broken))
		}
		return nil
	}
	return cmd
}

func readHeads(cmd *cobra.Command, files []string, keyFile string) ([]hashchain.Head, error) {
	if len(files) == 0 {
		return nil, nil
	}
	if keyFile == "" {
		return nil, usage("--heads needs --public-key: a head that nobody signed proves nothing")
	}
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, usage("the public key cannot be read: %w", err)
	}
	keys, err := evidence.ParsePublicKeys(pem)
	if err != nil {
		return nil, usage("%s: %w", keyFile, err)
	}
	var heads []hashchain.Head
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, usage("the heads cannot be read: %w", err)
		}
		read, err := evidence.ReadHeads(cmd.Context(), file, keys)
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s does not hold: %w", name, err)
		}
		heads = append(heads, read...)
	}
	return heads, nil
}

// verifyChain asks for stretch after stretch until the end.
func (c *command) verifyChain(cmd *cobra.Command) (*verification, error) {
	api, err := c.api()
	if err != nil {
		return nil, err
	}
	found := &verification{Broken: []client.BrokenLedgerBlock{}, hashes: map[int64]string{}}
	for next := int64(1); next > 0; {
		var part client.LedgerVerification
		if _, err := decode(&part)(api.VerifyLedger(cmd.Context(), &client.VerifyLedgerParams{FromBlock: &next})); err != nil {
			return nil, err
		}
		for _, block := range part.Blocks {
			found.hashes[block.Number] = block.Sha256
		}
		found.Blocks, found.Entries = found.Blocks+int64(len(part.Blocks)), found.Entries+part.Entries
		found.Broken = append(found.Broken, part.Broken...)
		found.Uncovered, found.UpToID = part.UncoveredEntries, part.UncoveredUpToID
		if next = 0; part.NextBlock != nil {
			next = *part.NextBlock
			fmt.Fprintf(c.Err, "%d blocks with %d entries so far, %d broken\n", found.Blocks, found.Entries, len(found.Broken))
		}
	}
	return found, nil
}

// compare holds the chain that stands against heads that were signed before.
func (v *verification) compare(heads []hashchain.Head) {
	v.Heads = len(heads)
	for _, head := range heads {
		switch stands, there := v.hashes[head.Number]; {
		case !there:
			v.Broken = append(v.Broken, client.BrokenLedgerBlock{Number: head.Number, Reason: "It was signed and is no longer there."})
		case stands != head.SHA256:
			v.Broken = append(v.Broken, client.BrokenLedgerBlock{Number: head.Number, Reason: "Its hash is not the one that was signed."})
		}
	}
}

func verificationTable(found *verification) table {
	shown := table{header: []string{"BLOCK", "VERDICT"}}
	for _, broken := range found.Broken {
		shown.rows = append(shown.rows, []string{fmt.Sprint(broken.Number), broken.Reason})
	}
	summary := fmt.Sprintf("%d blocks with %d entries hold", found.Blocks, found.Entries)
	if len(found.Broken) > 0 {
		summary = fmt.Sprintf("%d of %d blocks with %d entries do not hold", len(found.Broken), found.Blocks, found.Entries)
	}
	compared := fmt.Sprintf("%d signed heads compared", found.Heads)
	if !found.given {
		compared = "no signed heads were given, so it is not known whether blocks were rewritten together with their entries: --heads FILE --public-key FILE"
	}
	shown.rows = append(shown.rows, []string{"", summary}, []string{"", compared})
	if found.Uncovered > 0 {
		shown.rows = append(shown.rows, []string{"", fmt.Sprintf("%d entries up to id %d are not covered yet", found.Uncovered, found.UpToID)})
	}
	return shown
}
