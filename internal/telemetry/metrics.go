package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Kind is how a metric behaves.
type Kind string

const (
	// CounterKind only rises, and begins at zero with its program.
	CounterKind Kind = "counter"
	// GaugeKind is what is the case when it is asked for.
	GaugeKind Kind = "gauge"
	// HistogramKind counts observations by their size.
	HistogramKind Kind = "histogram"
)

// Metric is one of Catalogue: its name as Prometheus has it, in base units, and what it means. A label has few values, known when the program
// is written: never an id, a path or a name that a tenant chose.
type Metric struct {
	Name   string
	Kind   Kind
	Help   string
	Labels []string
	// Buckets are the upper bounds of a histogram, in its unit.
	Buckets []float64
	// Programs are those that have it.
	Programs []string
}

// unit is what OpenTelemetry calls the base unit in the metric's name; empty for a number of things.
func (m Metric) unit() string {
	switch name := strings.TrimSuffix(m.Name, "_total"); {
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "By"
	default:
		return ""
	}
}

// TemporalScope is the scope of what Temporal's SDK measures; it chooses its own names and labels.
const TemporalScope = "go.temporal.io/sdk"

const (
	// mostSeries bounds one metric: what has more label values than that is a mistake, and is counted together.
	mostSeries = 3000
	// scrapeTimeout bounds one scrape, whose observers may ask a database.
	scrapeTimeout = 10 * time.Second
	// scrapesAtOnce bounds those who ask.
	scrapesAtOnce = 4
)

// temporalBuckets are for the SDK's latencies, from a step in memory to a workflow of days, in seconds.
var temporalBuckets = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400}

// temporalLabels are what of the SDK's labels is kept: each has few values. Its task_queue is one of ours.
var temporalLabels = []attribute.Key{"task_queue", "operation", "activity_type", "workflow_type", "worker_type", "poller_type", "status_code", "failure_reason", "cause"}

// Meter makes a program's instruments, and answers whoever scrapes them. A nil Meter makes instruments that count nothing.
type Meter struct {
	provider *sdkmetric.MeterProvider
	meter    metric.Meter
	registry *prometheus.Registry
	log      *slog.Logger
}

// NewMeter makes the meter of a program, with what Go and the operating system say about the process.
func NewMeter(program, version string, log *slog.Logger) (*Meter, error) {
	m := &Meter{registry: prometheus.NewRegistry(), log: log}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("export metrics: %w", err)
	}
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithCardinalityLimit(mostSeries), sdkmetric.WithView(temporalView))
	m.meter = m.provider.Meter(scope)
	for _, collector := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := m.registry.Register(collector); err != nil {
			return nil, fmt.Errorf("measure the process: %w", err)
		}
	}
	m.Observe(func(_ context.Context, see See) error { see(BuildInfo, 1, program, version); return nil }, BuildInfo)
	return m, nil
}

// temporalView gives the SDK's latencies buckets in seconds, and leaves out labels that say nothing or too much.
func temporalView(instrument sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if instrument.Scope.Name != TemporalScope {
		return sdkmetric.Stream{}, false
	}
	stream := sdkmetric.Stream{Name: instrument.Name, Description: instrument.Description, Unit: instrument.Unit, AttributeFilter: attribute.NewAllowKeysFilter(temporalLabels...)}
	if stream.Description == "" {
		stream.Description = "Measured by Temporal's SDK; see its reference of metrics."
	}
	if instrument.Kind == sdkmetric.InstrumentKindHistogram {
		stream.Aggregation = sdkmetric.AggregationExplicitBucketHistogram{Boundaries: temporalBuckets}
	}
	return stream, true
}

// OpenTelemetry is the library's own meter under a name, for libraries that measure themselves by it.
func (m *Meter) OpenTelemetry(name string) metric.Meter { return m.provider.Meter(name) }

// Gatherer reads what stands now.
func (m *Meter) Gatherer() prometheus.Gatherer { return m.registry }

// Handler answers a scrape in Prometheus's exposition format.
func (m *Meter) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{m.log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout,
	})
}

// scrapeLog writes what went wrong with a scrape to our log.
type scrapeLog struct{ log *slog.Logger }

// Println writes one trouble.
func (l scrapeLog) Println(about ...any) {
	l.log.Warn("a scrape of the metrics had trouble", "error", fmt.Sprint(about...))
}

// Counter only rises. The zero value counts nothing.
type Counter struct {
	counter metric.Int64Counter
	of      Metric
}

// Counter makes the counter of a metric. One without labels stands at zero from now on, so that its first rise is seen as one.
func (m *Meter) Counter(of Metric) Counter {
	if m == nil {
		return Counter{}
	}
	counter, err := m.meter.Int64Counter(of.Name, metric.WithDescription(of.Help), metric.WithUnit(of.unit()))
	m.check(of, err)
	made := Counter{counter, of}
	if len(of.Labels) == 0 {
		made.Add(context.Background(), 0)
	}
	return made
}

// FromZero has the counter stand at zero under values of its one label from now on, so that the first rise of each is seen as one.
func (c Counter) FromZero(values ...string) Counter {
	for _, value := range values {
		c.Add(context.Background(), 0, value)
	}
	return c
}

// Add counts so many, under the values of the metric's labels in their order.
func (c Counter) Add(ctx context.Context, many int64, values ...string) {
	if c.counter != nil {
		c.counter.Add(ctx, many, metric.WithAttributeSet(c.of.with(values)))
	}
}

// Histogram counts observations by their size. The zero value counts nothing.
type Histogram struct {
	histogram metric.Float64Histogram
	of        Metric
}

// Histogram makes the histogram of a metric.
func (m *Meter) Histogram(of Metric) Histogram {
	if m == nil {
		return Histogram{}
	}
	histogram, err := m.meter.Float64Histogram(of.Name, metric.WithDescription(of.Help), metric.WithUnit(of.unit()), metric.WithExplicitBucketBoundaries(of.Buckets...))
	m.check(of, err)
	return Histogram{histogram, of}
}

// Record counts an observation, in the unit of the metric, under the values of its labels in their order.
func (h Histogram) Record(ctx context.Context, size float64, values ...string) {
	if h.histogram != nil {
		h.histogram.Record(ctx, size, metric.WithAttributeSet(h.of.with(values)))
	}
}

// Level is a gauge that is moved up and down. The zero value counts nothing.
type Level struct {
	level metric.Int64UpDownCounter
	of    Metric
}

// Level makes the gauge of a metric, at zero.
func (m *Meter) Level(of Metric) Level {
	if m == nil {
		return Level{}
	}
	level, err := m.meter.Int64UpDownCounter(of.Name, metric.WithDescription(of.Help), metric.WithUnit(of.unit()))
	m.check(of, err)
	made := Level{level, of}
	if len(of.Labels) == 0 {
		made.Move(context.Background(), 0)
	}
	return made
}

// Move moves it by so many, under the values of the metric's labels in their order.
func (l Level) Move(ctx context.Context, by int64, values ...string) {
	if l.level != nil {
		l.level.Add(ctx, by, metric.WithAttributeSet(l.of.with(values)))
	}
}

// See is told a value of a metric, under the values of its labels in their order.
type See func(of Metric, value float64, labels ...string)

// Observe has look say what stands whenever somebody scrapes: counters and gauges that something else keeps. On an error those are missing from
// the scrape, which is logged.
func (m *Meter) Observe(look func(context.Context, See) error, of ...Metric) {
	if m == nil {
		return
	}
	observables, instruments := map[string]metric.Float64Observable{}, make([]metric.Observable, 0, len(of))
	for _, one := range of {
		var (
			made metric.Float64Observable
			err  error
		)
		if one.Kind == CounterKind {
			made, err = m.meter.Float64ObservableCounter(one.Name, metric.WithDescription(one.Help), metric.WithUnit(one.unit()))
		} else {
			made, err = m.meter.Float64ObservableGauge(one.Name, metric.WithDescription(one.Help), metric.WithUnit(one.unit()))
		}
		m.check(one, err)
		observables[one.Name], instruments = made, append(instruments, made)
	}
	_, err := m.meter.RegisterCallback(func(ctx context.Context, observer metric.Observer) error {
		if err := look(ctx, func(of Metric, value float64, labels ...string) {
			observer.ObserveFloat64(observables[of.Name], value, metric.WithAttributeSet(of.with(labels)))
		}); err != nil {
			m.log.WarnContext(ctx, "some metrics could not be measured and are missing from this scrape", "first", of[0].Name, "error", err.Error())
		}
		return nil
	}, instruments...)
	if len(of) > 0 {
		m.check(of[0], err)
	}
}

// check says that a metric cannot be made: a mistake of the catalogue, which its test finds.
func (m *Meter) check(of Metric, err error) {
	if err != nil {
		m.log.Error("a metric cannot be measured", "metric", of.Name, "error", err.Error())
	}
}

// with names the values of the metric's labels. Values that are missing or too many are a mistake of the programmer.
func (m Metric) with(values []string) attribute.Set {
	if len(values) != len(m.Labels) {
		panic(fmt.Sprintf("%s has the labels %q and is given %q", m.Name, m.Labels, values))
	}
	labels := make([]attribute.KeyValue, len(values))
	for i, value := range values {
		labels[i] = attribute.String(m.Labels[i], value)
	}
	return attribute.NewSet(labels...)
}
