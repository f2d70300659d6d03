//go:build integration

package nodeapi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/ca/catest"
	"github.com/gpuaas/gpuaas/internal/mtls"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
	"github.com/gpuaas/gpuaas/workflows"
)

// with is an HTTP client that shows these certificates and trusts the world's root.
func (w *world) with(certificates ...tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.authority.RootPEM())
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certificates) == 0 {
			return &tls.Certificate{}, nil
		}
		return &certificates[0], nil
	}}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// ask posts a body and answers the fault's code, empty for 200; an error when TLS itself refused.
func (w *world) ask(client *http.Client, path, contentType, body string) (fault.Code, error) {
	response, err := client.Post(w.url+path, contentType, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return "", err
	}
	var told envelope
	if err := json.Unmarshal(content, &told); err != nil {
		return "", fmt.Errorf("status %d with %q", response.StatusCode, content)
	}
	if response.StatusCode != told.Code.HTTPStatus() || told.CorrelationID == "" || told.CorrelationID != response.Header.Get("X-Correlation-Id") || told.Details == nil ||
		response.Header.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s answered %d %v with %s", path, response.StatusCode, response.Header, content)
	}
	return told.Code, nil
}

func TestOnlyAValidNodeCertificateOpensTheGateway(t *testing.T) {
	w := newWorld(t)
	known := w.enrolled("gpu-1").NodeID()
	stranger := catest.New(t)
	now, later := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	name := mtls.NodeURI(known)
	other := id.New[id.Node]([16]byte{42})
	parse := func(text string) *url.URL {
		parsed, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	cases := map[string]struct {
		certificate *tls.Certificate
		// refused by TLS itself, or by this code; neither means that it opens
		handshake bool
		code      fault.Code
	}{
		"the node's own":             {certificate: certificate(w.authority, t, names(name), now, later)},
		"none":                       {code: fault.NodeCertificateInvalid},
		"expired":                    {certificate: certificate(w.authority, t, names(name), now.Add(-time.Hour), now), handshake: true},
		"not valid yet":              {certificate: certificate(w.authority, t, names(name), later, later.Add(time.Hour)), handshake: true},
		"of a foreign authority":     {certificate: certificate(stranger, t, names(name), now, later), handshake: true},
		"a service's":                {certificate: certificate(w.authority, t, names(mtls.ServiceURI("terminal-gateway")), now, later), code: fault.NodeCertificateInvalid},
		"with two names":             {certificate: certificate(w.authority, t, names(name, mtls.ServiceURI("api")), now, later), code: fault.NodeCertificateInvalid},
		"with no name":               {certificate: certificate(w.authority, t, nil, now, later), code: fault.NodeCertificateInvalid},
		"of another trust domain":    {certificate: certificate(w.authority, t, names(parse("spiffe://elsewhere/node/"+string(known))), now, later), code: fault.NodeCertificateInvalid},
		"with a path behind the id":  {certificate: certificate(w.authority, t, names(parse(name.String()+"/more")), now, later), code: fault.NodeCertificateInvalid},
		"of a node that is not here": {certificate: certificate(w.authority, t, names(mtls.NodeURI(other)), now, later), code: fault.NodeNotFound},
	}
	for what, c := range cases {
		client := w.with()
		if c.certificate != nil {
			client = w.with(*c.certificate)
		}
		for _, path := range []string{pathHeartbeat, pathInventory, pathRenew, "/anything"} {
			got, err := w.ask(client, path, "application/json", `{}`)
			want := c.code
			if want == "" && !c.handshake {
				want = map[string]fault.Code{pathRenew: fault.CertificateRequestInvalid, "/anything": fault.NotFound}[path]
			}
			if (err != nil) != c.handshake || got != want {
				t.Errorf("%s at %s: %q, %v; want %q", what, path, got, err, want)
			}
		}
	}
}

func certificate(authority *catest.Authority, t *testing.T, list []*url.URL, notBefore, notAfter time.Time) *tls.Certificate {
	t.Helper()
	made := authority.Certificate(t, list, notBefore, notAfter)
	return &made
}

func TestBadRequestsAreRefusedByTheirCode(t *testing.T) {
	w := newWorld(t)
	client := w.with(*certificate(w.authority, t, names(mtls.NodeURI(w.enrolled("gpu-1").NodeID())), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)))
	huge := `{"agent_version":"` + strings.Repeat("x", maxBodyBytes) + `"}`
	cases := []struct {
		path, contentType, body string
		want                    fault.Code
	}{
		{pathHeartbeat, "application/json", `{"unknown":1}`, fault.ValidationError},
		{pathHeartbeat, "application/json", `{"agent_version":1}`, fault.ValidationError},
		{pathHeartbeat, "application/json", `{`, fault.InvalidRequest},
		{pathHeartbeat, "application/json", ``, fault.InvalidRequest},
		{pathHeartbeat, "application/json", `{}{}`, fault.InvalidRequest},
		{pathHeartbeat, "application/json", huge, fault.RequestTooLarge},
		{pathHeartbeat, "text/plain", `{}`, fault.UnsupportedMediaType},
		{pathInventory, "application/json", `{"ssh_port":70000}`, fault.ValidationError},
		{pathInventory, "application/json", `{"cpus":-1}`, fault.ValidationError},
		{pathRenew, "application/json", `{"csr":"no"}`, fault.CertificateRequestInvalid},
		{pathEnrol, "application/json", `{"token":""}`, fault.EnrolTokenInvalid},
		{pathEnrol, "application/json", `{"token":"x","csr":"no"}`, fault.CertificateRequestInvalid},
	}
	for _, c := range cases {
		if got, err := w.ask(client, c.path, c.contentType, c.body); err != nil || got != c.want {
			t.Errorf("%s with %.40q: %q, %v; want %q", c.path, c.body, got, err, c.want)
		}
	}
	response, err := client.Get(w.url + pathHeartbeat)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET answered %d", response.StatusCode)
	}
}

func TestACertificateEndsWithItsConnectionOpenAndRenewsWithItsWorkerRunning(t *testing.T) {
	w := newWorld(t)
	w.giver()
	// A certificate that ends while its connection is open is refused on that connection.
	first := w.enrolled("gpu-1")
	brief := w.with(*certificate(w.authority, t, names(mtls.NodeURI(first.NodeID())), time.Now().Add(-time.Hour), time.Now().Add(3*time.Second)))
	if got, err := w.ask(brief, pathHeartbeat, "application/json", `{}`); err != nil || got != "" {
		t.Fatalf("a valid certificate: %q, %v", got, err)
	}
	temporaltest.Eventually(t, patience, func() error {
		if got, err := w.ask(brief, pathHeartbeat, "application/json", `{}`); err == nil && got == "" {
			return fmt.Errorf("the ended certificate still opens the gateway")
		}
		return nil
	})
	// A worker outlives its certificates: they last seconds here, and it goes on working after several of them.
	w.setPolicy("node.certificate_ttl_seconds", 600) // the least that policy takes; the authority below gives less
	w.server.config.Authority = brieflyCertifying{w.authority}
	text, nodeID := w.token("gpu-2", time.Hour)
	files := gateway.Files{Directory: t.TempDir()}
	if _, err := gateway.Enrol(w.ctx(), w.url, w.trust(), text, node.Inventory{}, files); err != nil {
		t.Fatal(err)
	}
	n, err := gateway.Connect(w.url, files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	renewing, stop := contextOf(t)
	defer stop()
	go func() { _ = n.KeepRenewed(renewing) }()
	agent := w.work(w.dial(n), nodeID)
	defer agent.Stop()
	begun := n.CertificateExpires()
	for n.CertificateExpires().Sub(begun) < 2*briefLife {
		var out string
		if err := w.give(nodeTask{Node: nodeID, Kind: node.GPUHealth}).Get(w.ctx(), &out); err != nil || out != "done input" {
			t.Fatalf("%q, %v", out, err)
		}
	}
	if time.Now().Before(begun) {
		t.Fatal("the first certificate has not ended: the test proves nothing")
	}
}

func TestAKeyIsRotatedUnderAHeldTask(t *testing.T) {
	w := newWorld(t)
	w.giver()
	n := w.enrolled("gpu-1")
	complete := func(keys string) codes.Code {
		t.Helper()
		through := w.dial(n)
		run := w.give(nodeTask{Node: n.NodeID(), Kind: node.GPUHealth})
		task := w.poll(through, n.NodeID())
		*w.server.config.Keys = *keysOf(t, keys)
		defer func() { *w.server.config.Keys = *keysOf(t, w.tokenKeys) }()
		_, err := through.WorkflowService().RespondActivityTaskCompleted(w.ctx(), &workflowservice.RespondActivityTaskCompletedRequest{TaskToken: task.GetTaskToken()})
		if err == nil {
			err = run.Get(w.ctx(), nil)
		}
		return code(err)
	}
	if got := complete(oldKey + "," + newKey); got != codes.OK {
		t.Errorf("during the overlap: %s", got)
	}
	if got := complete(oldKey); got != codes.PermissionDenied {
		t.Errorf("after the key was removed: %s", got)
	}
}

func TestAHugeMessageIsRefused(t *testing.T) {
	w := newWorld(t)
	through := w.dial(w.enrolled("gpu-1"))
	_, err := through.WorkflowService().PollActivityTaskQueue(w.ctx(), &workflowservice.PollActivityTaskQueueRequest{
		Namespace: w.namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: workflows.AllocationsQueue}, Identity: string(bytes.Repeat([]byte("x"), 2*maxMessageBytes)),
	})
	if code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 2 MiB: %v", err)
	}
}
