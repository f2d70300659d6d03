package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// rule is who may call an operation: what kind of caller, holding which permission, where. The guard applies it before the
// handler runs, so that no handler can forget it; the handler finds the place in middleware.At.
type rule struct {
	access     middleware.Access
	permission identity.Permission
	// about is the object of a tenant that the operation is about; the zero value for none.
	about target
	owned bool
	self  bool
	ends  bool
	// into is where an operator looks by it, when the request names one tenant; the zero value for what is the platform's own.
	into target
	// closed opens an operation to a closed tenant too.
	closed bool
}

// public is open to everybody.
func public() rule { return rule{access: middleware.Public} }

// person is about the caller alone: every user and service account may, within the credential's scopes.
func person(permission identity.Permission) rule {
	return rule{access: middleware.SignedIn, permission: permission}
}

// member is for whoever holds the permission at the place of the object.
func member(about target, permission identity.Permission) rule {
	return rule{access: middleware.SignedIn, permission: permission, about: about}
}

// owner is for whose the object is, and for those who manage what others own.
func owner(about target, permission identity.Permission) rule {
	return rule{access: middleware.SignedIn, permission: permission, about: about, owned: true}
}

// operator is for the operators of the platform.
func operator(permission identity.Permission) rule {
	return rule{access: middleware.AdminOnly, permission: permission}
}

// ending marks an operation that ends something: a suspended tenant may still do it.
func (r rule) ending() rule {
	r.ends = true
	return r
}

// whenClosed marks an operation that a closed tenant may still do.
func (r rule) whenClosed() rule {
	r.closed = true
	return r
}

// orSelf opens an operation to the user whom the object is about, whatever their role.
func (r rule) orSelf() rule {
	r.self = true
	return r
}

// lookingInto marks an operators' operation by which they look into the tenant that the request names.
func (r rule) lookingInto(one target) rule {
	r.into = one
	return r
}

// decided says whether a line of the table has a complete rule.
func (r rule) decided() bool {
	switch r.access {
	case middleware.Public:
		return true
	case middleware.SignedIn:
		return r.permission.Valid() && (r.about.locate != nil) != r.permission.Personal()
	case middleware.AdminOnly:
		return r.permission == identity.PlatformRead || r.permission == identity.PlatformWrite
	default:
		return false
	}
}

// authorise applies a rule to an authenticated request and answers it with its place.
func (s *server) authorise(r *http.Request, line route) (*http.Request, error) {
	rule := line.rule
	if rule.access == middleware.Public {
		return r, nil
	}
	who := middleware.Principal(r.Context())
	if err := middleware.AuthoriseScope(who, rule.permission); err != nil {
		return r, err
	}
	if rule.about.locate == nil {
		return r, s.auditLook(r, line)
	}
	at, err := rule.about.locate(r.Context(), s, r)
	switch {
	case errors.Is(err, errMalformed):
		// Huma names what is wrong with it; without a place no handler finds anything.
		return r, nil
	case errors.Is(err, pgx.ErrNoRows):
		return r, fault.New(rule.about.missing, "")
	case err != nil:
		return r, classify(err)
	}
	at, err = middleware.Authorise(who, middleware.Demand{Permission: rule.permission, Owned: rule.owned, Self: rule.self, Ends: rule.ends, Closed: rule.closed, Missing: rule.about.missing}, at)
	if err != nil {
		if who.Belongs(at.TenantID, at.ProjectID) {
			r = r.WithContext(middleware.WithPlace(r.Context(), at)) // the tenant's own audit log tells of it
		}
		return r, err
	}
	if at.Operator {
		if err := s.auditView(r.Context(), line, at); err != nil {
			return r, err
		}
	}
	return r.WithContext(middleware.WithPlace(r.Context(), at)), nil
}

// mayHaveBeenAnswered says whether a request was refused for its caller's right or for its object alone, which an earlier one with the same
// key may have taken away. A credential that is not good for it learns nothing.
func (s *server) mayHaveBeenAnswered(r *http.Request, line route, refusal error) bool {
	who := middleware.Principal(r.Context())
	if who.UserID == "" || middleware.AuthoriseScope(who, line.rule.permission) != nil {
		return false
	}
	status := classify(refusal).Code.HTTPStatus()
	return status == http.StatusForbidden || status == http.StatusNotFound
}

// auditLook tells a tenant that an operator looks into it by an operation of the platform's, when the request names one.
func (s *server) auditLook(r *http.Request, line route) error {
	if line.rule.into.locate == nil {
		return nil
	}
	at, err := line.rule.into.locate(r.Context(), s, r)
	switch {
	case errors.Is(err, errMalformed), errors.Is(err, pgx.ErrNoRows):
		return nil // the operation says so, or shows nothing
	case err != nil:
		return classify(err)
	case middleware.Principal(r.Context()).Belongs(at.TenantID, at.ProjectID):
		return nil
	}
	return s.auditView(r.Context(), line, at)
}

// auditView tells a tenant, in its own audit log, that an operator looked at something of theirs.
func (s *server) auditView(ctx context.Context, line route, at middleware.Place) error {
	who := middleware.Principal(ctx)
	noun, subject := line.subject(ctx)
	if subject == "" {
		noun, subject = "tenant", string(at.TenantID)
	}
	return queries.InsertAudit(ctx, s.config.Pool, queries.Audit{
		TenantID: string(at.TenantID), Actor: who.Actor(), Action: "operator.view", TargetType: noun, TargetID: subject,
		CorrelationID: telemetry.Correlation(ctx), Details: map[string]any{"operation": line.operation},
	})
}

// auditRefusal writes down that a privileged mutation was refused before it began. Whoever is not signed in is nobody to name.
func (s *server) auditRefusal(r *http.Request, line route, err error) {
	if middleware.Principal(r.Context()).UserID == "" {
		return
	}
	s.auditOutcome(r.Context(), line, err)
}

// auditOutcome writes down how a privileged mutation was refused; a success writes its own row, in the transaction of its
// change. What was wrong with the request itself, or with us, is no refusal.
func (s *server) auditOutcome(ctx context.Context, line route, err error) {
	if line.method == http.MethodGet || !line.rule.permission.Privileged() {
		return
	}
	found := classify(err)
	switch status := found.Code.HTTPStatus(); {
	case status >= http.StatusInternalServerError, status == http.StatusUnprocessableEntity, status == http.StatusBadRequest,
		status == http.StatusRequestEntityTooLarge, status == http.StatusUnsupportedMediaType, status == http.StatusTooManyRequests:
		return
	}
	noun, subject := line.subject(ctx)
	if err := queries.InsertAudit(context.WithoutCancel(ctx), s.config.Pool, queries.Audit{
		TenantID: string(middleware.At(ctx).TenantID), Actor: middleware.Principal(ctx).Actor(), Action: line.operation, TargetType: noun, TargetID: subject,
		Refused: true, CorrelationID: telemetry.Correlation(ctx), Details: map[string]any{"code": found.Code},
	}); err != nil {
		s.config.Log.ErrorContext(ctx, "a refusal could not be written to the audit log", "operation", line.operation, "error", err.Error())
	}
}

type subjectKey struct{}

// withSubject keeps what the path names for the audit log: the value of its first parameter.
func withSubject(r *http.Request, line route) *http.Request {
	if name := line.parameter(); name != "" {
		return r.WithContext(context.WithValue(r.Context(), subjectKey{}, r.PathValue(name)))
	}
	return r
}

// parameter is the name of the first parameter of the path, empty for none.
func (line route) parameter() string {
	_, rest, found := strings.Cut(line.path, "{")
	if !found {
		return ""
	}
	name, _, _ := strings.Cut(rest, "}")
	return name
}

// subject is what a request to this route is about, as audit rows name it.
func (line route) subject(ctx context.Context) (noun, subject string) {
	subject, _ = ctx.Value(subjectKey{}).(string)
	switch name := line.parameter(); {
	case line.rule.about.noun != "":
		noun = line.rule.about.noun
	case name == "key":
		noun = "policy"
	case name != "":
		noun = strings.TrimSuffix(name, "_id")
	default:
		noun = "platform"
	}
	return noun, subject
}
