package api

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"time"

	"github.com/coder/websocket"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	// SocketPath is where notifications arrive as they happen.
	SocketPath = "/ws/notifications"
	// SocketProtocol is the subprotocol that is selected where it is offered.
	SocketProtocol = "gpuaas.notifications.v1"

	// SlowReader is what is logged of somebody who did not take a message in time.
	SlowReader = "a reader of notifications was too slow and lost the connection"

	// socketCheck is how soon a revoked credential, a browser that signed out or a suspended person ends the connection.
	socketCheck = 2 * time.Second
	// socketLook is how often notifications are looked for although nobody rang.
	socketLook = 5 * time.Second
	// socketWrite is how long a reader may take for one message. Whoever is slower loses the connection, and asks for what was missed.
	socketWrite = 10 * time.Second
	socketPing  = 30 * time.Second
	socketBatch = 100

	// Close codes of our own (RFC 6455 §7.4.2): the credential is no longer good, and its holder may no longer.
	socketUnauthorised websocket.StatusCode = 4401
	socketForbidden    websocket.StatusCode = 4403
)

// uuidForm is an event's id.
var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// socketRoute is the rule of the socket; like the sign-in it is no operation of the contract, which knows no WebSockets.
var socketRoute = route{operation: "notificationsSocket", method: http.MethodGet, path: SocketPath, rule: person(identity.ProfileRead), class: general}

func (s *server) notificationsSocket() {
	s.mux.HandleFunc("GET "+SocketPath, func(w http.ResponseWriter, r *http.Request) {
		opened, err := s.openSocket(w, r)
		if err != nil {
			middleware.WriteFault(w, r, s.config.Log, classify(err))
			return
		}
		socket, err := websocket.Accept(w, opened.request, &websocket.AcceptOptions{
			Subprotocols: []string{SocketProtocol},
			// The origin was checked, where a cookie stands for the caller.
			InsecureSkipVerify: true,
		})
		if err != nil {
			return // answered by the library
		}
		defer func() { _ = socket.CloseNow() }()
		s.sockets.Move(r.Context(), 1)
		defer s.sockets.Move(r.Context(), -1)
		s.tell(opened, socket)
	})
}

// opened is a handshake that was admitted.
type opened struct {
	request *http.Request
	// session is the secret of the browser's session that stands for the caller; empty where a token does.
	session string
	// last is the notification behind which the connection goes on.
	last int64
}

// openSocket admits a handshake, which goes on behind the notification of ?after=, or else behind the newest there is.
func (s *server) openSocket(w http.ResponseWriter, r *http.Request) (o opened, err error) {
	if r, err = middleware.SocketHandshake(r); err != nil {
		return o, err
	}
	if r.Header.Get("Authorization") == "" {
		o.session = s.browser.Secret(r)
	}
	if err = s.browser.OwnOrigin(r); err == nil {
		r, err = s.signIn(w, r, socketRoute)
	}
	if err == nil {
		r, err = s.authorise(r, socketRoute)
	}
	if err != nil {
		return o, err
	}
	o.request = r
	sight := sightOf(middleware.Principal(r.Context()))
	if after := r.URL.Query().Get("after"); after != "" {
		if !uuidForm.MatchString(after) {
			return o, invalid("query.after", "this is no event's id")
		}
		o.last, err = queries.NotificationOfEvent(r.Context(), s.config.Pool, sight, after)
		return o, orMissing(err, fault.NotificationNotFound)
	}
	o.last, err = queries.NewestNotification(r.Context(), s.config.Pool, sight)
	return o, err
}

// tell sends what happens until the reader goes, is too slow, or may no longer. Every message is read from the database, in the order of
// its notifications: the bell says only when.
func (s *server) tell(o opened, socket *websocket.Conn) {
	ctx, cancel := context.WithCancel(socket.CloseRead(o.request.Context()))
	defer cancel()
	waiting := s.bell.Wait()
	defer waiting.Close()
	go keepAlive(ctx, socket, cancel)
	check := time.NewTicker(socketCheck)
	defer check.Stop()
	for looked := (time.Time{}); ; {
		admitted, err := s.auth.Admit(o.request, middleware.SignedIn)
		if err == nil && o.session != "" {
			o.session, err = s.browser.Follow(ctx, o.session)
		}
		if err != nil {
			closeRefused(socket, err)
			return
		}
		sight := sightOf(middleware.Principal(admitted.Context()))
		waiting.For(sight.Tenants, sight.Operator)
		if time.Since(looked) >= socketLook {
			if o.last, err = s.tellBehind(ctx, socket, sight, o.last); err != nil {
				return
			}
			looked = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.ending:
			_ = socket.Close(websocket.StatusGoingAway, "The platform restarts; connect again.")
			return
		case <-waiting.Rung:
			looked = time.Time{}
		case <-check.C:
		}
	}
}

// tellBehind sends everything behind a notification. A database that is away is asked again later; an error ends the connection.
func (s *server) tellBehind(ctx context.Context, socket *websocket.Conn, sight queries.Sight, last int64) (int64, error) {
	for {
		rows, err := queries.NotificationsAfter(ctx, s.config.Pool, sight, last, false, socketBatch)
		if err != nil {
			if ctx.Err() == nil {
				s.config.Log.WarnContext(ctx, "notifications could not be read and will be looked for again", "error", err.Error())
			}
			return last, ctx.Err()
		}
		for _, row := range rows {
			body, err := json.Marshal(renderNotification(row))
			if err != nil {
				return last, err
			}
			writing, stop := context.WithTimeout(ctx, socketWrite)
			err = socket.Write(writing, websocket.MessageText, body)
			slow := writing.Err() != nil && ctx.Err() == nil
			stop()
			if slow {
				s.slowReaders.Add(ctx, 1)
				s.config.Log.InfoContext(ctx, SlowReader, "behind_notification", last)
			}
			if err != nil {
				return last, err
			}
			last = row.ID
		}
		if len(rows) < socketBatch {
			return last, nil
		}
	}
}

// keepAlive notices a peer that has gone without a word.
func keepAlive(ctx context.Context, socket *websocket.Conn, gone context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(socketPing):
		}
		asking, stop := context.WithTimeout(ctx, socketWrite)
		err := socket.Ping(asking)
		stop()
		if err != nil {
			gone()
			return
		}
	}
}

// closeRefused ends a connection whose holder may no longer, and says why by the code of the refusal.
func closeRefused(socket *websocket.Conn, err error) {
	found := fault.From(err)
	code := socketForbidden
	switch {
	case found.Code.HTTPStatus() == http.StatusUnauthorized:
		code = socketUnauthorised
	case found.Code.HTTPStatus() >= http.StatusInternalServerError:
		code = websocket.StatusTryAgainLater
	}
	_ = socket.Close(code, string(found.Code))
}
