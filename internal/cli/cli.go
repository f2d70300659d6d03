// Package cli is the command line `gpuaas`: a file a noun, each command one call of the generated client. Data
// goes to stdout, everything else to stderr; the exit code tells the kind of trouble. It imports client/go, the
// codes of domain/fault, libraries for OAuth 2.0 and YAML, never the platform's own packages: it stays what any other client could be.
// Evidence it verifies offline, with domain/evidence and internal/evidence, which ask nobody.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// Terminal is where a command reads and writes, and the environment it sees.
type Terminal struct {
	In          io.Reader
	Out, Err    io.Writer
	Environment func(string) string
}

// Main runs one command and answers its exit code.
func Main(ctx context.Context, terminal Terminal, arguments []string) int {
	root := newRoot(terminal)
	root.SetArgs(arguments)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	output, _ := root.PersistentFlags().GetString("output") // there is such a flag
	report(terminal.Err, output, err)
	return exitCode(err)
}

// report says what went wrong: a sentence for a person, or what the platform refused as the API sent it where programs read the output.
func report(to io.Writer, output string, err error) {
	var refused *client.Refusal
	if output != "table" && errors.As(err, &refused) {
		if envelope, unwritable := envelopeOf(refused); unwritable == nil && writeAs(to, output, envelope) == nil {
			return
		}
	}
	fmt.Fprintln(to, "gpuaas:", describe(err))
}

// command carries what every command shares: the terminal and the persistent flags.
type command struct {
	Terminal
	output  string
	apiURL  string
	context string
	yes     bool
}

func newRoot(terminal Terminal) *cobra.Command {
	shared := &command{Terminal: terminal}
	root := &cobra.Command{
		Use:           "gpuaas",
		Short:         "Rent whole GPU nodes, and run the platform that rents them out",
		Long:          longHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, // so that a wrong name reaches RunE and is a usage error
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if len(arguments) > 0 {
				return usage("there is no command %q; see gpuaas --help", arguments[0])
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains(outputs, shared.output) {
				return usage("-o takes table, json or yaml, not %q", shared.output)
			}
			return nil
		},
	}
	root.SetIn(terminal.In)
	root.SetOut(terminal.Out)
	root.SetErr(terminal.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVarP(&shared.output, "output", "o", "table", "table, json or yaml")
	flags.StringVar(&shared.apiURL, "api-url", "", "the API's address (else GPUAAS_API_URL, the context, or the development stack's endpoints.json)")
	flags.StringVar(&shared.context, "context", "", "the context to use (else GPUAAS_CONTEXT, or the current one)")
	flags.BoolVarP(&shared.yes, "yes", "y", false, "do not ask before irreversible acts")
	root.AddCommand(
		shared.loginCommand(), shared.logoutCommand(), shared.whoamiCommand(), shared.contextCommand(), shared.statusCommand(),
		shared.skuCommand(), shared.allocCommand(),
		shared.balanceCommand(), shared.ledgerCommand(), shared.walletCommand(), shared.usageCommand(), shared.statementCommand(),
		shared.tenantCommand(), shared.meCommand(), shared.projectCommand(), shared.memberCommand(), shared.invitationCommand(),
		shared.nodeCommand(), shared.policyCommand(), shared.adminCommand(),
		shared.tokenCommand(), shared.serviceAccountCommand(), shared.keyCommand(), shared.auditCommand(), shared.evidenceCommand(), shared.notificationsCommand(), shared.webhookCommand(),
	)
	shared.completeArguments(root)
	return root
}

// outputs are the values of -o.
var outputs = []string{"table", "json", "yaml"}

const longHelp = `Rent whole GPU nodes, and run the platform that rents them out.

Data goes to stdout, everything else to stderr. Exit codes:
  0 done            3 not found       6 not enough funds     9 the platform is not available
  1 other trouble   4 not signed in   7 no capacity
  2 wrong usage     5 conflict        8 timed out
     (4 also: not allowed)`

// Exit codes, by the kind of trouble.
const (
	ExitOK          = 0
	ExitOther       = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitAuth        = 4
	ExitConflict    = 5
	ExitFunds       = 6
	ExitCapacity    = 7
	ExitTimeout     = 8
	ExitUnavailable = 9
)

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func usage(format string, values ...any) error { return usageError{fmt.Errorf(format, values...)} }

// timeoutError says that the command waited as long as it was told to.
type timeoutError struct{ error }

// declinedError says that a person answered no.
type declinedError struct{ error }

// exact and none check the count of arguments and keep a wrong count a usage error.
func exact(n int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, arguments []string) error {
		if len(arguments) != n {
			return usage("%s takes %s", cmd.CommandPath(), names)
		}
		return nil
	}
}

func none(cmd *cobra.Command, arguments []string) error {
	if len(arguments) > 0 {
		return usage("%s takes no arguments, but got %q", cmd.CommandPath(), arguments[0])
	}
	return nil
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	parent := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if len(arguments) > 0 {
				return usage("%s has no command %q; see %s --help", cmd.CommandPath(), arguments[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	parent.AddCommand(children...)
	return parent
}

func exitCode(err error) int {
	var (
		wrongUsage usageError
		timedOut   timeoutError
		refused    *client.Refusal
		transport  transportError
	)
	switch {
	case errors.As(err, &wrongUsage):
		return ExitUsage
	case errors.As(err, &timedOut), errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	case errors.As(err, &refused):
		return exitCodeOf(refused)
	case errors.As(err, &transport):
		return ExitUnavailable
	default:
		return ExitOther
	}
}

func describe(err error) string {
	var refused *client.Refusal
	if errors.As(err, &refused) {
		return sentenceOf(refused)
	}
	return err.Error()
}
