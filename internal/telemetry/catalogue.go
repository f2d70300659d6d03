package telemetry

// Programs that have metrics, as their logs name them.
const (
	api                = "api"
	billingWorker      = "billing-worker"
	provisioningWorker = "provisioning-worker"
	webhookWorker      = "webhook-worker"
	outboxRelay        = "outbox-relay"
	notificationRelay  = "notification-relay"
	nodeAgent          = "node-agent"
)

// Bounds of histograms.
var (
	// requestBuckets are for answers over HTTP, whose longest waits are asked for.
	requestBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	// statementBuckets are for windows in one statement, of which there are at most 1000.
	statementBuckets = []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000}
	// runBuckets are for a whole reconciliation.
	runBuckets = []float64{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
	// latenessBuckets are for how late the end of money was found.
	latenessBuckets = []float64{.1, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600}
)

// withPool are the programs with a pool of database connections.
var withPool = []string{api, billingWorker, webhookWorker, outboxRelay, notificationRelay}

// writers are the programs that write the ledger.
var writers = []string{billingWorker, webhookWorker}

// What every program says.
var BuildInfo = Metric{Name: "gpuaas_build_info", Kind: GaugeKind, Labels: []string{"program", "version"},
	Programs: []string{api, billingWorker, provisioningWorker, webhookWorker, outboxRelay, notificationRelay, nodeAgent},
	Help:     "Always 1: which program this is, and of which build."}

// Database connections.
var (
	DatabaseConnections = Metric{Name: "gpuaas_database_connections", Kind: GaugeKind, Labels: []string{"state"}, Programs: withPool,
		Help: "Connections of the pool by what they do: idle, acquired, or constructing."}
	DatabaseConnectionsLimit = Metric{Name: "gpuaas_database_connections_limit", Kind: GaugeKind, Programs: withPool,
		Help: "How many connections the pool may have."}
	DatabaseAcquires = Metric{Name: "gpuaas_database_acquires_total", Kind: CounterKind, Programs: withPool,
		Help: "How often a connection was taken from the pool."}
	DatabaseAcquireWaits = Metric{Name: "gpuaas_database_acquire_waits_total", Kind: CounterKind, Programs: withPool,
		Help: "How often none was idle, so that one was waited for or made."}
	DatabaseAcquireSeconds = Metric{Name: "gpuaas_database_acquire_seconds_total", Kind: CounterKind, Programs: withPool,
		Help: "How long taking connections took, all together."}
	DatabaseAcquiresCanceled = Metric{Name: "gpuaas_database_acquires_canceled_total", Kind: CounterKind, Programs: withPool,
		Help: "How often whoever waited for a connection gave up."}
)

// The API.
var (
	HTTPRequests = Metric{Name: "gpuaas_http_requests_total", Kind: CounterKind, Labels: []string{"operation", "status"}, Programs: []string{api},
		Help: "Requests that were answered, by operation of the contract (or the pattern of a page, or unmatched) and status."}
	HTTPRequestDuration = Metric{Name: "gpuaas_http_request_duration_seconds", Kind: HistogramKind, Labels: []string{"operation"}, Buckets: requestBuckets, Programs: []string{api},
		Help: "How long an answer took, waits that the request asked for included; a socket is not counted."}
	HTTPRequestsInFlight = Metric{Name: "gpuaas_http_requests_in_flight", Kind: GaugeKind, Programs: []string{api},
		Help: "Requests that are being answered, open sockets included."}
	RateLimitRefusals = Metric{Name: "gpuaas_rate_limit_refusals_total", Kind: CounterKind, Labels: []string{"budget"}, Programs: []string{api},
		Help: "Requests that were refused because a budget of requests was used up."}
	NotificationSockets = Metric{Name: "gpuaas_notification_sockets", Kind: GaugeKind, Programs: []string{api},
		Help: "Open connections over which people are told of events."}
	NotificationSlowReaders = Metric{Name: "gpuaas_notification_slow_readers_total", Kind: CounterKind, Programs: []string{api},
		Help: "Connections that were ended because their reader did not take a message in time."}
	StripeWebhooks = Metric{Name: "gpuaas_stripe_webhooks_total", Kind: CounterKind, Labels: []string{"outcome"}, Programs: []string{api},
		Help: "Webhooks of Stripe by what became of them: accepted, repeated, ignored, refused (its signature or age), or error (ours)."}
)

// The ledger and its seal.
var (
	LedgerStatements = Metric{Name: "gpuaas_ledger_statements_total", Kind: CounterKind, Programs: writers,
		Help: "Posting statements that were committed."}
	LedgerStatementWindows = Metric{Name: "gpuaas_ledger_statement_windows", Kind: HistogramKind, Buckets: statementBuckets, Programs: []string{billingWorker},
		Help: "Windows in one posting statement."}
	LedgerWindows = Metric{Name: "gpuaas_ledger_windows_total", Kind: CounterKind, Labels: []string{"outcome"}, Programs: writers,
		Help: "Windows of usage: posted, or repeated because they stood already."}
	LedgerBisections = Metric{Name: "gpuaas_ledger_bisections_total", Kind: CounterKind, Programs: writers,
		Help: "How often a statement that the database refused was halved."}
	LedgerRefusals = Metric{Name: "gpuaas_ledger_refused_postings_total", Kind: CounterKind, Programs: writers,
		Help: "Postings that the database refuses."}
	LedgerConflicts = Metric{Name: "gpuaas_ledger_conflicts_total", Kind: CounterKind, Programs: writers,
		Help: "Entries that stood otherwise than they would have been posted. It must stay zero."}
	SealLag = Metric{Name: "gpuaas_seal_lag_seconds", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "How long the oldest rows of the ledger and the outbox wait to be sealed; a writing transaction hangs when it grows."}
	SealLooked = Metric{Name: "gpuaas_seal_looked_timestamp_seconds", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "When this worker last looked for rows to seal, since the epoch."}
	LedgerCheckpoints = Metric{Name: "gpuaas_ledger_checkpoints_cut_total", Kind: CounterKind, Programs: []string{billingWorker},
		Help: "Accounts whose balance was summed up to a checkpoint."}
	LedgerUnchained = Metric{Name: "gpuaas_ledger_unchained_entries", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "Entries that no block of the hash chain covers yet; every replica says the same."}
)

// What the database says of the platform. Every replica of the billing worker says the same, at most fifteen seconds old.
var (
	Allocations = Metric{Name: "gpuaas_allocations", Kind: GaugeKind, Labels: []string{"state"}, Programs: []string{billingWorker},
		Help: "Allocations that have not ended, by state; every replica says the same."}
	Nodes = Metric{Name: "gpuaas_nodes", Kind: GaugeKind, Labels: []string{"state"}, Programs: []string{billingWorker},
		Help: "Nodes by the strongest thing to know about each; every replica says the same."}
	NodesClaimed = Metric{Name: "gpuaas_nodes_claimed", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "Nodes that an allocation claims; every replica says the same."}
	FundsAccounts = Metric{Name: "gpuaas_funds_accounts", Kind: GaugeKind, Labels: []string{"rung"}, Programs: []string{billingWorker},
		Help: "Accounts that stand on a rung of the ladder at the end of money; every replica says the same."}
	FundsOverdue = Metric{Name: "gpuaas_funds_overdue_accounts", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "Accounts that were found to be used up more than five minutes ago, and of which something costs money all the same; every replica says the same."}
	FundsRungs = Metric{Name: "gpuaas_funds_rungs_reached_total", Kind: CounterKind, Labels: []string{"rung"}, Programs: []string{billingWorker},
		Help: "How often an account came down to a rung of the ladder."}
	FundsLateness = Metric{Name: "gpuaas_funds_end_lateness_seconds", Kind: HistogramKind, Buckets: latenessBuckets, Programs: []string{billingWorker},
		Help: "How long after the exact instant the end of an account's money was found; what the meters cost in between is written off."}
)

// The reconciliation.
var (
	ReconciliationFindings = Metric{Name: "gpuaas_reconciliation_findings", Kind: GaugeKind, Labels: []string{"check", "severity"}, Programs: []string{billingWorker},
		Help: "Findings that are open, by the check that made them and how soon somebody must look; every replica says the same."}
	ReconciliationCompleted = Metric{Name: "gpuaas_reconciliation_last_completed_timestamp_seconds", Kind: GaugeKind, Programs: []string{billingWorker},
		Help: "When the newest run ended that made every check to its end, since the epoch; absent before the first; every replica says the same."}
	ReconciliationRuns = Metric{Name: "gpuaas_reconciliation_runs_total", Kind: CounterKind, Labels: []string{"outcome"}, Programs: []string{billingWorker},
		Help: "Runs that ended: completed, or incomplete because a check could not be made."}
	ReconciliationRunDuration = Metric{Name: "gpuaas_reconciliation_run_duration_seconds", Kind: HistogramKind, Buckets: runBuckets, Programs: []string{billingWorker},
		Help: "How long a run took."}
)

// Events on their way out.
var (
	OutboxPublished = Metric{Name: "gpuaas_outbox_published_events_total", Kind: CounterKind, Programs: []string{outboxRelay},
		Help: "Events that this relay published and the stream acknowledged."}
	OutboxLeads = Metric{Name: "gpuaas_outbox_leads", Kind: GaugeKind, Programs: []string{outboxRelay},
		Help: "1 while this relay is the one that publishes, else 0."}
	OutboxUnpublished = Metric{Name: "gpuaas_outbox_unpublished_events", Kind: GaugeKind, Programs: []string{outboxRelay},
		Help: "Events that are written and not published yet, counted up to 100000; every replica says the same."}
	OutboxUnpublishedAge = Metric{Name: "gpuaas_outbox_unpublished_age_seconds", Kind: GaugeKind, Programs: []string{outboxRelay},
		Help: "How long the oldest of them has waited, 0 for none; every replica says the same."}
	DeadLetters = Metric{Name: "gpuaas_dead_letters", Kind: GaugeKind, Programs: []string{outboxRelay},
		Help: "Dead letters that nobody has replayed or discarded; every replica says the same."}
	ConsumerEvents = Metric{Name: "gpuaas_consumer_events_total", Kind: CounterKind, Labels: []string{"consumer", "outcome"}, Programs: []string{notificationRelay},
		Help: "Events by what a consumer made of them: applied, or given up as a dead letter."}
	ConsumerPending = Metric{Name: "gpuaas_consumer_pending_events", Kind: GaugeKind, Labels: []string{"consumer", "stream"}, Programs: []string{notificationRelay},
		Help: "Events in the stream that a consumer was not handed yet; every replica says the same."}
	ConsumerUnacknowledged = Metric{Name: "gpuaas_consumer_unacknowledged_events", Kind: GaugeKind, Labels: []string{"consumer", "stream"}, Programs: []string{notificationRelay},
		Help: "Events that a consumer was handed and has not acknowledged, those that will be tried again included; every replica says the same."}
	WebhookAttempts = Metric{Name: "gpuaas_webhook_attempts_total", Kind: CounterKind, Labels: []string{"outcome"}, Programs: []string{notificationRelay},
		Help: "Attempts to tell an endpoint of a customer, by what came of them."}
	WebhookAttemptDuration = Metric{Name: "gpuaas_webhook_attempt_duration_seconds", Kind: HistogramKind, Buckets: requestBuckets, Programs: []string{notificationRelay},
		Help: "How long an endpoint of a customer took to answer, or not to."}
	WebhookDeliveries = Metric{Name: "gpuaas_webhook_deliveries_total", Kind: CounterKind, Labels: []string{"state"}, Programs: []string{notificationRelay},
		Help: "Deliveries to endpoints of customers that ended: delivered, failed for good, or skipped because the endpoint is disabled."}
	WebhookEndpointsGivenUp = Metric{Name: "gpuaas_webhook_endpoints_given_up_total", Kind: CounterKind, Programs: []string{notificationRelay},
		Help: "Endpoints of customers that were disabled because they failed too often for too long, or said that they are gone."}
)

// Stripe.
var (
	StripeEvents = Metric{Name: "gpuaas_stripe_events_total", Kind: CounterKind, Labels: []string{"outcome"}, Programs: []string{webhookWorker},
		Help: "Stored events of Stripe by what became of them: told to whom they are for, ignored, or unmatched because they are about nothing that is known here."}
	StripeEventsSwept = Metric{Name: "gpuaas_stripe_events_swept_total", Kind: CounterKind, Programs: []string{webhookWorker},
		Help: "Events of which no webhook told and that were asked for."}
)

// Catalogue lists every metric of ours, in the order of docs/metrics.md.
func Catalogue() []Metric {
	return []Metric{
		BuildInfo,
		DatabaseConnections, DatabaseConnectionsLimit, DatabaseAcquires, DatabaseAcquireWaits, DatabaseAcquireSeconds, DatabaseAcquiresCanceled,
		HTTPRequests, HTTPRequestDuration, HTTPRequestsInFlight, RateLimitRefusals, NotificationSockets, NotificationSlowReaders, StripeWebhooks,
		LedgerStatements, LedgerStatementWindows, LedgerWindows, LedgerBisections, LedgerRefusals, LedgerConflicts, SealLag, SealLooked, LedgerCheckpoints, LedgerUnchained,
		Allocations, Nodes, NodesClaimed, FundsAccounts, FundsOverdue, FundsRungs, FundsLateness,
		ReconciliationFindings, ReconciliationCompleted, ReconciliationRuns, ReconciliationRunDuration,
		OutboxPublished, OutboxLeads, OutboxUnpublished, OutboxUnpublishedAge, DeadLetters,
		ConsumerEvents, ConsumerPending, ConsumerUnacknowledged, WebhookAttempts, WebhookAttemptDuration, WebhookDeliveries, WebhookEndpointsGivenUp,
		StripeEvents, StripeEventsSwept,
	}
}
