package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gpuaas/gpuaas/domain/fault"
)

func TestWhoseFaultAnErrorIs(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want fault.Code
	}{
		"a fault stays itself":         {fmt.Errorf("read: %w", fault.New(fault.NodeNotFound, "")), fault.NodeNotFound},
		"a code stays itself":          {fmt.Errorf("read: %w", fault.SKUNotFound), fault.SKUNotFound},
		"the database shuts down":      {fmt.Errorf("read: %w", &pgconn.PgError{Code: "57P01"}), fault.ServiceUnavailable},
		"it has no connection left":    {&pgconn.PgError{Code: "53300"}, fault.ServiceUnavailable},
		"the network is away":          {&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.ServiceUnavailable},
		"it took too long":             {fmt.Errorf("read: %w", context.DeadlineExceeded), fault.ServiceUnavailable},
		"our statement is wrong":       {&pgconn.PgError{Code: "42601"}, fault.InternalError},
		"our constraint was violated":  {&pgconn.PgError{Code: "23514"}, fault.InternalError},
		"nobody knows what it was":     {errors.New("boom"), fault.InternalError},
		"a fault outweighs its causes": {fault.Wrap(context.DeadlineExceeded, fault.UpstreamError, ""), fault.UpstreamError},
	} {
		if got := classify(test.err).Code; got != test.want {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
}

func TestOurOwnTroubleIsNotToldToAnybody(t *testing.T) {
	shown := render(context.Background(), classify(errors.New("relation \"ledger_entries\" does not exist")))
	if shown.status != 500 || shown.Message != fault.InternalError.Error() || len(shown.Details) != 0 {
		t.Errorf("it shows %+v", shown)
	}
	shown = fromHuma(context.Background(), 500, "unexpected", []error{errors.New("secret")})
	if shown.Code != "internal_error" || len(shown.Details) != 0 {
		t.Errorf("it shows %+v", shown)
	}
}

// A handler that answers 401 says how to authenticate as the guard does: the contract promises the header with every 401.
func TestEvery401SaysHowToAuthenticate(t *testing.T) {
	for code, want := range map[fault.Code]string{
		fault.TokenInvalid:            `Bearer realm="gpuaas"`,
		fault.TokenExpired:            `Bearer realm="gpuaas"`,
		fault.InsufficientPermissions: "",
		fault.InternalError:           "",
	} {
		var refused interface{ GetHeaders() http.Header } = render(t.Context(), fault.New(code, ""))
		if got := refused.GetHeaders().Get("WWW-Authenticate"); got != want {
			t.Errorf("%s says %q, not %q", code, got, want)
		}
	}
}
