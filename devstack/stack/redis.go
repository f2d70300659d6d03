package stack

import (
	"context"
	"fmt"

	embedded "github.com/gpuaas/gpuaas/devstack/redisserver"
	"github.com/gpuaas/gpuaas/internal/redis/redisserver"
)

// RedisKind is which Redis an instance runs.
type RedisKind string

// The kinds: in this process, needing nothing; or a redis-server of this machine, as in production and in tests.
const (
	RedisEmbedded RedisKind = "embedded"
	RedisReal     RedisKind = "real"
)

// RedisServer is a running Redis of either kind.
type RedisServer interface {
	URL() string
	Stop() error
}

// ParseRedisKind reads GPUAAS_REDIS; empty stays empty.
func ParseRedisKind(text string) (RedisKind, error) {
	switch kind := RedisKind(text); kind {
	case "", RedisEmbedded, RedisReal:
		return kind, nil
	default:
		return "", fmt.Errorf("GPUAAS_REDIS must be embedded or real, not %q", text)
	}
}

func (s *Stack) startRedis(ctx context.Context) error {
	if s.cfg.Redis != RedisReal {
		running, err := embedded.StartEmbedded(s.Ports.Redis())
		if err != nil {
			return err
		}
		s.Redis = running
		return nil
	}
	running, err := redisserver.Start(ctx, redisserver.Config{Binary: s.cfg.RedisBin, Directory: s.path("redis"), Port: s.Ports.Redis()})
	if err != nil {
		return err
	}
	s.Redis, s.redisBinary = running, running.Config().Binary
	return nil
}
