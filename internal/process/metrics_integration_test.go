//go:build integration

package process_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/nats/natstest"
	"github.com/gpuaas/gpuaas/internal/outbox"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/stripe"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// scrape asks a program for its metrics, as Prometheus would.
func (p *platform) scrape(program string) (map[string]*dto.MetricFamily, error) {
	address, listens := p.internal.Load(program)
	if !listens {
		return nil, fmt.Errorf("%s does not listen yet", program)
	}
	response, err := http.Get(fmt.Sprintf("http://%s/metrics", address))
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the metrics of %s answer %s", program, response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(response.Body)
}

// sum adds up the series of a metric that have these labels, "name=value"; a histogram's are its observations.
func sum(family *dto.MetricFamily, labels ...string) float64 {
	total := 0.0
	for _, series := range family.GetMetric() {
		has := map[string]bool{}
		for _, label := range series.GetLabel() {
			has[label.GetName()+"="+label.GetValue()] = true
		}
		if slices.ContainsFunc(labels, func(wanted string) bool { return !has[wanted] }) {
			continue
		}
		total += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
	}
	return total
}

// The programs that newPlatform does not run, which move events, webhooks and money.
func (p *platform) runOthers(t *testing.T) {
	t.Helper()
	logs, workers := process.LogConfig{Logger: slog.New(slog.DiscardHandler)}, process.DefaultWorkerConfig()
	bus := natstest.Start(t).Config()
	database := process.DatabaseConfig{URL: p.AppURL, MaxConnections: 8}
	ctx, cancel := context.WithCancel(p.live)
	t.Cleanup(cancel)
	run := func(program string, main func() error) {
		p.running.Go(func() {
			if err := main(); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s ended: %v", program, err)
			}
		})
	}
	run("outbox-relay", func() error {
		return process.RunOutboxRelay(ctx, process.OutboxRelayConfig{Database: database, NATS: bus, Relay: outbox.DefaultConfig(), Health: p.health("outbox-relay"), Log: logs})
	})
	run("notification-relay", func() error {
		return process.RunNotificationRelay(ctx, process.NotificationRelayConfig{
			Database: database, NATS: bus, Redis: p.cache, Temporal: p.config, Worker: workers, Health: p.health("notification-relay"), Log: logs,
			Webhooks: process.WebhooksConfig{Keys: "k1:" + strings.Repeat("ab", 32)},
		})
	})
	run("webhook-worker", func() error {
		return process.RunWebhookWorker(ctx, process.WebhookWorkerConfig{
			Database: database, Temporal: p.config, Worker: workers, Health: p.health("webhook-worker"), Log: logs,
			Stripe: stripe.Config{SecretKey: "sk_test_nobody", APIURL: "http://127.0.0.1:1"}, // whom the sweep asks in vain
		})
	})
	run("node-agent", func() error {
		return process.RunNodeAgent(ctx, process.NodeAgentConfig{
			Mode: "sim", GatewayURL: "https://127.0.0.1:1", RootFingerprint: "00", Directory: t.TempDir(), Health: p.health("node-agent"), Log: logs,
			Sim: process.SimFleetConfig{FleetFile: filepath.Join(t.TempDir(), "fleet.json")}, // which is waited for
		})
	})
}

// Every program is scraped after real work: it has every metric that the catalogue says it has and no other, and those of the work rose.
func TestTheMetricsTellOfRealWork(t *testing.T) {
	p := newPlatform(t, 3)
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '1', 'platform')`)
	p.runOthers(t)
	ada := p.signIn(t, "ada")
	created, err := p.ask(t.Context(), ada, "one")
	if err != nil || created.status != http.StatusCreated {
		t.Fatalf("an allocation is answered %d %+v, %v", created.status, created.body, err)
	}
	if refused, err := p.ask(t.Context(), person{token: "nobody"}, "two"); err != nil || refused.status != http.StatusUnauthorized {
		t.Fatalf("nobody is answered %d, %v", refused.status, err)
	}
	p.exec(t, `INSERT INTO reconciliation_runs (id, whole, state, ended_at) VALUES ($1, true, 'completed', '2026-01-02')`, string(randomID[id.Run]()))
	p.exec(t, `INSERT INTO reconciliation_findings (id, check_name, kind, subject, sentence, detail, first_run_id, last_run_id)
		SELECT $1, 'balances', 'books_unbalanced', 'eur', 'They do not add up.', '{}', id, id FROM reconciliation_runs`, string(randomID[id.Finding]()))

	// What is to be seen, by program: a metric, its labels, and whether its value will do.
	atLeast := func(least float64) func(float64) bool { return func(value float64) bool { return value >= least } }
	exactly := func(wanted float64) func(float64) bool { return func(value float64) bool { return value == wanted } }
	type sight struct {
		program string
		of      telemetry.Metric
		labels  []string
		fits    func(float64) bool
	}
	wanted := []sight{
		{"api", telemetry.HTTPRequests, []string{"operation=createAllocation", "status=201"}, exactly(1)},
		{"api", telemetry.HTTPRequests, []string{"operation=createAllocation", "status=401"}, exactly(1)},
		{"api", telemetry.HTTPRequests, []string{"operation=getReadiness", "status=200"}, atLeast(1)},
		{"api", telemetry.HTTPRequestDuration, []string{"operation=createAllocation"}, exactly(2)},
		{"api", telemetry.DatabaseAcquires, nil, atLeast(3)},
		{"api", telemetry.DatabaseConnectionsLimit, nil, exactly(24)},
		{"billing-worker", telemetry.Allocations, []string{"state=active"}, exactly(1)},
		{"billing-worker", telemetry.Allocations, []string{"state=releasing"}, exactly(0)},
		{"billing-worker", telemetry.Nodes, []string{"state=online"}, exactly(3)},
		{"billing-worker", telemetry.NodesClaimed, nil, exactly(1)},
		{"billing-worker", telemetry.LedgerStatements, nil, atLeast(2)},
		{"billing-worker", telemetry.LedgerWindows, []string{"outcome=posted"}, atLeast(2)},
		{"billing-worker", telemetry.LedgerStatementWindows, nil, atLeast(2)},
		{"billing-worker", telemetry.LedgerConflicts, nil, exactly(0)},
		{"billing-worker", telemetry.SealLooked, nil, atLeast(float64(time.Now().Unix()))},
		{"billing-worker", telemetry.ReconciliationFindings, []string{"check=balances", "severity=critical"}, exactly(1)},
		{"billing-worker", telemetry.ReconciliationFindings, []string{"severity=warning"}, exactly(0)},
		{"billing-worker", telemetry.ReconciliationCompleted, nil, exactly(1767312000)},
		{"billing-worker", telemetry.FundsOverdue, nil, exactly(0)},
		{"outbox-relay", telemetry.OutboxLeads, nil, exactly(1)},
		{"outbox-relay", telemetry.OutboxPublished, nil, atLeast(2)},
		{"outbox-relay", telemetry.DeadLetters, nil, exactly(0)},
		{"notification-relay", telemetry.ConsumerEvents, []string{"consumer=notifications", "outcome=applied"}, atLeast(2)},
		{"notification-relay", telemetry.ConsumerPending, []string{"consumer=notifications", "stream=PROVISIONING"}, exactly(0)},
		{"webhook-worker", telemetry.StripeEvents, []string{"outcome=unmatched"}, exactly(0)},
		{"node-agent", telemetry.BuildInfo, []string{"program=node-agent"}, exactly(1)},
	}
	temporaltest.Eventually(t, 90*time.Second, func() error {
		for _, one := range wanted {
			families, err := p.scrape(one.program)
			if err != nil {
				return err
			}
			family, there := families[one.of.Name]
			if !there {
				return fmt.Errorf("%s has no %s", one.program, one.of.Name)
			}
			if value := sum(family, one.labels...); !one.fits(value) {
				return fmt.Errorf("%s of %s, %q, is %v", one.of.Name, one.program, one.labels, value)
			}
		}
		return nil
	})
	p.eachProgramHasItsMetrics(t)
	if found := p.temporalQueues(t, "billing-worker"); !slices.Contains(found, workflows.AllocationsQueue) {
		t.Errorf("Temporal's SDK measures the queues %q", found)
	}
	p.released(t, ada, created.body.ID)
}

// rarely are the histograms of what this test does not do: one has no series before its first observation.
var rarely = []string{telemetry.FundsLateness.Name, telemetry.WebhookAttemptDuration.Name, telemetry.ReconciliationRunDuration.Name}

// eachProgramHasItsMetrics holds what is exposed beside the catalogue, both ways.
func (p *platform) eachProgramHasItsMetrics(t *testing.T) {
	t.Helper()
	for _, program := range telemetry.BuildInfo.Programs {
		families, err := p.scrape(program)
		if err != nil {
			t.Fatal(err)
		}
		declared := map[string]bool{}
		for _, one := range telemetry.Catalogue() {
			if !slices.Contains(one.Programs, program) {
				continue
			}
			declared[one.Name] = true
			if families[one.Name] == nil && !slices.Contains(rarely, one.Name) {
				t.Errorf("%s does not have %s", program, one.Name)
			}
		}
		for name := range families {
			if strings.HasPrefix(name, "gpuaas_") && !declared[name] {
				t.Errorf("%s has %s, which the catalogue does not say", program, name)
			}
		}
	}
}

// temporalQueues are the task queues that Temporal's SDK measured in a program.
func (p *platform) temporalQueues(t *testing.T, program string) []string {
	t.Helper()
	families, err := p.scrape(program)
	if err != nil {
		t.Fatal(err)
	}
	var queues []string
	for _, series := range families["temporal_workflow_task_execution_latency_seconds"].GetMetric() {
		for _, label := range series.GetLabel() {
			if label.GetName() == "task_queue" {
				queues = append(queues, label.GetValue())
			}
		}
	}
	return queues
}

// released gives an allocation back, so that nothing of it is under way when the test ends.
func (p *platform) released(t *testing.T, who person, allocation id.Allocation) {
	t.Helper()
	if got, err := (replica{url: p.url}).post(t.Context(), who, "/api/v1/allocations/"+string(allocation)+"/release", "end", `{}`); err != nil || got.status >= 300 {
		t.Fatalf("the release is answered %d, %v", got.status, err)
	}
	temporaltest.Eventually(t, time.Minute, func() error {
		if p.count(t, `SELECT count(*) FROM allocations WHERE ended_at IS NULL`) != 0 {
			return errors.New("it is not released")
		}
		return nil
	})
}
