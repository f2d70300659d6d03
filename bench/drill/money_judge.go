package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience is how long money may take to arrive once nobody kills any more: longer than the slowest retry of a webhook.
const patience = 4 * time.Minute

// fact is one line of the stand-in's plain log: money that moved, in minor units.
type fact struct {
	Fact          string `json:"fact"`
	PaymentIntent string `json:"payment_intent"`
	ID            string `json:"id"`
	Amount        int64  `json:"amount"`
	Metadata      struct {
		PaymentID string `json:"payment_id"`
	} `json:"metadata"`
}

// facts reads what the stand-in says of money.
func (s *moneyStorm) facts() ([]fact, error) {
	text, err := os.ReadFile(s.extra.StripePaymentsLog)
	if err != nil {
		return nil, err
	}
	var all []fact
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one fact
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("%s: %w", s.extra.StripePaymentsLog, err)
		}
		all = append(all, one)
	}
	return all, lines.Err()
}

// intentOf is the PaymentIntent by which a payment was paid.
func (s *moneyStorm) intentOf(payment string) (string, bool) {
	all, err := s.facts()
	if err != nil {
		return "", false // a restart writes the log anew
	}
	for _, one := range all {
		if one.Fact == "paid" && one.Metadata.PaymentID == payment {
			return one.PaymentIntent, true
		}
	}
	return "", false
}

// findStripe learns the stand-in's address, and the key of the account that the programs use.
func (s *moneyStorm) findStripe(ctx context.Context) (stripeControl, error) {
	env, err := s.programEnvironment(ctx)
	if err != nil {
		return stripeControl{}, err
	}
	for _, line := range env {
		if key, found := strings.CutPrefix(line, "STRIPE_SECRET_KEY="); found {
			return stripeControl{s.extra.StripeURL, key}, nil
		}
	}
	return stripeControl{}, errors.New("the programs are given no key of Stripe's")
}

// settle waits until nothing of money is under way any more. What never settles is for the oracle to judge.
func (s *moneyStorm) settle(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	conn, err := s.database(waiting, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		var open, unpublished, unsealed int
		err := conn.QueryRow(waiting, `SELECT
			(SELECT count(*) FROM payments WHERE state IN ('requested', 'open', 'processing')) + (SELECT count(*) FROM refunds WHERE state = 'pending')
				+ (SELECT count(*) FROM stripe_events WHERE event_id NOT IN (SELECT event_id FROM stripe_event_outcomes))
				+ (SELECT count(*) FROM allocations WHERE state NOT IN ('released', 'failed')),
			(SELECT count(*) FROM outbox WHERE id > (SELECT cursor_id FROM outbox_relay)),
			(SELECT count(*) FROM ledger_entries WHERE id > (SELECT coalesce(max(up_to_id), 0) FROM ledger_blocks))`).Scan(&open, &unpublished, &unsealed)
		behind, natsErr := s.behind(waiting)
		if err == nil && natsErr == nil && open+unpublished+unsealed+behind == 0 {
			return nil
		}
		if pauseErr := pause(waiting, 500*time.Millisecond); pauseErr != nil {
			fmt.Printf("drill: after %s %d things are under way, %d events are not published, %d not consumed, %d entries in no block (%v)\n",
				time.Since(began).Round(time.Second), open, unpublished, behind, unsealed, errors.Join(err, natsErr))
			return errors.Join(ctx.Err(), s.nameUnsettled(ctx))
		}
		if conn.IsClosed() {
			if conn, err = s.database(waiting, false); err != nil {
				return err
			}
		}
	}
}

// nameUnsettled says what is still under way, so that whoever reads a red run knows where to look.
func (s *moneyStorm) nameUnsettled(ctx context.Context) error {
	conn, err := s.database(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT 'payment ' || id || ' is ' || state FROM payments WHERE state IN ('requested', 'open', 'processing')
		UNION ALL SELECT 'refund ' || id || ' is ' || state FROM refunds WHERE state = 'pending'
		UNION ALL SELECT 'allocation ' || id || ' is ' || state FROM allocations WHERE state NOT IN ('released', 'failed')
		UNION ALL SELECT 'Stripe''s event ' || event_id || ' of type ' || type || ' has no outcome' FROM stripe_events
			WHERE event_id NOT IN (SELECT event_id FROM stripe_event_outcomes)`)
	if err != nil {
		return err
	}
	what, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, one := range what {
		fmt.Printf("drill: %s\n", one)
	}
	return err
}

// behind counts the messages that consumers still have before them.
func (s *moneyStorm) behind(ctx context.Context) (int, error) {
	bus, hangUp, err := s.bus()
	if err != nil {
		return 0, err
	}
	defer hangUp()
	messages := 0
	err = eachConsumer(ctx, bus, func(_ string, info *jetstream.ConsumerInfo) {
		messages += int(info.NumPending) + info.NumAckPending //nolint:gosec // far below 2^63
	})
	return messages, err
}

// bus is a connection of the drill's own to NATS.
func (s *moneyStorm) bus() (bus jetstream.JetStream, hangUp func(), err error) {
	conn, err := nats.Connect(s.extra.NATSURL)
	if err != nil {
		return nil, nil, fmt.Errorf("reach NATS: %w", err)
	}
	bus, err = jetstream.New(conn)
	return bus, conn.Close, err
}

// eachConsumer looks at every durable consumer there is.
func eachConsumer(ctx context.Context, bus jetstream.JetStream, look func(stream string, info *jetstream.ConsumerInfo)) error {
	streams := bus.StreamNames(ctx)
	for name := range streams.Name() {
		stream, err := bus.Stream(ctx, name)
		if err != nil {
			return err
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			look(name, info)
		}
		if err := consumers.Err(); err != nil {
			return err
		}
	}
	return streams.Err()
}

// plantMoney plants a fault that the oracle must find.
func (s *moneyStorm) plantMoney(ctx context.Context) error {
	switch s.config.plant {
	case plantDoubleCredit:
		return s.tamper(ctx, "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
			`INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			 SELECT kind, gen_random_uuid(), debit_account_id, credit_account_id, currency, amount_micros, idempotency_key || ':again'
			 FROM ledger_entries WHERE kind = 'deposit' ORDER BY id LIMIT 1`)
	case plantLostEvent:
		return s.loseEvent(ctx)
	default:
		return s.plantFault(ctx)
	}
}

// loseEvent makes the relay believe that it has published what is written while it stands still.
func (s *moneyStorm) loseEvent(ctx context.Context) error {
	if err := s.stopSeparate("outbox-relay"); err != nil {
		return err
	}
	if err := s.credit(ctx); err != nil {
		return err
	}
	return s.tamper(ctx, `UPDATE outbox_relay SET cursor_id = (SELECT max(id) FROM outbox) WHERE cursor_id < (SELECT max(id) FROM outbox)`)
}

// judgeMoney stops what writes to the ledger, reads every balance through the API, and lets the oracle look at everything.
func (s *moneyStorm) judgeMoney(ctx context.Context) (int, error) {
	workflows, hangUp, err := s.workflows()
	if err != nil {
		return 0, err
	}
	defer hangUp()
	if err := s.settleDown(ctx, workflows); err != nil {
		return 0, err
	}
	if err := s.stopSeparate("billing-worker"); err != nil {
		return 0, err
	}
	for _, c := range s.customers {
		if err := s.readBalance(ctx, c.tenant); err != nil {
			return 0, err
		}
	}
	if err := s.countKills(); err != nil {
		return 0, err
	}
	conn, err := s.database(ctx, false)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	judge, err := s.moneyOracle(ctx, conn, workflows)
	if err != nil {
		return 0, err
	}
	return judge.broken, judge.judge(ctx, append(judge.money(), judge.everywhere()...))
}

// moneyOracle has the facts of the stand-in and what NATS holds before it, beside what any oracle has.
func (s *moneyStorm) moneyOracle(ctx context.Context, conn *pgx.Conn, workflows workflowView) (*moneyOracle, error) {
	base, err := s.oracle(conn, workflows)
	if err != nil {
		return nil, err
	}
	o := &moneyOracle{oracle: base}
	if o.facts, err = s.facts(); err != nil {
		return nil, err
	}
	bus, hangUp, err := s.bus()
	if err != nil {
		return nil, err
	}
	defer hangUp()
	o.bus, err = readBus(ctx, bus)
	return o, err
}
