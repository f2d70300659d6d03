package nats_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/internal/nats"
)

func TestEveryMistakeOfTheConfigurationHasASentence(t *testing.T) {
	fine := nats.Config{URL: "nats://u:p@a:4222,nats://u:p@b:4222", Streams: nats.DefaultStreams()}
	if mistakes := fine.Check(); len(mistakes) != 0 {
		t.Fatalf("a cluster of two is refused: %v", mistakes)
	}
	cases := map[string]struct {
		change func(*nats.Config)
		want   string
	}{
		"another scheme":  {func(c *nats.Config) { c.URL = "http://host:4222" }, "NATS_URL"},
		"no host":         {func(c *nats.Config) { c.URL = "nats://" }, "NATS_URL"},
		"one bad server":  {func(c *nats.Config) { c.URL += ",redis://c" }, "NATS_URL"},
		"no replica":      {func(c *nats.Config) { c.Streams.Replicas = 0 }, "NATS_STREAM_REPLICAS"},
		"another storage": {func(c *nats.Config) { c.Streams.Storage = "tape" }, "NATS_STREAM_STORAGE"},
		"too short":       {func(c *nats.Config) { c.Streams.MaxAge = time.Minute }, "NATS_STREAM_MAX_AGE"},
		"window too long": {func(c *nats.Config) { c.Streams.DuplicateWindow = 1000 * time.Hour }, "NATS_DUPLICATE_WINDOW"},
		"letters go soon": {func(c *nats.Config) { c.Streams.LetterMaxAge = time.Second }, "NATS_DLQ_MAX_AGE"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			config := fine
			test.change(&config)
			if mistakes := config.Check(); len(mistakes) == 0 || !strings.Contains(strings.Join(mistakes, " "), test.want) {
				t.Errorf("the mistakes are %q", mistakes)
			}
		})
	}
}
