// Package mtls is who speaks to whom inside: SPIFFE names in certificates, the TLS configurations of servers and
// clients, and a service's certificate that renews itself and is used without a restart. It imports internal/ca,
// domain/id and the standard library.
package mtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
)

// TrustDomain is the SPIFFE trust domain of the platform.
const TrustDomain = "gpuaas"

// Names of services in certificates.
const ServiceAPI = "api"

// NodeURI is spiffe://gpuaas/node/<node_id>.
func NodeURI(nodeID id.Node) *url.URL { return spiffe("/node/" + string(nodeID)) }

// ServiceURI is spiffe://gpuaas/service/<name>.
func ServiceURI(name string) *url.URL { return spiffe("/service/" + name) }

func spiffe(path string) *url.URL { return &url.URL{Scheme: "spiffe", Host: TrustDomain, Path: path} }

// Peer is who a verified certificate names: a node or a service, never both.
type Peer struct {
	Node    id.Node
	Service string
	// NotBefore and NotAfter bound the certificate that the connection was opened with.
	NotBefore, NotAfter time.Time
}

// ErrNoPeer says that the connection has no verified client certificate.
var ErrNoPeer = errors.New("the connection has no verified certificate")

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// PeerOf reads who is at the other end of a connection whose certificate was verified in the handshake. A
// certificate has exactly one URI and it is a name of this platform; anything else is nobody.
func PeerOf(state *tls.ConnectionState) (Peer, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return Peer{}, ErrNoPeer
	}
	leaf := state.VerifiedChains[0][0]
	peer := Peer{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	if len(leaf.URIs) != 1 {
		return Peer{}, errors.New("a certificate of this platform has exactly one SPIFFE name")
	}
	name := leaf.URIs[0].String()
	if text, found := strings.CutPrefix(name, "spiffe://"+TrustDomain+"/node/"); found {
		nodeID, err := id.Parse[id.Node](text)
		if err != nil {
			return Peer{}, fmt.Errorf("the name %q is not a node's: %w", name, err)
		}
		peer.Node = nodeID
		return peer, nil
	}
	if text, found := strings.CutPrefix(name, "spiffe://"+TrustDomain+"/service/"); found && serviceName.MatchString(text) {
		peer.Service = text
		return peer, nil
	}
	return Peer{}, fmt.Errorf("the name %q is not one of this platform", name)
}
