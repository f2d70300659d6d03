package redis_test

import (
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/internal/redis"
)

func TestAConfigurationSaysItsMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		config redis.Config
		want   []string
	}{
		"plain":              {config: redis.Config{URL: "redis://localhost:6379/0", Prefix: "gpuaas:"}},
		"with TLS":           {config: redis.Config{URL: "rediss://u:p@redis.internal:6380/3", Prefix: "a"}},
		"nothing":            {want: []string{"REDIS_URL must look like", "REDIS_KEY_PREFIX must be"}},
		"another scheme":     {config: redis.Config{URL: "http://localhost:6379", Prefix: "a"}, want: []string{"REDIS_URL must look like"}},
		"no host":            {config: redis.Config{URL: "redis:///0", Prefix: "a"}, want: []string{"REDIS_URL must look like"}},
		"no number":          {config: redis.Config{URL: "redis://h/first", Prefix: "a"}, want: []string{"REDIS_URL must look like"}},
		"time-outs of its":   {config: redis.Config{URL: "redis://h/0?read_timeout=10s", Prefix: "a"}, want: []string{"REDIS_URL must look like"}},
		"a prefix with tags": {config: redis.Config{URL: "redis://h/0", Prefix: "{a}"}, want: []string{"REDIS_KEY_PREFIX must be"}},
	} {
		t.Run(name, func(t *testing.T) {
			mistakes := test.config.Check()
			if len(mistakes) != len(test.want) {
				t.Fatalf("the mistakes are %q", mistakes)
			}
			for i, want := range test.want {
				if !strings.Contains(mistakes[i], want) {
					t.Errorf("mistake %d is %q, not %q", i, mistakes[i], want)
				}
			}
		})
	}
}
