package process_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"

	"github.com/gpuaas/gpuaas/internal/process"
)

func TestConfigureSaysEveryMistakeInASentence(t *testing.T) {
	cases := map[string]struct {
		environment map[string]string
		arguments   []string
		want        []string
	}{
		"a required variable is missing": {want: []string{"DATABASE_URL is not set."}},
		"no number": {
			environment: map[string]string{"DATABASE_URL": "postgres://h/d", "WORKER_ACTIVITY_POLLERS": "many"},
			want:        []string{"WORKER_ACTIVITY_POLLERS takes a whole number"},
		},
		"two mistakes at once": {
			environment: map[string]string{"DATABASE_URL": "mysql://h/d", "WORKER_WORKFLOW_POLLERS": "1"},
			want:        []string{"DATABASE_URL must look like", "WORKER_WORKFLOW_POLLERS must be at least 2."},
		},
		"half a certificate": {
			environment: map[string]string{"DATABASE_URL": "postgres://h/d", "TEMPORAL_TLS_CERT_FILE": "c.pem"},
			want:        []string{"TEMPORAL_TLS_CERT_FILE and TEMPORAL_TLS_KEY_FILE must be set together."},
		},
		"an argument": {arguments: []string{"--fast"}, want: []string{`takes no argument "--fast"`}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.environment {
				t.Setenv(variable, value)
			}
			_, err := process.Configure[process.BillingWorkerConfig]("billing-worker", "", test.arguments, &strings.Builder{})
			var mistakes process.Mistakes
			if !errors.As(err, &mistakes) || len(mistakes) != len(test.want) {
				t.Fatalf("the mistakes are %q", err)
			}
			for i, want := range test.want {
				if !strings.Contains(mistakes[i], want) {
					t.Errorf("mistake %d is %q, not %q", i, mistakes[i], want)
				}
			}
		})
	}
}

func TestHelpListsEveryVariable(t *testing.T) {
	var help strings.Builder
	if _, err := process.Configure[process.ProvisioningWorkerConfig]("provisioning-worker", "does things", []string{"--help"}, &help); !errors.Is(err, process.ErrHelp) {
		t.Fatalf("--help answers %v", err)
	}
	fields, err := env.GetFieldParams(&process.ProvisioningWorkerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, field := range fields {
		if field.OwnKey == "" || field.OwnKey == "-" {
			continue
		}
		listed++
		if !strings.Contains(help.String(), "  "+field.OwnKey+" ") {
			t.Errorf("%s is not listed in\n%s", field.OwnKey, help.String())
		}
	}
	if listed < 10 {
		t.Errorf("only %d variables were found", listed)
	}
}

func TestTheDefaultsOfAWorkerAreTheEnvironments(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://h/d")
	config, err := process.Configure[process.BillingWorkerConfig]("billing-worker", "", nil, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	if want := process.DefaultWorkerConfig(); !reflect.DeepEqual(config.Worker, want) {
		t.Errorf("the environment gives %+v, not %+v", config.Worker, want)
	}
}
