package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// target is what an operation is about and how its place is found: an object that the path names, or the tenant in which the
// caller acts. What does not exist is pgx.ErrNoRows, what is not written as an id is errMalformed.
type target struct {
	noun    string
	missing fault.Code
	locate  func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error)
}

// errMalformed says that the request names no object at all, which its validation will say better.
var errMalformed = errors.New("not an id")

// anAllocation is the allocation of the path; the handler finds its row in the place.
var anAllocation = target{noun: "allocation", missing: fault.AllocationNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	allocationID, err := parseID[id.Allocation](r.PathValue("allocation_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetAllocation(ctx, s.config.Pool, "", allocationID)
	return middleware.Place{TenantID: row.TenantID, ProjectID: row.ProjectID, OwnerID: row.UserID, Object: row}, err
}}

// aBilledAllocation is the allocation of the path with its cost, for what shows both and nothing else.
var aBilledAllocation = target{noun: "allocation", missing: fault.AllocationNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	allocationID, err := parseID[id.Allocation](r.PathValue("allocation_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	billed, err := queries.GetBilledAllocation(ctx, s.config.Pool, allocationID)
	row := billed.Allocation
	return middleware.Place{TenantID: row.TenantID, ProjectID: row.ProjectID, OwnerID: row.UserID, Object: billed}, err
}}

// aProject is the project of the path.
var aProject = target{noun: "project", missing: fault.ProjectNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	return s.placeOfProject(ctx, r.PathValue("project_id"))
}}

// aTenant is the tenant of the path.
var aTenant = target{noun: "tenant", missing: fault.TenantNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	return s.placeOfTenant(ctx, r.PathValue("tenant_id"))
}}

// aMember is a member of the tenant of the path, who owns their membership.
var aMember = target{noun: "tenant", missing: fault.TenantNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	at, err := s.placeOfTenant(ctx, r.PathValue("tenant_id"))
	at.OwnerID = id.User(r.PathValue("user_id"))
	return at, err
}}

// aProjectMember is a member of the project of the path, who owns their membership.
var aProjectMember = target{noun: "project", missing: fault.ProjectNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	at, err := s.placeOfProject(ctx, r.PathValue("project_id"))
	at.OwnerID = id.User(r.PathValue("user_id"))
	return at, err
}}

// anInvitation is the invitation of the path, at the project it is for, or else at its tenant; the handler finds its row in the place.
var anInvitation = target{noun: "invitation", missing: fault.InvitationNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	invitationID, err := parseID[id.Invitation](r.PathValue("invitation_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetInvitation(ctx, s.config.Pool, invitationID)
	return middleware.Place{TenantID: row.TenantID, ProjectID: row.ProjectID, Object: row}, err
}}

// aPayment is the payment of the path; the handler finds its row in the place.
var aPayment = target{noun: "payment", missing: fault.PaymentNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	paymentID, err := parseID[id.Payment](r.PathValue("payment_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetPayment(ctx, s.config.Pool, "", paymentID)
	return middleware.Place{TenantID: row.TenantID, Object: row}, err
}}

// aRefund is the refund of the path; the handler finds its row in the place.
var aRefund = target{noun: "refund", missing: fault.RefundNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	refundID, err := parseID[id.Refund](r.PathValue("refund_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetRefund(ctx, s.config.Pool, "", refundID)
	return middleware.Place{TenantID: row.TenantID, Object: row}, err
}}

// aWebhook is the webhook endpoint of the path, a deleted one too; the handler finds its row in the place.
var aWebhook = target{noun: "webhook", missing: fault.WebhookNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	webhookID, err := parseID[id.Webhook](r.PathValue("webhook_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetWebhookEndpoint(ctx, s.config.Pool, webhookID)
	return middleware.Place{TenantID: row.TenantID, Object: row}, err
}}

// aDelivery is the delivery of the path; the handler finds its row in the place.
var aDelivery = target{noun: "webhook_delivery", missing: fault.WebhookDeliveryNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	deliveryID, err := parseID[id.Delivery](r.PathValue("delivery_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetWebhookDelivery(ctx, s.config.Pool, deliveryID)
	return middleware.Place{TenantID: row.TenantID, Object: row}, err
}}

// theTenant is the tenant in which the caller acts: that of ?project_id= or of ?tenant_id=, or else the one they are at home in. A
// project that is named narrows the place to it.
var theTenant = target{noun: "tenant", missing: fault.TenantNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	query := r.URL.Query()
	switch {
	case query.Has("project_id"):
		at, err := s.placeOfProject(ctx, query.Get("project_id"))
		if errors.Is(err, pgx.ErrNoRows) {
			return at, fault.New(fault.ProjectNotFound, "")
		}
		at.Missing = fault.ProjectNotFound
		return at, err
	case query.Has("tenant_id"):
		return s.placeOfTenant(ctx, query.Get("tenant_id"))
	default:
		return home(ctx)
	}
}}

// oneTenant is the tenant that a list of the platform's is narrowed to, by itself or by a project of it; none where it is not.
var oneTenant = target{noun: "tenant", locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	switch query := r.URL.Query(); {
	case query.Has("project_id"):
		return s.placeOfProject(ctx, query.Get("project_id"))
	case query.Has("tenant_id"):
		return s.placeOfTenant(ctx, query.Get("tenant_id"))
	default:
		return middleware.Place{}, pgx.ErrNoRows
	}
}}

// anAccount is the account of the path, at its tenant.
var anAccount = target{noun: "account", locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	accountID, err := parseID[id.Account](r.PathValue("account_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetAccount(ctx, s.config.Pool, accountID)
	return middleware.Place{TenantID: row.TenantID, AccountID: row.ID}, err
}}

// aUser is the user of the path, at the tenant that they are at home in.
var aUser = target{noun: "user", locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	userID, err := parseID[id.User](r.PathValue("user_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.UserOfAll(ctx, s.config.Pool, userID)
	return middleware.Place{TenantID: row.TenantID, OwnerID: row.ID}, err
}}

// theProject is the project that the body names, or else the default one of the tenant that the caller is at home in.
var theProject = target{noun: "project", missing: fault.ProjectNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	named, err := namedPlace(r)
	if err != nil {
		return middleware.Place{}, err
	}
	if named.ProjectID != nil {
		return s.placeOfProject(ctx, *named.ProjectID)
	}
	at, err := home(ctx)
	at.ProjectID = middleware.Principal(ctx).ProjectID
	return at, err
}}

// theNamedTenant is the tenant that the body names, or else the one that the caller is at home in.
var theNamedTenant = target{noun: "tenant", missing: fault.TenantNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	named, err := namedPlace(r)
	switch {
	case err != nil:
		return middleware.Place{}, err
	case named.TenantID != nil:
		return s.placeOfTenant(ctx, *named.TenantID)
	default:
		return home(ctx)
	}
}}

// aServiceAccount is the service account of the path; the handler finds its row in the place.
var aServiceAccount = target{noun: "service_account", missing: fault.ServiceAccountNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	userID, err := parseID[id.User](r.PathValue("service_account_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetServiceAccount(ctx, s.config.Pool, userID)
	return middleware.Place{TenantID: row.TenantID, ProjectID: row.ProjectID, Object: row}, err
}}

// anSSHKey is the public key of the path; the handler finds its row in the place.
var anSSHKey = target{noun: "ssh_key", missing: fault.SSHKeyNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	keyID, err := parseID[id.SSHKey](r.PathValue("ssh_key_id"))
	if err != nil {
		return middleware.Place{}, err
	}
	row, err := queries.GetSSHKey(ctx, s.config.Pool, keyID)
	return middleware.Place{TenantID: row.TenantID, ProjectID: row.ProjectID, OwnerID: row.UserID, Object: row}, err
}}

// theNamedPlace is the project that the body names, which must be one of the tenant it names, or else the tenant, or else the one
// that the caller is at home in.
var theNamedPlace = target{noun: "tenant", missing: fault.TenantNotFound, locate: func(ctx context.Context, s *server, r *http.Request) (middleware.Place, error) {
	named, err := namedPlace(r)
	if err != nil || named.ProjectID == nil {
		return theNamedTenant.locate(ctx, s, r)
	}
	at, err := s.placeOfProject(ctx, *named.ProjectID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && named.TenantID != nil && *named.TenantID != string(at.TenantID) {
		return at, fault.New(fault.ProjectNotFound, "")
	}
	at.Missing = fault.ProjectNotFound
	return at, err
}}

// placeNames are the fields by which a body says where something is to happen.
type placeNames struct {
	TenantID  *string `json:"tenant_id"`
	ProjectID *string `json:"project_id"`
}

// namedPlace reads the body's place and puts the body back; the guard has bounded and buffered it.
func namedPlace(r *http.Request) (named placeNames, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return named, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if json.Unmarshal(body, &named) != nil {
		return named, errMalformed
	}
	return named, nil
}

// home is the tenant that the caller is at home in. Somebody who belongs to no tenant any more finds nothing.
func home(ctx context.Context) (middleware.Place, error) {
	who := middleware.Principal(ctx)
	if _, there := who.Standing(who.TenantID); !there {
		return middleware.Place{}, pgx.ErrNoRows
	}
	return middleware.Place{TenantID: who.TenantID}, nil
}

func (s *server) placeOfProject(ctx context.Context, text string) (middleware.Place, error) {
	projectID, err := parseID[id.Project](text)
	if err != nil {
		return middleware.Place{}, err
	}
	if who := middleware.Principal(ctx); projectID == who.ProjectID {
		return middleware.Place{TenantID: who.TenantID, ProjectID: projectID}, nil
	}
	tenantID, err := queries.TenantOfProject(ctx, s.config.Pool, projectID)
	return middleware.Place{TenantID: tenantID, ProjectID: projectID}, err
}

func (s *server) placeOfTenant(ctx context.Context, text string) (middleware.Place, error) {
	tenantID, err := parseID[id.Tenant](text)
	if err != nil {
		return middleware.Place{}, err
	}
	if _, there := middleware.Principal(ctx).Standing(tenantID); there {
		return middleware.Place{TenantID: tenantID}, nil
	}
	_, err = queries.GetTenant(ctx, s.config.Pool, tenantID)
	return middleware.Place{TenantID: tenantID}, err
}

// parseID reads an id of a request. One that has the form of an id and cannot be anybody's, because bits are left over at its
// end, is pgx.ErrNoRows like any other that nobody has: the contract's pattern lets it pass.
func parseID[K id.Kind](text string) (K, error) {
	parsed, err := id.Parse[K](text)
	switch {
	case errors.Is(err, id.ErrStrayBits):
		return "", pgx.ErrNoRows
	case err != nil:
		return "", errMalformed
	}
	return parsed, nil
}
