package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

const (
	socketPath     = "/ws/notifications"
	socketProtocol = "gpuaas.notifications.v1"
	// The platform ends a connection for good with these codes: the credential is no longer good, or its holder may no longer.
	socketUnauthorised websocket.StatusCode = 4401
	socketForbidden    websocket.StatusCode = 4403
	mostMessage                             = 1 << 20
)

// notificationsWatch shows notifications as they happen, over any interruption, until it is interrupted itself.
func (c *command) notificationsWatch() *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use: "watch", Short: "Show what happens as it happens, until interrupted", Args: none,
		Long: "Show what happens as it happens, until interrupted. A connection that is lost is made again and goes on behind the last notification that was shown.",
	}
	cmd.Flags().StringVar(&after, "after", "", "go on behind this event")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.follow(cmd.Context(), after); cmd.Context().Err() == nil {
			return err
		}
		return nil // an interrupt is how a watch ends
	}
	return cmd
}

func (c *command) follow(ctx context.Context, after string) error {
	tokens, err := c.tokens()
	if err != nil {
		return err
	}
	_, used, err := c.inForce()
	if err != nil {
		return err
	}
	shown := watch{command: c}
	wait, away := watchFastest, false
	for {
		heard, err := c.followOnce(ctx, c.resolveAPIURL(used), tokens, &after, &shown)
		if heard {
			wait, away = watchFastest, false
		}
		_, passes := passing(err)
		if err != nil && (ctx.Err() != nil || !passes) {
			return err
		}
		if err != nil && !away {
			fmt.Fprintf(c.Err, "%s; still watching\n", describe(err))
			away = true
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, watchLongest)
	}
}

// followOnce shows what one connection brings, and moves after along. It says whether it brought anything.
func (c *command) followOnce(ctx context.Context, apiURL string, tokens client.TokenSource, after *string, shown *watch) (heard bool, err error) {
	token, err := tokens(ctx)
	if err != nil {
		return false, err
	}
	query := ""
	if *after != "" {
		query = "?" + url.Values{"after": {*after}}.Encode()
	}
	socket, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(apiURL, "http")+socketPath+query, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{socketProtocol},
	})
	if err != nil {
		return false, refusedHandshake(response, err)
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(mostMessage)
	for {
		_, body, err := socket.Read(ctx)
		if err != nil {
			return heard, ended(err)
		}
		var told client.Notification
		if err := json.Unmarshal(body, &told); err != nil {
			return heard, transportError{fmt.Errorf("the platform's message is not what its contract says: %w", err)}
		}
		row := []string{told.EventID.String(), instant(told.CreatedAt), told.EventType, concerned(told)}
		if err := shown.change(view{body: body, render: func() table {
			return table{header: []string{"EVENT", "WHEN", "WHAT", "TENANT"}, rows: [][]string{row}}
		}}); err != nil {
			return heard, err
		}
		*after, heard = told.EventID.String(), true
	}
}

// refusedHandshake is the envelope of a handshake that was refused, or what kept it from being answered.
func refusedHandshake(response *http.Response, err error) error {
	if response == nil {
		return transportError{fmt.Errorf("the platform cannot be reached: %w", err)}
	}
	body, readErr := io.ReadAll(io.LimitReader(response.Body, mostMessage))
	if readErr != nil || !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return transportError{fmt.Errorf("the connection was refused: %w", err)}
	}
	return client.Check(response, body)
}

// ended tells a connection that was lost, which is made again, from one that the platform ended for good.
func ended(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) && (closed.Code == socketUnauthorised || closed.Code == socketForbidden) {
		return fmt.Errorf("the platform ends the connection: %s", closed.Reason)
	}
	return transportError{fmt.Errorf("the connection was lost: %w", err)}
}
