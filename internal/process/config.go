// Package process assembles a program from the rooms below it: RunAPI, RunBillingWorker, RunProvisioningWorker and
// RunNodeAgent, each with a configuration that is read from the environment and checked at start. It is the only
// package of internal that looks upward, to api, activities, workflows and agent; cmd and devstack import it.
package process

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"

	"github.com/gpuaas/gpuaas/internal/telemetry"
)

// ErrHelp says that the variables were listed, because --help was given.
var ErrHelp = errors.New("help was asked for")

// checked is a configuration that knows its mistakes beyond the types of its fields: a sentence each.
type checked interface{ Check() []string }

// Mistakes are the sentences that say what is wrong with a configuration.
type Mistakes []string

// Error is the sentences, one a line.
func (m Mistakes) Error() string { return strings.Join(m, "\n") }

// Configure reads a configuration from the environment. It answers Mistakes with every mistake at once, and ErrHelp
// after listing the variables on help when the arguments ask for it.
func Configure[Config checked](program, summary string, arguments []string, help io.Writer) (Config, error) {
	var config Config
	if len(arguments) > 0 {
		switch arguments[0] {
		case "--help", "-h", "help":
			return config, errors.Join(ErrHelp, listVariables(help, program, summary, config))
		}
		return config, Mistakes{fmt.Sprintf("%s takes no argument %q: it is configured by environment variables, which --help lists.", program, arguments[0])}
	}
	var mistakes Mistakes
	if err := env.Parse(&config); err != nil {
		mistakes = sentences(err, reflect.TypeFor[Config]())
	}
	// A variable that is missing or unreadable has had its sentence; the rest is judged only when all can be read.
	if len(mistakes) == 0 {
		mistakes = config.Check()
	}
	if len(mistakes) > 0 {
		return config, mistakes
	}
	return config, nil
}

// sentences makes a clear sentence of each mistake that the parser found.
func sentences(err error, kind reflect.Type) Mistakes {
	var found env.AggregateError
	if !errors.As(err, &found) {
		return Mistakes{err.Error()}
	}
	var mistakes Mistakes
	for _, one := range found.Errors {
		var (
			unset   env.VarIsNotSetError
			empty   env.EmptyVarError
			unfit   env.ParseError
			problem = one.Error()
		)
		switch {
		case errors.As(one, &unset):
			problem = unset.Key + " is not set."
		case errors.As(one, &empty):
			problem = empty.Key + " is empty."
		case errors.As(one, &unfit):
			problem = fmt.Sprintf("%s takes %s: %v.", variableOf(kind, unfit.Name), article(unfit.Type), unfit.Err)
		}
		mistakes = append(mistakes, problem)
	}
	return mistakes
}

// variableOf is the variable behind a field that the parser names.
func variableOf(kind reflect.Type, fieldName string) string {
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if name == "" && field.Type.Kind() == reflect.Struct {
			if name = variableOf(field.Type, fieldName); name != "" {
				return name
			}
		}
		if field.Name == fieldName {
			return name
		}
	}
	return ""
}

func article(kind reflect.Type) string {
	switch kind.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number (or a duration such as 10s)"
	default:
		return "a " + kind.String()
	}
}

// listVariables prints every variable with its default and meaning.
func listVariables(w io.Writer, program, summary string, config any) error {
	if _, err := fmt.Fprintf(w, "%s: %s\n\nIt takes no arguments. Environment variables:\n\n", program, summary); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	describe(table, reflect.TypeOf(config))
	return table.Flush()
}

func describe(table io.Writer, kind reflect.Type) {
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("env"), ",")
		switch {
		case name == "-":
		case name != "":
			value := field.Tag.Get("envDefault")
			if strings.Contains(options, "required") {
				value = "(required)"
			}
			_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\n", name, value, field.Tag.Get("usage"))
		case field.Type.Kind() == reflect.Struct:
			describe(table, field.Type)
		}
	}
}

// DatabaseConfig is where PostgreSQL is.
type DatabaseConfig struct {
	URL            string `env:"DATABASE_URL,required" usage:"PostgreSQL URL of the database, in the rights of the programs"`
	MaxConnections int32  `env:"DATABASE_MAX_CONNECTIONS" envDefault:"16" usage:"size of this program's connection pool"`
}

// Check says what is wrong with it.
func (c DatabaseConfig) Check() []string {
	var mistakes []string
	parsed, err := url.Parse(c.URL)
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") {
		mistakes = append(mistakes, "DATABASE_URL must look like postgres://user:password@host:5432/database.")
	}
	if c.MaxConnections < 2 {
		mistakes = append(mistakes, "DATABASE_MAX_CONNECTIONS must be at least 2.")
	}
	return mistakes
}

// LogConfig says what is logged.
type LogConfig struct {
	Level slog.Level `env:"LOG_LEVEL" envDefault:"info" usage:"debug, info, warn or error"`
	// Logger replaces the one that writes JSON lines to standard error; set when several programs share a process.
	Logger *slog.Logger `env:"-"`
}

// TraceConfig says where spans go.
type TraceConfig struct {
	Endpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" usage:"http(s)://host:port of an OpenTelemetry collector, OTLP over HTTP; empty: no tracing"`
}

// Check says what is wrong with it.
func (c TraceConfig) Check() []string {
	if parsed, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "") {
		return []string{"OTEL_EXPORTER_OTLP_ENDPOINT must look like http://host:port."}
	}
	return nil
}

// logger is what the program logs to.
func (c LogConfig) logger(program string) *slog.Logger {
	log := c.Logger
	if log == nil {
		log = telemetry.NewLogger(os.Stderr, c.Level)
	}
	return log.With("program", program)
}
