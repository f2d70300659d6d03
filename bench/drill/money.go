package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// The prices and times of the money drill, so that money ends, and comes, within minutes.
const (
	// poorEvery is how many customers there are for one whose money runs out.
	poorEvery = 5
	// mostAccounts is how many accounts there are unless more are asked for.
	mostAccounts = 30
	// richRate is what most customers pay, poorRate what lets a deposit of poorDepositMinor last about nine seconds.
	richRate         = 36_000_000
	poorRate         = 400_000_000
	poorDepositMinor = 100
	richDepositMinor = 2_000
)

// moneyStorm is the storm of the money drill.
type moneyStorm struct {
	*storm
	customers []*customer
	stripe    stripeControl
	// left is how many allocations are still to be asked for, ended how many have ended.
	left, ended atomic.Int64
	skus        []string
}

// parseMoney reads the flags of the money drill; N in the environment says how many allocations.
func (c *settings) parseMoney(arguments []string) error {
	flags := flag.NewFlagSet("money", flag.ContinueOnError)
	flags.IntVar(&c.allocations, "allocations", 300, "allocations, one after the other for each account")
	flags.IntVar(&c.accounts, "accounts", 0, "accounts that pay for them (default: 30, or as many as allocations)")
	flags.IntVar(&c.nodes, "nodes", 40, "simulated nodes")
	flags.IntVar(&c.kills, "kills", 22, "kills -9, at least 20")
	flags.DurationVar(&c.limit, "limit", 40*time.Minute, "give up after this long")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if c.accounts == 0 {
		c.accounts = min(mostAccounts, c.allocations)
	}
	if c.kills < 20 || c.accounts < poorEvery || c.allocations < c.accounts || c.nodes <= c.accounts {
		return fmt.Errorf("it takes 20 kills, %d accounts, an allocation for each and more nodes than accounts", poorEvery)
	}
	return c.knows(plantDoubleCredit, plantLostEvent, plantLostWindow)
}

// runMoney drives the storm and asks the oracle; it answers how many invariants are broken.
func runMoney(ctx context.Context, config settings, random *mathrand.Rand) (broken int, err error) {
	base, err := newStorm(config, random)
	if err != nil {
		return 0, err
	}
	s := &moneyStorm{storm: base}
	defer func() { err = errors.Join(err, s.close(err == nil && broken == 0)) }()
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"start every program by itself", s.startSeparate},
		{"sign in, and shorten what takes time", s.open},
		{"make an account for each customer", s.enlist},
		{"pay, rent, dispute and be refunded while everything is killed", s.rage},
		{"wait until all money has arrived", s.settle},
		{"plant what was asked for", s.plantMoney},
	} {
		began := time.Now()
		if err := phase.run(ctx); err != nil {
			return 0, fmt.Errorf("%s: %w", phase.name, err)
		}
		fmt.Printf("%8.1fs  %s\n", time.Since(began).Seconds(), phase.name)
	}
	return s.judgeMoney(ctx)
}

func (s *moneyStorm) open(ctx context.Context) error {
	if err := s.signIn(ctx); err != nil {
		return err
	}
	if err := s.waitAnswering(ctx); err != nil {
		return err
	}
	if err := s.setPolicies(ctx, map[string]int{
		"billing.window_seconds": windowSeconds, "billing.minimum_deposit_minor": 50, "billing.runway_seconds": 3,
		"billing.low_balance_threshold_minor": 40, "billing.auto_release_grace_seconds": 2, "billing.outage_forgiveness_seconds": 0,
		"payments.reconcile_seconds": 5, "allocation.max_concurrent_per_user": 1000, "allocation.max_concurrent_per_tenant": 1000,
		"rate_limit.api_requests_per_minute": 1_000_000, "rate_limit.admin_overview_requests_per_minute": 1_000_000,
		"rate_limit.financial_requests_per_minute": 100_000, "rate_limit.unauthenticated_requests_per_minute": 1_000_000,
	}); err != nil {
		return err
	}
	if err := s.waitForNodes(ctx); err != nil {
		return err
	}
	control, err := s.findStripe(ctx)
	if err != nil {
		return err
	}
	s.stripe = control
	return s.stripe.give(ctx, "faults", map[string]any{"faults": map[string]any{
		"duplicate": 0.4, "reorder": 0.6, "delay_ms": 3000, "lose": 0.05, "fail": 0.03, "cut": 0.03,
	}}, nil)
}

// waitForNodes waits until every simulated node can be rented, and notes what there is to rent.
func (s *moneyStorm) waitForNodes(ctx context.Context) error {
	for {
		var found struct {
			Items []struct {
				SKU            string `json:"sku"`
				AvailableNodes int    `json:"available_nodes"`
			} `json:"items"`
		}
		err := s.tenant.Get(ctx, "/api/v1/skus", &found)
		s.skus = s.skus[:0]
		for _, sku := range found.Items {
			for range sku.AvailableNodes {
				s.skus = append(s.skus, sku.SKU)
			}
		}
		if err == nil && len(s.skus) >= s.config.nodes {
			return nil
		}
		if pauseErr := pause(ctx, 500*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("%d of %d nodes can be rented: %w", len(s.skus), s.config.nodes, errors.Join(err, pauseErr))
		}
	}
}

// enlist makes a tenant with an account for each customer, and the prices that it pays.
func (s *moneyStorm) enlist(ctx context.Context) error {
	var me struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	if err := s.tenant.Get(ctx, "/api/v1/me", &me); err != nil {
		return err
	}
	for i := range s.config.accounts {
		made, err := s.newCustomer(ctx, i, me.User.ID)
		if err != nil {
			return err
		}
		s.customers = append(s.customers, made)
	}
	s.left.Store(int64(s.config.allocations))
	return nil
}

// post makes something until the answer is definite, and reads it.
func (s *moneyStorm) post(ctx context.Context, admin bool, path, key string, body, into any) error {
	session := s.tenant
	if admin {
		session = s.admin
	}
	answer, err := s.insist(ctx, session, http.MethodPost, path, key, body)
	if err != nil {
		return err
	}
	if err := answer.Into(into); err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	return nil
}

// rage lets every customer do business, and kills meanwhile.
func (s *moneyStorm) rage(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	raging, calm := context.WithCancel(ctx)
	defer calm()
	business, businessCtx := errgroup.WithContext(ctx)
	for _, c := range s.customers {
		business.Go(func() error { return c.doBusiness(businessCtx) })
	}
	group.Go(func() error {
		defer calm()
		return business.Wait()
	})
	group.Go(func() error { return s.killMoney(ctx, raging) })
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Printf("drill: %d allocations ended; NATS and Redis were restarted %d times, Redis empty each time\n", s.ended.Load(), s.killed["infra"])
	return nil
}

// victims says what is killed, in an order of its own: each program twice, Postgres twice, twice the infrastructure with Temporal, NATS,
// Redis and the stand-in for Stripe in it, and then whatever comes.
func (s *moneyStorm) victims() []string {
	var each []string
	for _, p := range s.separate {
		each = append(each, p.name)
	}
	each = append(each, "postgres", "infra")
	victims := append(append([]string(nil), each...), each...)
	for len(victims) < s.config.kills {
		victims = append(victims, each[s.random.IntN(len(each)-1)]) // not the infrastructure, which takes long to return
	}
	s.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	return victims
}

// killMoney spreads the kills over the business; what is left of them when the business is over follows at once.
func (s *moneyStorm) killMoney(ctx, raging context.Context) error {
	victims := s.victims()
	for i, victim := range victims {
		due := int64(s.config.allocations) * int64(i) / int64(len(victims)+1)
		for s.ended.Load() < due && raging.Err() == nil {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if err := s.randomWait(ctx, time.Second); err != nil {
			return err
		}
		if err := s.killNamed(ctx, victim); err != nil {
			return fmt.Errorf("kill %s: %w", victim, err)
		}
	}
	return nil
}

func (s *moneyStorm) killNamed(ctx context.Context, victim string) error {
	s.killed[victim]++
	switch victim {
	case "postgres":
		return killPostgres(s.endpoints.PostgresDataDir)
	case "infra":
		s.infra.kill()
		if err := s.bringUp(ctx, s.infra); err != nil {
			return err
		}
		return s.revive()
	}
	for _, p := range s.separate {
		if p.name == victim {
			p.kill()
			if err := s.randomWait(ctx, 2*time.Second); err != nil {
				return err
			}
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return s.revive()
}

// revive starts what has ended by itself, as whatever looks after programs in production would.
func (s *moneyStorm) revive() error {
	for _, p := range s.separate {
		if p.hasEnded() {
			fmt.Printf("drill: %s had ended by itself and is started again\n", p.name)
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sku is something to rent, whatever it is.
func (s *moneyStorm) sku(turn int64) string { return s.skus[turn%int64(len(s.skus))] }

// named is a key that no other intent has.
func named(parts ...any) string {
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintln(parts...)), " ", "-")
}
