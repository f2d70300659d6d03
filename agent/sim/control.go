package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gpuaas/gpuaas/domain/node"
)

// order is the body of every POST of the control endpoint; each order reads its own fields.
type order struct {
	Task           node.TaskKind `json:"task"`
	DelayMS        int64         `json:"delay_ms"`
	Times          int           `json:"times"`
	On             bool          `json:"on"`
	VerifyToo      bool          `json:"verify_too"`
	Index          int           `json:"index"`
	UncorrectedECC int64         `json:"uncorrected_ecc"`
}

// maxOrderBytes bounds an order.
const maxOrderBytes = 1 << 16

// Control lets a drill look and give orders over HTTP:
//
//	GET  /state                    every node: {"nodes":[State]}
//	GET  /nodes/{node}/state       one node, by name or id
//	POST /nodes/{node}/vanish      and /return
//	POST /nodes/{node}/slow        {"task","delay_ms"}
//	POST /nodes/{node}/fail        {"task","times"}
//	POST /nodes/{node}/skip-wipe   {"on","verify_too"}
//	POST /nodes/{node}/gpu         {"index","uncorrected_ecc"}
func (f *Fleet) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		states := []State{}
		for _, member := range f.nodes {
			states = append(states, member.State())
		}
		answer(w, map[string]any{"nodes": states})
	})
	f.handle(mux, "GET /nodes/{node}/state", func(*Node, order) error { return nil })
	f.handle(mux, "POST /nodes/{node}/vanish", func(n *Node, _ order) error { n.Vanish(); return nil })
	f.handle(mux, "POST /nodes/{node}/return", func(n *Node, _ order) error { n.Return(); return nil })
	f.handle(mux, "POST /nodes/{node}/slow", func(n *Node, o order) error {
		if err := knownTask(o.Task); err != nil {
			return err
		}
		n.Slow(o.Task, time.Duration(o.DelayMS)*time.Millisecond)
		return nil
	})
	f.handle(mux, "POST /nodes/{node}/fail", func(n *Node, o order) error {
		if err := knownTask(o.Task); err != nil {
			return err
		}
		n.Fail(o.Task, o.Times)
		return nil
	})
	f.handle(mux, "POST /nodes/{node}/skip-wipe", func(n *Node, o order) error { n.SkipWipe(o.On, o.VerifyToo); return nil })
	f.handle(mux, "POST /nodes/{node}/gpu", func(n *Node, o order) error { return n.DamageGPU(o.Index, o.UncorrectedECC) })
	return mux
}

func knownTask(kind node.TaskKind) error {
	if !slices.Contains(node.TaskKinds(), kind) {
		return fmt.Errorf("there is no task %q", kind)
	}
	return nil
}

func (f *Fleet) handle(mux *http.ServeMux, pattern string, do func(*Node, order) error) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		member, found := f.Node(r.PathValue("node"))
		if !found {
			http.Error(w, "there is no such simulated node", http.StatusNotFound)
			return
		}
		var o order
		if r.Method == http.MethodPost && r.ContentLength != 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrderBytes)).Decode(&o); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		if err := do(member, o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, member.State())
	})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the reader may have left
}

// ServeControl serves Control on a loopback address until ctx ends; any other address is refused, because whoever
// reaches it commands the fleet. Listening, if set, is told the address.
func (f *Fleet) ServeControl(ctx context.Context, address string, listening func(address string)) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for orders to simulated nodes: %w", err)
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return errors.Join(fmt.Errorf("orders to simulated nodes are taken on loopback alone, not on %s", address), listener.Close())
	}
	if listening != nil {
		listening(listener.Addr().String())
	}
	server := &http.Server{Handler: f.Control(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}
