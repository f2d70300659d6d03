package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

const eventForm = "0c8a6c1e-5a0f-8f3b-9a51-00000000000%d"

// The platform loses the connection after two messages and ends the next one for good after a third.
func TestAWatchGoesOnBehindTheLastItShowed(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+"?"+r.URL.RawQuery+" "+r.Header.Get("Authorization"))
		socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{socketProtocol}})
		if err != nil {
			return
		}
		defer func() { _ = socket.CloseNow() }()
		send := func(number int) {
			_ = socket.Write(r.Context(), websocket.MessageText, fmt.Appendf(nil, `{"event_id":"`+eventForm+`","event_type":"provisioning.active",
				"tenant_id":"tenant_mfrggzdfmztwq2lknnwg23tpoa","created_at":"2026-01-05T09:30:00.000Z","event":{}}`, number))
		}
		if len(asked) == 1 {
			send(1)
			send(2)
			_ = socket.Close(websocket.StatusGoingAway, "restart")
			return
		}
		send(3)
		_ = socket.Close(socketForbidden, "user_suspended")
	}))
	defer server.Close()
	var out, complaints bytes.Buffer
	code := Main(t.Context(), Terminal{Out: &out, Err: &complaints, In: strings.NewReader(""), Environment: func(name string) string {
		return map[string]string{"GPUAAS_TOKEN": "secret", "GPUAAS_API_URL": server.URL}[name]
	}}, []string{"notifications", "watch", "-o", "json"})
	if code == ExitOK || !strings.Contains(complaints.String(), "user_suspended") || !strings.Contains(complaints.String(), "still watching") {
		t.Errorf("it ends with %d: %s", code, complaints.String())
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[2], fmt.Sprintf(eventForm, 3)) {
		t.Errorf("it shows %q", lines)
	}
	want := []string{"/ws/notifications? Bearer secret", "/ws/notifications?after=" + fmt.Sprintf(eventForm, 2) + " Bearer secret"}
	if len(asked) != 2 || asked[0] != want[0] || asked[1] != want[1] {
		t.Errorf("it asks %q, not %q", asked, want)
	}
}

func TestARefusedWatchSaysWhy(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"code":"notification_not_found","message":"It is older than what is kept.","correlation_id":"c","details":{}}`)
	}))
	defer server.Close()
	var complaints bytes.Buffer
	code := Main(t.Context(), Terminal{Out: &bytes.Buffer{}, Err: &complaints, In: strings.NewReader(""), Environment: func(name string) string {
		return map[string]string{"GPUAAS_TOKEN": "secret", "GPUAAS_API_URL": server.URL}[name]
	}}, []string{"notifications", "watch", "--after", fmt.Sprintf(eventForm, 1)})
	if code == ExitOK || !strings.Contains(complaints.String(), "older than what is kept") {
		t.Errorf("it ends with %d: %s", code, complaints.String())
	}
}
