package middleware

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// TrustedProxies are the networks of our own proxies: what they say in X-Forwarded-For is believed, and nobody else's word.
type TrustedProxies []netip.Prefix

// ParseTrustedProxies reads networks such as 10.0.0.0/8, or single addresses.
func ParseTrustedProxies(list []string) (TrustedProxies, error) {
	var proxies TrustedProxies
	for _, text := range list {
		text = strings.TrimSpace(text)
		if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
			address = address.Unmap()
			proxies = append(proxies, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 10.0.0.0/8", text)
		}
		proxies = append(proxies, network.Masked())
	}
	return proxies, nil
}

func (t TrustedProxies) contain(address netip.Addr) bool {
	for _, network := range t {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// Client is the address that a request comes from: the peer's, or, while that is a trusted proxy, the one that it names last. What
// stands further left was written by whoever is not trusted. The zero address when the peer has none.
func (t TrustedProxies) Client(r *http.Request) netip.Addr {
	client, _ := parsePeer(r.RemoteAddr)
	hops := r.Header.Values("X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		for rest := hops[i]; rest != ""; {
			if !t.contain(client) {
				return client
			}
			comma := strings.LastIndexByte(rest, ',')
			named, ok := parsePeer(strings.TrimSpace(rest[comma+1:]))
			if !ok {
				return client // the proxy does not know; its own address is the best there is
			}
			client, rest = named, rest[:max(comma, 0)]
		}
	}
	return client
}

// parsePeer reads an address with or without a port.
func parsePeer(text string) (netip.Addr, bool) {
	if peer, err := netip.ParseAddrPort(text); err == nil {
		return peer.Addr().WithZone("").Unmap(), true
	}
	address, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return address.WithZone("").Unmap(), true
}
