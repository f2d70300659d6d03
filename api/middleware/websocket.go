package middleware

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	headerSocketProtocol = "Sec-WebSocket-Protocol"
	// socketBearer begins the offered subprotocol in which a browser carries its token: a page cannot set any other header, and in the
	// address it would be logged. It is never selected.
	socketBearer = "gpuaas.bearer."
)

// SocketHandshake checks that a request opens a WebSocket and answers it with the token that it carries, if any, in its place. Faults:
// InvalidRequest.
func SocketHandshake(r *http.Request) (*http.Request, error) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-WebSocket-Version") != "13" || err != nil || len(key) != 16 {
		return r, fault.New(fault.InvalidRequest, "This address speaks WebSocket (RFC 6455) and nothing else.")
	}
	var token string
	var offered []string
	for _, line := range r.Header.Values(headerSocketProtocol) {
		for _, protocol := range strings.Split(line, ",") {
			protocol = strings.TrimSpace(protocol)
			if carried, is := strings.CutPrefix(protocol, socketBearer); is {
				token = carried
				continue
			}
			offered = append(offered, protocol)
		}
	}
	if token == "" {
		return r, nil
	}
	r = r.Clone(r.Context())
	r.Header.Set(headerSocketProtocol, strings.Join(offered, ", "))
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", bearerPrefix+token)
	}
	return r, nil
}

// OwnOrigin refuses a WebSocket that another site opened with our cookie: browsers send it along from every site. A request with a token of
// its own proves itself. Faults: CsrfTokenInvalid.
func (b *Browser) OwnOrigin(r *http.Request) error {
	if r.Header.Get("Authorization") != "" || b.Secret(r) == "" {
		return nil
	}
	asked := r.Clone(r.Context())
	asked.Method = http.MethodPost // the standard library lets every GET pass
	if err := b.origins.Check(asked); err != nil {
		return fault.Wrap(err, fault.CsrfTokenInvalid, "Another site cannot open this connection.")
	}
	return nil
}
