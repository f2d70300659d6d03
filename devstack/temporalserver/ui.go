package temporalserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

// UI is Temporal's own console, on loopback and for reading alone. It asks nobody who they are: the API does, which serves it to operators below
// temporal.UIPath.
type UI struct {
	server *uiserver.Server
	ended  chan error
	url    string
}

// uiPoll is how often the console is asked whether it answers.
const uiPoll = 100 * time.Millisecond

// StartUI serves the console of the frontend at address on port, for pages of publicURL. The caller has seen that the port is free: the
// console's server ends the process when it is not.
func StartUI(ctx context.Context, address, namespace, publicURL string, port int) (*UI, error) {
	server := uiserver.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: address, Host: "127.0.0.1", Port: port, EnableUI: true, DefaultNamespace: namespace, PublicPath: temporal.UIPath,
		DisableWriteActions: true, DisableNewsFetch: true, HideLogs: true,
		CORS: uiconfig.CORS{CookieInsecure: true, AllowOrigins: []string{publicURL}},
	}))
	u := &UI{server: server, ended: make(chan error, 1), url: "http://127.0.0.1:" + strconv.Itoa(port)}
	go func() { u.ended <- server.Start() }()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := temporal.UntilReady(ctx, uiPoll, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		return nil
	})
	if err != nil {
		u.Stop()
		return nil, fmt.Errorf("the Temporal UI does not come up: %w", err)
	}
	return u, nil
}

// URL where the console listens, without its public path.
func (u *UI) URL() string { return u.url }

// Stop ends the console.
func (u *UI) Stop() {
	u.server.Stop()
	<-u.ended
}
