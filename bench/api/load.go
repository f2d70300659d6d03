package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sample is what one side did in one round: answers a second and the times of one.
type sample struct {
	rate     float64
	p50, p99 time.Duration
}

// client keeps as many connections as are asked for.
func client(connections int) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
}

// load sends requests over so many connections, one after the other on each, for a while.
func load(ctx context.Context, connections int, lasting time.Duration, request func(context.Context) (*http.Request, error)) (sample, error) {
	caller := client(connections)
	defer caller.CloseIdleConnections()
	if _, err := storm(ctx, caller, connections, warmUp, request); err != nil {
		return sample{}, err
	}
	return storm(ctx, caller, connections, lasting, request)
}

func storm(ctx context.Context, caller *http.Client, connections int, lasting time.Duration, request func(context.Context) (*http.Request, error)) (sample, error) {
	end := time.Now().Add(lasting)
	return together(connections, func() (bool, error) {
		if !time.Now().Before(end) {
			return false, nil
		}
		return true, call(ctx, caller, http.StatusOK, request)
	})
}

// together repeats one call on each connection until it says that there is no more to do.
func together(connections int, one func() (bool, error)) (sample, error) {
	var (
		working sync.WaitGroup
		mutex   sync.Mutex
		times   []time.Duration
		trouble error
		failed  atomic.Bool
	)
	began := time.Now()
	for range connections {
		working.Go(func() {
			var own []time.Duration
			for !failed.Load() {
				asked := time.Now()
				more, err := one()
				if err != nil {
					failed.Store(true)
					mutex.Lock()
					trouble = errors.Join(trouble, err)
					mutex.Unlock()
				}
				if !more || err != nil {
					break
				}
				own = append(own, time.Since(asked))
			}
			mutex.Lock()
			times = append(times, own...)
			mutex.Unlock()
		})
	}
	working.Wait()
	took := time.Since(began)
	if trouble != nil || len(times) == 0 {
		return sample{}, errors.Join(trouble, errors.New("nothing was measured"))
	}
	slices.Sort(times)
	return sample{rate: float64(len(times)) / took.Seconds(), p50: times[len(times)/2], p99: times[len(times)*99/100]}, nil
}

func call(ctx context.Context, caller *http.Client, status int, request func(context.Context) (*http.Request, error)) error {
	asked, err := request(ctx)
	if err != nil {
		return err
	}
	answer, err := caller.Do(asked)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != status {
		err = fmt.Errorf("%s %s answers %s: %s", asked.Method, asked.URL.Path, answer.Status, body)
	}
	return err
}

func geometricMean(values []float64) float64 {
	var sum float64
	for _, value := range values {
		sum += math.Log(value)
	}
	return math.Exp(sum / float64(len(values)))
}
