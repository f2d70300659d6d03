package webhook

import (
	"fmt"
	"net/netip"
	"strings"
)

// Guard says which addresses may be asked. Everything that is not on the public Internet is refused, unless it is allowed by name.
type Guard struct {
	// Allowed are networks that may be asked although they are not public.
	Allowed []netip.Prefix
}

// ParseNetworks reads networks such as 10.1.0.0/16.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 10.1.0.0/16", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// refused are the networks of the special-purpose registries of IANA that are not globally reachable, or lead into another address, with
// what is said of them. Loopback, link-local and multicast are among them, and with link-local the metadata services of clouds.
var refused = []struct {
	network netip.Prefix
	because string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this host"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, metadata"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved, broadcast"},
}

// public6 is the one part of IPv6 that is routed on the Internet; what is refused inside of it follows.
var public6 = netip.MustParsePrefix("2000::/3")

var refused6 = []netip.Prefix{
	netip.MustParsePrefix("2001::/23"),     // protocol assignments, Teredo among them
	netip.MustParsePrefix("2001:db8::/32"), // documentation
	netip.MustParsePrefix("2002::/16"),     // 6to4: an IPv4 address inside
	netip.MustParsePrefix("3fff::/20"),     // documentation
}

// Check says in a sentence why an address may not be asked. An IPv4 address inside an IPv6 one is judged as what it is.
func (g Guard) Check(address netip.Addr) error {
	if !address.IsValid() || address.Zone() != "" {
		return fmt.Errorf("the address %s is on no public network", address)
	}
	address = address.Unmap()
	for _, network := range g.Allowed {
		if network.Contains(address) {
			return nil
		}
	}
	if address.Is4() {
		for _, one := range refused {
			if one.network.Contains(address) {
				return fmt.Errorf("the address %s is on no public network (%s)", address, one.because)
			}
		}
		return nil
	}
	if !public6.Contains(address) {
		return fmt.Errorf("the address %s is on no public network", address)
	}
	for _, network := range refused6 {
		if network.Contains(address) {
			return fmt.Errorf("the address %s is on no public network", address)
		}
	}
	return nil
}
