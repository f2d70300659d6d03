package stripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Faults is the trouble that an account asks for. Probabilities lie between 0 and 1.
type Faults struct {
	// Duplicate sends a webhook twice, Lose never, Reorder after up to DelayMS milliseconds.
	Duplicate float64 `json:"duplicate,omitempty"`
	Lose      float64 `json:"lose,omitempty"`
	Reorder   float64 `json:"reorder,omitempty"`
	DelayMS   int64   `json:"delay_ms,omitempty"`
	// Fail answers a request with 500 and does nothing, Cut does the work and breaks the connection.
	Fail   float64 `json:"fail,omitempty"`
	Cut    float64 `json:"cut,omitempty"`
	SlowMS int64   `json:"slow_ms,omitempty"`
	// Refunds is what becomes of the refunds to come: succeed, pending, refuse.
	Refunds string `json:"refunds,omitempty"`
}

// happened makes an event of a change, and what it is delivered to. The object is as it is at this moment.
func (c *change) happened(kind string, o object) error {
	snapshot, err := asJSON(o)
	if err != nil {
		return err
	}
	event, err := c.fresh("event", "evt", object{
		"type": kind, "api_version": c.server.description.Version(), "data": object{"object": snapshot}, "pending_webhooks": 0,
		"request": object{"id": nil, "idempotency_key": nil},
	})
	if err != nil {
		return err
	}
	if err := c.server.description.Object(event); err != nil {
		c.server.counts.invalidBodies.Add(1)
		c.server.log.Error("an event is not as Stripe describes it", "type", kind, "error", err)
	}
	for _, id := range c.order {
		if endpoint := c.objects[id]; text(endpoint, "object") == "webhook_endpoint" && listens(endpoint, kind) {
			c.record.Deliver = append(c.record.Deliver, text(event, "id")+" "+id)
			event["pending_webhooks"] = whole(event, "pending_webhooks") + 1
		}
	}
	c.put(event)
	return nil
}

func listens(endpoint object, kind string) bool {
	for _, enabled := range list(endpoint, "enabled_events") {
		if enabled == "*" || enabled == kind {
			return true
		}
	}
	return false
}

// commit makes a change true and sends its webhooks on their way. The caller holds the mutex.
func (s *Server) commit(c *change) error {
	if err := s.state.commit(c.record); err != nil {
		return err
	}
	for _, delivery := range c.record.Deliver {
		s.schedule(c.account, delivery)
	}
	return nil
}

const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// deliveryTimeout is how long an endpoint may take.
	deliveryTimeout = 10 * time.Second
)

// schedule delivers one event to one endpoint, as often and as late as the account's faults say. The caller holds the mutex.
func (s *Server) schedule(a *account, delivery string) {
	faults := a.faults
	if s.happens(faults.Lose) {
		s.counts.lost.Add(1)
		s.sending.Go(func() { s.taken(a, delivery) })
		return
	}
	copies := 1
	if s.happens(faults.Duplicate) {
		copies = 2
	}
	for range copies {
		var delay time.Duration
		if s.happens(faults.Reorder) {
			delay = time.Duration(s.draw(faults.DelayMS)) * time.Millisecond
		}
		s.sending.Go(func() { s.deliver(a, delivery, delay) })
	}
}

// deliver sends until the endpoint takes the event or the stand-in stops; a stop leaves the rest for the next start.
func (s *Server) deliver(a *account, delivery string, delay time.Duration) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		select {
		case <-s.stopping.Done():
			return
		case <-time.After(delay):
		}
		if s.send(a, delivery) {
			s.taken(a, delivery)
			return
		}
		delay = pause
	}
}

// taken notes that a delivery is over.
func (s *Server) taken(a *account, delivery string) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	if !a.pending[delivery] || s.stopping.Err() != nil {
		return
	}
	if err := s.state.commit(record{Account: a.key, Delivered: []string{delivery}}); err != nil {
		s.log.Error("the stand-in's journal cannot be written", "error", err)
	}
}

// send makes one attempt and says whether the endpoint answered with success.
func (s *Server) send(a *account, delivery string) bool {
	eventID, endpointID, _ := strings.Cut(delivery, " ")
	s.state.mutex.Lock()
	body, err := json.MarshalIndent(a.objects[eventID], "", "  ")
	address, secret := text(a.objects[endpointID], "url"), a.secrets[endpointID]
	s.state.mutex.Unlock()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(s.stopping, deliveryTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	request.Header.Set("Stripe-Signature", Sign(body, secret, s.now()))
	s.counts.deliveries.Add(1)
	response, err := s.client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	return response.StatusCode < http.StatusMultipleChoices
}

// Sign is the value of the header Stripe-Signature for a body.
func Sign(body []byte, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
