// Package stripe is a stateful stand-in for Stripe: it speaks the wire of the operations that the platform uses, shows a page on which
// to "pay", and sends signed webhooks, with duplicates, reordering, delay, loss and failures on demand. Each secret key is an account of
// its own. Every request is held against the OpenAPI description that Stripe publishes, and so is every webhook. What was acknowledged is on
// the disk, so that a kill loses nothing. It imports stripe-mock for the description and nothing of the platform.
package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a stand-in.
type Config struct {
	// Port of 127.0.0.1; 0 takes any.
	Port int
	// Directory holds the journal and the plain log.
	Directory string
	// Endpoints are webhook endpoints that exist from the beginning.
	Endpoints []Endpoint
	// Faults are those of an account that asked for none; Seed makes them the same again.
	Faults Faults
	Seed   uint64
	Logger *slog.Logger
}

// Endpoint is a webhook endpoint of the account of a secret key, which is sent events of these types.
type Endpoint struct {
	Key, URL, Secret string
	Events           []string
}

// Server is a running stand-in.
type Server struct {
	description *Description
	state       *state
	operations  []operation
	log         *slog.Logger
	client      *http.Client
	listener    net.Listener
	server      *http.Server
	now         func() time.Time
	counts      counts
	stopping    context.Context
	stop        context.CancelFunc
	sending     sync.WaitGroup
	chance      *rand.Rand
	chanceMutex sync.Mutex
}

// counts is what happened since the start.
type counts struct {
	requests, invalidRequests, invalidBodies, deliveries, lost atomic.Int64
}

// Start serves until Stop. What an earlier run had not delivered is delivered.
func Start(config Config) (*Server, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	description, err := LoadDescription()
	if err != nil {
		return nil, err
	}
	s := &Server{
		description: description, operations: operations(), log: config.Logger, client: &http.Client{}, now: time.Now,
		chance: rand.New(rand.NewPCG(config.Seed, config.Seed)), //nolint:gosec // trouble on demand, which a seed makes the same again
	}
	if s.state, err = openState(config.Directory, config.Faults); err != nil {
		return nil, fmt.Errorf("the state of the Stripe stand-in: %w", err)
	}
	s.listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Port)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the Stripe stand-in cannot listen: %w", err), s.state.close())
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	if err := s.begin(config.Endpoints); err != nil {
		s.stop()
		return nil, errors.Join(err, s.listener.Close(), s.state.close())
	}
	s.server = &http.Server{Handler: s.routes(), ReadHeaderTimeout: deliveryTimeout, ErrorLog: slog.NewLogLogger(config.Logger.Handler(), slog.LevelWarn)}
	s.sending.Go(s.expireLate)
	s.sending.Go(func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the Stripe stand-in ended", "error", err)
		}
	})
	return s, nil
}

// begin makes the endpoints of the configuration and goes on with deliveries.
func (s *Server) begin(endpoints []Endpoint) error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	for _, wanted := range endpoints {
		a := s.state.account(wanted.Key)
		c := &change{account: a, server: s, now: s.now().Unix(), record: record{Account: wanted.Key}, made: map[string]object{}}
		id := "we_1configured"
		made, err := c.fresh("webhook_endpoint", "we", object{"id": id, "url": wanted.URL, "enabled_events": wanted.Events})
		if err != nil {
			return err
		}
		if known := a.objects[id]; known != nil && text(known, "url") == wanted.URL && a.secrets[id] == wanted.Secret {
			continue
		}
		c.put(made)
		c.record.Secrets = map[string]string{id: wanted.Secret}
		if err := s.state.commit(c.record); err != nil {
			return err
		}
	}
	for _, a := range s.state.accounts {
		for delivery := range a.pending {
			s.sending.Go(func() { s.deliver(a, delivery, 0) })
		}
	}
	return nil
}

// expiryTick is how late a page may be closed after its time.
const expiryTick = time.Second

// expireLate closes the pages that nobody paid on in time, until the stand-in stops.
func (s *Server) expireLate() {
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	for {
		select {
		case <-s.stopping.Done():
			return
		case <-tick.C:
		}
		for key, session := range s.late() {
			if _, err := s.change(key, func(c *change) (object, error) {
				found, err := c.find("checkout.session", session)
				if err != nil || text(found, "status") != "open" {
					return nil, err
				}
				return c.expire(found)
			}); err != nil {
				s.log.Error("a page could not be closed", "error", err)
			}
		}
	}
}

// late is one page of each account that is past its time.
func (s *Server) late() map[string]string {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	found, now := map[string]string{}, s.now().Unix()
	for key, a := range s.state.accounts {
		for id, o := range a.objects {
			if text(o, "object") == "checkout.session" && text(o, "status") == "open" && whole(o, "expires_at") <= now {
				found[key] = id
			}
		}
	}
	return found
}

// URL is where it is served.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Stop ends it; deliveries in hand are made again at the next start.
func (s *Server) Stop() error {
	s.stop()
	err := s.server.Close()
	s.sending.Wait()
	return errors.Join(err, s.state.close())
}

func (s *Server) happens(probability float64) bool {
	if probability <= 0 {
		return false
	}
	s.chanceMutex.Lock()
	defer s.chanceMutex.Unlock()
	return s.chance.Float64() < probability
}

// draw is a number from 0 to most.
func (s *Server) draw(most int64) int64 {
	if most <= 0 {
		return 0
	}
	s.chanceMutex.Lock()
	defer s.chanceMutex.Unlock()
	return s.chance.Int64N(most + 1)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/", s.serveAPI)
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /pay/{session}", s.page)
	mux.HandleFunc("POST /pay/{session}", s.attended)
	mux.HandleFunc("POST /control/{what}", s.control)
	mux.HandleFunc("GET /control/counts", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(render(object{"requests": s.counts.requests.Load(), "invalid_requests": s.counts.invalidRequests.Load(),
			"invalid_bodies": s.counts.invalidBodies.Load(), "deliveries": s.counts.deliveries.Load(), "lost": s.counts.lost.Load()}))
	})
	return mux
}

// Orders of the control endpoint, POST /control/<order> with the account's key as on the API and a JSON body.
type order struct {
	Faults        *Faults `json:"faults"`
	Session       string  `json:"session"`
	PaymentIntent string  `json:"payment_intent"`
	Refund        string  `json:"refund"`
	Dispute       string  `json:"dispute"`
	Event         string  `json:"event"`
	Outcome       string  `json:"outcome"`
	Reason        string  `json:"reason"`
	Amount        int64   `json:"amount"`
	Currency      string  `json:"currency"`
}

// control carries out an order: faults, pay, settle, refund, dispute, close_dispute or deliver.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	key, known := secretKey(r)
	var asked order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&asked); err != nil || !known {
		refuse(w, badRequest("", "An order is JSON and comes with the account's key."))
		return
	}
	answer, err := s.change(key, func(c *change) (object, error) { return c.obey(r.PathValue("what"), asked) })
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		refuse(w, refused)
	case err != nil:
		refuse(w, &apiError{status: http.StatusInternalServerError, message: err.Error()})
	default:
		_, _ = w.Write(render(answer))
	}
}

// change does something to an account and commits it.
func (s *Server) change(key string, do func(*change) (object, error)) (object, error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	c := &change{account: s.state.account(key), server: s, now: s.now().Unix(), record: record{Account: key}, made: map[string]object{}}
	answer, err := do(c)
	if err != nil {
		return nil, err
	}
	return answer, s.commit(c)
}

func (c *change) obey(what string, asked order) (object, error) {
	switch what {
	case "faults":
		if asked.Faults == nil {
			return nil, badRequest("", "Which faults?")
		}
		c.record.Faults = asked.Faults
		return object{}, nil
	case "pay":
		session, err := c.find("checkout.session", asked.Session)
		if err != nil {
			return nil, err
		}
		// What is paid may be something else than what was asked for, as with a coupon or a price in the customer's own currency.
		if asked.Amount != 0 {
			session["amount_total"] = asked.Amount
		}
		if asked.Currency != "" {
			session["currency"] = asked.Currency
		}
		return session, c.attend(session, asked.Outcome)
	case "settle":
		intent, err := c.find("payment_intent", asked.PaymentIntent)
		if err != nil {
			return nil, err
		}
		return intent, c.settle(intent, asked.Outcome == OutcomePay)
	case "refund":
		refund, err := c.find("refund", asked.Refund)
		if err != nil {
			return nil, err
		}
		return refund, c.settleRefund(refund, asked.Outcome)
	case "dispute":
		return c.dispute(asked.PaymentIntent, asked.Reason, asked.Amount)
	case "close_dispute":
		dispute, err := c.find("dispute", asked.Dispute)
		if err != nil {
			return nil, err
		}
		return dispute, c.closeDispute(dispute, asked.Outcome == "won")
	case "deliver":
		event, err := c.find("event", asked.Event)
		if err != nil {
			return nil, err
		}
		for _, id := range c.order {
			if endpoint := c.objects[id]; text(endpoint, "object") == "webhook_endpoint" && listens(endpoint, text(event, "type")) {
				c.record.Deliver = append(c.record.Deliver, asked.Event+" "+id)
			}
		}
		return event, nil
	default:
		return nil, badRequest("", "There is no order %q.", what)
	}
}

// accountOfSession finds whose session it is: the page is shown to whoever has its address.
func (s *Server) accountOfSession(session string) (string, object) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	for key, a := range s.state.accounts {
		if found := a.objects[session]; text(found, "object") == "checkout.session" {
			copied, err := asJSON(found)
			if err != nil || strings.Contains(session, "/") {
				return "", nil
			}
			return key, copied
		}
	}
	return "", nil
}
