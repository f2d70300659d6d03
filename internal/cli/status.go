package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) statusCommand() *cobra.Command {
	var live bool
	ready := asking(c, "status", "Show whether the platform can serve, and what it stands on", none,
		func(r client.Readiness) table {
			shown := table{header: []string{"DEPENDENCY", "READY", "MESSAGE"}}
			for _, dependency := range r.Dependencies {
				shown.rows = append(shown.rows, []string{dependency.Name, fmt.Sprint(dependency.Ready), text(dependency.Message)})
			}
			return shown
		},
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			return api.GetReadiness(ctx)
		})
	alive := asking(c, "", "", none, func(h client.Health) table { return fields("status", string(h.Status), "version", h.Version) },
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			return api.GetHealth(ctx)
		})
	ready.Flags().BoolVar(&live, "live", false, "only whether it runs, and which version")
	ask := ready.RunE
	ready.RunE = func(cmd *cobra.Command, arguments []string) error {
		if live {
			return alive.RunE(cmd, arguments)
		}
		return ask(cmd, arguments)
	}
	return ready
}
