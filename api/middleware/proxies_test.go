package middleware

import (
	"net/http"
	"testing"
)

func TestTheClientIsWhomATrustedProxyNames(t *testing.T) {
	proxies, err := ParseTrustedProxies([]string{"10.0.0.0/8", " 192.0.2.7", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                           {peer: "203.0.113.5:4711", want: "203.0.113.5"},
		"a stranger's word is not believed":  {peer: "203.0.113.5:4711", forwarded: []string{"198.51.100.1"}, want: "203.0.113.5"},
		"a proxy's is":                       {peer: "10.1.2.3:80", forwarded: []string{"198.51.100.1"}, want: "198.51.100.1"},
		"only the last one":                  {peer: "10.1.2.3:80", forwarded: []string{"127.0.0.1, 198.51.100.1"}, want: "198.51.100.1"},
		"through two proxies":                {peer: "10.1.2.3:80", forwarded: []string{"127.0.0.1, 198.51.100.1, 192.0.2.7"}, want: "198.51.100.1"},
		"in two lines":                       {peer: "10.1.2.3:80", forwarded: []string{"198.51.100.1", "10.9.9.9"}, want: "198.51.100.1"},
		"nothing but proxies":                {peer: "10.1.2.3:80", forwarded: []string{"10.4.4.4, 10.9.9.9"}, want: "10.4.4.4"},
		"with a port":                        {peer: "10.1.2.3:80", forwarded: []string{"198.51.100.1:55555"}, want: "198.51.100.1"},
		"IPv6":                               {peer: "[fd00::1]:80", forwarded: []string{"2001:db8::1"}, want: "2001:db8::1"},
		"IPv6 with a port":                   {peer: "10.1.2.3:80", forwarded: []string{"[2001:db8::1]:443"}, want: "2001:db8::1"},
		"IPv4 in IPv6":                       {peer: "[::ffff:10.1.2.3]:80", forwarded: []string{"::ffff:198.51.100.1"}, want: "198.51.100.1"},
		"what is no address ends the search": {peer: "10.1.2.3:80", forwarded: []string{"198.51.100.1, unknown"}, want: "10.1.2.3"},
		"an empty line":                      {peer: "10.1.2.3:80", forwarded: []string{""}, want: "10.1.2.3"},
		"an empty hop":                       {peer: "10.1.2.3:80", forwarded: []string{"198.51.100.1,"}, want: "10.1.2.3"},
		"no peer":                            {peer: "@", want: "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.forwarded}}
			if got := proxies.Client(r).String(); got != test.want {
				t.Errorf("the client is %s, not %s", got, test.want)
			}
		})
	}
	if _, err := ParseTrustedProxies([]string{"ten"}); err == nil {
		t.Error("a word is taken for a network")
	}
}

// A household's addresses share a budget; two households do not.
func TestAddressesOfOneNetworkShareABucket(t *testing.T) {
	limits, drawn := &RateLimits{}, budget{name: "b"}
	bucket := func(peer string) string { return limits.addressBucket(drawn, &http.Request{RemoteAddr: peer}) }
	if one, two := bucket("[2001:db8:1:2::3]:1"), bucket("[2001:db8:1:2:ffff::9]:2"); one != two {
		t.Errorf("one network has the buckets %s and %s", one, two)
	}
	if one, two := bucket("[2001:db8:1:2::3]:1"), bucket("[2001:db8:1:3::3]:1"); one == two {
		t.Errorf("two networks share %s", one)
	}
	if one, two := bucket("203.0.113.5:1"), bucket("203.0.113.6:1"); one == two {
		t.Errorf("two addresses share %s", one)
	}
}
