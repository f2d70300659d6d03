package process

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// AppointAdminConfig says who is to operate the platform, and on whose word.
type AppointAdminConfig struct {
	OwnerURL string `env:"DATABASE_OWNER_URL,required,notEmpty" usage:"PostgreSQL URL of the role that owns the schema and may create roles"`
	Issuer   string `env:"KEYCLOAK_ISSUER_URL" envDefault:"http://localhost:8080/realms/gpuaas" usage:"issuer of the bearer tokens; its discovery document lies below it"`
	Subject  string `env:"GPUAAS_ADMIN_SUBJECT,required,notEmpty" usage:"who becomes an operator: the sub of their tokens"`
	Username string `env:"GPUAAS_ADMIN_USERNAME" usage:"what they are called until they sign in; their subject when unset"`
	Reason   string `env:"GPUAAS_ADMIN_REASON,required,notEmpty" usage:"why; it is audited"`
	Log      LogConfig
}

// Check says what is wrong with it.
func (c AppointAdminConfig) Check() []string {
	if c.Issuer == "" || strings.TrimSpace(c.Reason) == "" {
		return []string{"KEYCLOAK_ISSUER_URL and GPUAAS_ADMIN_REASON must not be blank."}
	}
	return nil
}

// breakGlass is whom audit rows name for an appointment on the database itself.
const breakGlass = "break-glass"

// RunAppointAdmin makes somebody an operator of the platform, in one transaction with the audit row that tells of it: a user who never
// signed in is made, one who is suspended or waits for approval is let in. It ends when it is done.
func RunAppointAdmin(ctx context.Context, config AppointAdminConfig) error {
	log := config.Log.logger("appoint-admin")
	pool, err := store.Open(ctx, config.OwnerURL, store.MaxConnections(1), store.ApplicationName("appoint-admin"))
	if err != nil {
		return err
	}
	defer pool.Close()
	var appointed id.User
	err = store.InTx(ctx, pool, func(ctx context.Context, tx pgx.Tx) error {
		found, err := queries.FindIdentity(ctx, tx, config.Issuer, config.Subject)
		if errors.Is(err, pgx.ErrNoRows) {
			found, err = queries.EnsureIdentity(ctx, tx, queries.SignIn{
				Issuer: config.Issuer, Subject: config.Subject, Username: cmp.Or(config.Username, config.Subject), Currency: accountCurrency,
				TenantID: randomID[id.Tenant](), UserID: randomID[id.User](), ProjectID: randomID[id.Project](), AccountID: randomID[id.Account](),
			})
		}
		if err != nil {
			return err
		}
		appointed = found.User.ID
		restored, err := queries.SetUserStatus(ctx, tx, appointed, []string{queries.UserPending, queries.UserSuspended}, queries.UserActive, config.Reason)
		if err != nil {
			return err
		}
		if _, err := queries.AppointPlatformAdmin(ctx, tx, appointed, breakGlass); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: identity.Actor{ID: breakGlass, Role: identity.RoleSystem}, Action: "platform_admin.appoint", TargetType: "user", TargetID: string(appointed),
			CorrelationID: rand.Text(), Details: map[string]any{"reason": config.Reason, "created": found.Created, "restored": restored},
		})
	})
	if err != nil {
		return fmt.Errorf("appoint an administrator: %w", err)
	}
	log.InfoContext(ctx, "this user operates the platform now", "user_id", string(appointed))
	return nil
}

func randomID[K id.Kind]() K {
	var entropy [16]byte
	_, _ = rand.Read(entropy[:]) // never fails since Go 1.24
	return id.New[K](entropy)
}
