package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"
)

// measured makes every metric of the catalogue, as programs do, and answers what a scrape of it holds.
func measured(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	meter, err := NewMeter("test", "1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range Catalogue() {
		values := make([]string, len(one.Labels))
		for i := range values {
			values[i] = "some"
		}
		switch {
		case one.Name == BuildInfo.Name:
		case one.Kind == CounterKind:
			meter.Counter(one).Add(t.Context(), 1, values...)
		case one.Kind == HistogramKind:
			meter.Histogram(one).Record(t.Context(), 1, values...)
		default:
			meter.Observe(func(_ context.Context, see See) error { see(one, 1, values...); return nil }, one)
		}
	}
	temporal := meter.OpenTelemetry(TemporalScope)
	requests, err := temporal.Int64Counter("temporal_request")
	if err != nil {
		t.Fatal(err)
	}
	requests.Add(t.Context(), 1)
	families, err := meter.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, family := range families {
		found[family.GetName()] = family
	}
	return found
}

func TestEveryMetricIsExposedUnderItsNameAndPassesTheLint(t *testing.T) {
	families := measured(t)
	kinds := map[Kind]dto.MetricType{CounterKind: dto.MetricType_COUNTER, GaugeKind: dto.MetricType_GAUGE, HistogramKind: dto.MetricType_HISTOGRAM}
	for _, one := range Catalogue() {
		family, exposed := families[one.Name]
		if !exposed {
			t.Errorf("%s is not exposed under its name", one.Name)
			continue
		}
		if family.GetType() != kinds[one.Kind] || family.GetHelp() != one.Help {
			t.Errorf("%s is exposed as a %s: %s", one.Name, family.GetType(), family.GetHelp())
		}
		if got := labelsOf(family.GetMetric()[0]); !slices.Equal(got, slices.Sorted(slices.Values(one.Labels))) {
			t.Errorf("%s has the labels %q", one.Name, got)
		}
		if one.Kind == HistogramKind && (len(one.Buckets) == 0 || !slices.IsSorted(one.Buckets)) {
			t.Errorf("%s has the buckets %v", one.Name, one.Buckets)
		}
		if len(one.Programs) == 0 || !strings.HasSuffix(one.Help, ".") {
			t.Errorf("%s says too little", one.Name)
		}
	}
	all := make([]*dto.MetricFamily, 0, len(families))
	for _, family := range families {
		all = append(all, family)
	}
	problems, err := promlint.NewWithMetricFamilies(all).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	if _, renamed := families["temporal_request_total"]; !renamed {
		t.Error("what Temporal's SDK counts has no _total")
	}
	for _, process := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if _, there := families[process]; !there {
			t.Errorf("%s is missing", process)
		}
	}
}

func labelsOf(series *dto.Metric) []string {
	var names []string
	for _, label := range series.GetLabel() {
		names = append(names, label.GetName())
	}
	slices.Sort(names)
	return names
}

func TestNoLabelNamesSomebody(t *testing.T) {
	for _, one := range Catalogue() {
		for _, label := range one.Labels {
			for _, unbounded := range []string{"id", "tenant", "user", "account", "allocation", "node", "project", "path", "name", "url", "email"} {
				if label == unbounded || strings.HasSuffix(label, "_id") {
					t.Errorf("%s is told apart by %s, of which there may be any number", one.Name, label)
				}
			}
		}
	}
}

// row is a line of the tables of docs/metrics.md.
var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|([^|]+)\\|$")

// documented is how a metric stands in docs/metrics.md.
func (m Metric) documented() []string {
	unit := map[string]string{"s": "seconds", "By": "bytes", "": ""}[m.unit()]
	labels := make([]string, len(m.Labels))
	for i, label := range m.Labels {
		labels[i] = "`" + label + "`"
	}
	return []string{m.Name, string(m.Kind), unit, strings.Join(labels, ", "), strings.Join(m.Programs, ", "), m.Help}
}

func TestTheDocumentListsWhatIsMeasured(t *testing.T) {
	document, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var said, wanted []string
	for _, found := range row.FindAllStringSubmatch(string(document), -1) {
		for i := range found {
			found[i] = strings.TrimSpace(found[i])
		}
		said = append(said, strings.Join(found[1:], " | "))
	}
	for _, one := range Catalogue() {
		wanted = append(wanted, strings.Join(one.documented(), " | "))
	}
	for _, line := range wanted {
		if !slices.Contains(said, line) {
			t.Errorf("docs/metrics.md lacks the row\n| `%s |", strings.Replace(line, " |", "` |", 1))
		}
	}
	for _, line := range said {
		if !slices.Contains(wanted, line) {
			t.Errorf("docs/metrics.md has a row of which nothing is measured: %s", line)
		}
	}
}

// What of an expression of PromQL names a metric of ours, and which labels it goes by.
var (
	inExpression = regexp.MustCompile(`\b((?:gpuaas|temporal)_[a-z_]+)(\{[^}]*\})?`)
	inSelector   = regexp.MustCompile(`([a-z_]+)\s*(?:=|!)`)
	grouped      = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)
	inText       = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

func TestEveryAlertAsksForWhatIsMeasured(t *testing.T) {
	content, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(content)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	measured, labels := map[string]bool{"temporal_request_failure_total": true}, map[string][]string{"temporal_request_failure_total": {"operation", "status_code"}}
	for _, one := range Catalogue() {
		names := []string{one.Name}
		if one.Kind == HistogramKind {
			names = []string{one.Name + "_bucket", one.Name + "_count", one.Name + "_sum"}
		}
		for _, name := range names {
			measured[name], labels[name] = true, append([]string{"job", "instance", "le"}, one.Labels...)
		}
	}
	alerts := map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" || alerts[rule.Alert] {
				t.Errorf("%q of %s is no alert of its own", rule.Alert, group.Name)
			}
			alerts[rule.Alert] = true
			if rule.Annotations["summary"] == "" || rule.Annotations["runbook"] == "" || rule.Labels["severity"] == "" {
				t.Errorf("%s says too little: %v %v", rule.Alert, rule.Labels, rule.Annotations)
			}
			found, by := inExpression.FindAllStringSubmatch(rule.Expr, -1), []string{}
			for _, one := range found {
				if !measured[one[1]] {
					t.Errorf("%s asks for %s, which nothing measures", rule.Alert, one[1])
				}
				by = append(by, labels[one[1]]...)
				for _, label := range inSelector.FindAllStringSubmatch(one[2], -1) {
					if !slices.Contains(labels[one[1]], label[1]) {
						t.Errorf("%s selects by %s, which %s does not have", rule.Alert, label[1], one[1])
					}
				}
			}
			if len(found) == 0 {
				t.Errorf("%s asks for nothing of ours: %s", rule.Alert, rule.Expr)
			}
			kept := strings.Fields(strings.ReplaceAll(strings.Join(slices.Concat(grouped.FindAllStringSubmatch(rule.Expr, -1)...), ","), ",", " "))
			for _, text := range rule.Annotations {
				for _, label := range inText.FindAllStringSubmatch(text, -1) {
					if !slices.Contains(kept, label[1]) || !slices.Contains(by, label[1]) {
						t.Errorf("%s tells of the label %s, which its expression does not keep", rule.Alert, label[1])
					}
				}
			}
		}
	}
	if len(alerts) < 8 {
		t.Errorf("only %d alerts were found", len(alerts))
	}
}

func TestAScrapeOutlivesWhatCannotBeAsked(t *testing.T) {
	meter, err := NewMeter("test", "1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	meter.Observe(func(context.Context, See) error { return errors.New("the database is away") }, Allocations)
	meter.Counter(NotificationSlowReaders)
	recorder := httptest.NewRecorder()
	meter.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil || recorder.Code != http.StatusOK {
		t.Fatalf("a scrape is answered %d, %v", recorder.Code, err)
	}
	if strings.Contains(string(body), Allocations.Name) || !strings.Contains(string(body), "\n"+NotificationSlowReaders.Name+" 0\n") {
		t.Errorf("the scrape is %s", body)
	}
}

func TestWithoutAMeterNothingIsCounted(t *testing.T) {
	var meter *Meter
	meter.Counter(HTTPRequests).Add(t.Context(), 1)
	meter.Histogram(HTTPRequestDuration).Record(t.Context(), 1)
	meter.Level(NotificationSockets).Move(t.Context(), 1)
	meter.Observe(nil, Allocations)
	Counter{}.Add(t.Context(), 1)
}
