package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
	proven "github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/internal/evidence"
)

func (c *command) evidenceCommand() *cobra.Command {
	return group("evidence", "Prove an allocation, and verify such a proof offline", c.evidenceGet(), c.evidenceKeys(), c.evidenceVerify())
}

func (c *command) evidenceGet() *cobra.Command {
	return &cobra.Command{
		Use: "get ALLOCATION", Short: "Print the signed bundle of an allocation, to be kept in a file", Args: exact(1, "the allocation's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var envelope client.EvidenceEnvelope
			body, err := decode(&envelope)(api.GetAllocationEvidence(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			_, err = c.Out.Write(body) // as it came: every byte of the file counts when it is verified
			return err
		},
	}
}

func (c *command) evidenceKeys() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Print the platform's public keys in PEM form", Args: none,
		Long: "Print the platform's public keys in PEM form, the current one first. Whoever verifies should have got them on another way than the bundle.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var keys client.EvidenceKeyList
			body, err := decode(&keys)(api.ListEvidenceKeys(cmd.Context()))
			if err != nil {
				return err
			}
			if c.structured() {
				return c.show(body, nil)
			}
			for _, key := range keys.Items {
				fmt.Fprintf(c.Err, "%s (current: %v)\n", key.KeyID, key.Current)
				fmt.Fprint(c.Out, key.PublicKey)
			}
			return nil
		},
	}
}

// largestEvidence is how much of a file is read, in bytes.
const largestEvidence = 1 << 30

func (c *command) evidenceVerify() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Verify a bundle offline: its signature, and everything that can be recomputed",
		Long: `Verify a bundle offline: its signature by a public key of yours, and everything that can be recomputed from it: the
transitions, each window at its price, the sum against the charge of the metered time, the custody of the node. It says what
it checked and ends with another exit code than 0 if anything does not hold.`,
		Args: exact(1, "the file of a bundle"),
	}
	cmd.Flags().StringVar(&keyFile, "public-key", "", "file with the platform's public keys in PEM form")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if keyFile == "" {
			return usage("--public-key is needed: a key that came with the bundle proves nothing")
		}
		pem, err := os.ReadFile(keyFile)
		if err != nil {
			return usage("the public key cannot be read: %w", err)
		}
		keys, err := evidence.ParsePublicKeys(pem)
		if err != nil {
			return usage("%s: %w", keyFile, err)
		}
		file, err := readAtMost(arguments[0], largestEvidence)
		if err != nil {
			return usage("the bundle cannot be read: %w", err)
		}
		bundle, keyID, err := evidence.Open(cmd.Context(), file, keys)
		if err != nil {
			fmt.Fprintln(c.Out, "WRONG  the signature")
			return fmt.Errorf("the bundle does not hold: %w", err)
		}
		fmt.Fprintf(c.Out, "holds  the signature by key %s\n", keyID)
		return c.examine(bundle)
	}
	return cmd
}

func readAtMost(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return text, err
}

// examine says what was recomputed, and how the bundle's claims stand.
func (c *command) examine(bundle proven.Bundle) error {
	var wrong []error
	for _, finding := range proven.Examine(bundle) {
		if finding.Err != nil {
			wrong = append(wrong, finding.Err)
			fmt.Fprintln(c.Out, printable(fmt.Sprintf("WRONG  %s: %v", finding.Checked, finding.Err)))
			continue
		}
		fmt.Fprintln(c.Out, "holds  "+finding.Checked)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the bundle does not hold: %w", errors.Join(wrong...))
	}
	a, currency := bundle.Allocation, bundle.Allocation.Currency
	shown := fields("allocation", string(a.ID), "state", string(a.State), "tenant", string(a.TenantID), "user", string(a.UserID), "node", string(a.NodeID),
		"metered", meteredText(a), "usage", amount(int64(bundle.Totals.UsageMicros), currency), "credits", amount(int64(bundle.Totals.UsageCreditMicros), currency),
		"forgiven", amount(int64(bundle.Totals.ForgivenMicros), currency),
		"suspended", amount(int64(bundle.Totals.SuspendedMicros), currency), "charge", amount(int64(bundle.Totals.ChargeMicros), currency), "certificate", statement(bundle))
	if !bundle.Final {
		fmt.Fprintln(c.Err, "This bundle is not final: the allocation was not at its end when it was made.")
	}
	return c.print(shown)
}

func meteredText(a proven.Allocation) string {
	if a.MeteredFrom == nil {
		return "never"
	}
	from, _ := a.MeteredFrom.MarshalJSON()
	if a.MeteredTo == nil {
		return string(from) + " and still running"
	}
	to, _ := a.MeteredTo.MarshalJSON()
	return string(from) + " to " + string(to)
}

func statement(bundle proven.Bundle) string {
	if bundle.Certificate == nil {
		return ""
	}
	return bundle.Certificate.Statement
}
