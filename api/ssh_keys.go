package api

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/sshkey"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type sshKeyBody struct {
	ID          id.SSHKey  `json:"id" pattern:"^key_[a-z2-7]{26}$"`
	TenantID    id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	ProjectID   id.Project `json:"project_id" pattern:"^proj_[a-z2-7]{26}$"`
	UserID      id.User    `json:"user_id" pattern:"^user_[a-z2-7]{26}$" doc:"Who added it."`
	Name        string     `json:"name"`
	PublicKey   string     `json:"public_key" doc:"Type and key, without options and comment."`
	Fingerprint string     `json:"fingerprint" doc:"SHA-256, as ssh-keygen -l shows it."`
	CreatedAt   moment     `json:"created_at"`
}

type (
	SSHKeyPath struct {
		SSHKeyID id.SSHKey `path:"ssh_key_id" pattern:"^key_[a-z2-7]{26}$"`
	}
	createSSHKeyIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name      string     `json:"name" minLength:"1" maxLength:"63"`
			PublicKey publicKey  `json:"public_key" doc:"One line in authorized_keys form."`
			ProjectID id.Project `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The default project when absent."`
		}
	}
	deleteSSHKeyIn struct {
		SSHKeyPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
	sshKeyListIn struct {
		Paging
		Where
	}
	sshKeyOut     struct{ Body sshKeyBody }
	sshKeyListOut struct{ Body list[sshKeyBody] }
)

func (s *server) sshKeyOperations() {
	handle(s, "createSSHKey", s.createSSHKey)
	handle(s, "listSSHKeys", s.listSSHKeys)
	handle(s, "deleteSSHKey", s.deleteSSHKey)
}

// createSSHKey keeps a public key for the allocations of a project. Its id derives from the request, so that a repeat
// finds it.
func (s *server) createSSHKey(ctx context.Context, in *createSSHKeyIn) (*sshKeyOut, error) {
	who, at := middleware.Principal(ctx), middleware.At(ctx)
	if err := checkName(in.Body.Name); err != nil {
		return nil, err
	}
	parsed, err := sshkey.Parse(string(in.Body.PublicKey))
	if err != nil {
		return nil, invalid("body.public_key", err.Error())
	}
	key := queries.SSHKey{
		ID: deriveID[id.SSHKey](s, "ssh-key", middleware.RequestOf(ctx).ID), TenantID: at.TenantID, ProjectID: at.ProjectID, UserID: who.UserID,
		Name: in.Body.Name, PublicKey: parsed.Line, Fingerprint: parsed.Fingerprint, CreatedAt: s.now(),
	}
	if standing, err := queries.GetSSHKey(ctx, s.config.Pool, key.ID); err == nil {
		return &sshKeyOut{Body: renderSSHKey(standing)}, nil
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		inserted, err := queries.InsertSSHKey(ctx, tx, key)
		if err != nil {
			return err
		}
		if !inserted {
			return fault.New(fault.SSHKeyAlreadyExists, "").With(map[string]any{"fingerprint": key.Fingerprint})
		}
		return queries.InsertAudit(ctx, tx, s.auditOfKey(ctx, key, "ssh_key.add"))
	})
	if err != nil {
		return nil, err
	}
	return &sshKeyOut{Body: renderSSHKey(key)}, nil
}

func (s *server) auditOfKey(ctx context.Context, key queries.SSHKey, action string) queries.Audit {
	return queries.Audit{
		TenantID: string(key.TenantID), Actor: middleware.Principal(ctx).Actor(), Action: action, TargetType: "ssh_key", TargetID: string(key.ID),
		CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
		Details: map[string]any{"fingerprint": key.Fingerprint, "project_id": key.ProjectID},
	}
}

func (s *server) listSSHKeys(ctx context.Context, in *sshKeyListIn) (*sshKeyListOut, error) {
	at := middleware.At(ctx)
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	rows, err := queries.ReadSSHKeys(ctx, s.config.Pool, queries.SSHKeyPage{
		TenantID: at.TenantID, ProjectID: at.ProjectID, BeforeTime: from.Time, BeforeID: from.ID, Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &sshKeyListOut{Body: paged(in.Paging, rows, func(row queries.SSHKey) after { return after{row.CreatedAt, string(row.ID)} }, renderSSHKey)}, nil
}

// deleteSSHKey forgets a key. Allocations that were made with it keep it: what is on a node, its allocation says.
func (s *server) deleteSSHKey(ctx context.Context, _ *deleteSSHKeyIn) (*sshKeyOut, error) {
	key, found := middleware.At(ctx).Object.(queries.SSHKey)
	if !found {
		return nil, fault.New(fault.SSHKeyNotFound, "")
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		deleted, err := queries.DeleteSSHKey(ctx, tx, key.TenantID, key.ID)
		if err != nil {
			return err
		}
		if !deleted {
			return fault.New(fault.SSHKeyNotFound, "")
		}
		return queries.InsertAudit(ctx, tx, s.auditOfKey(ctx, key, "ssh_key.remove"))
	})
	if err != nil {
		return nil, err
	}
	return &sshKeyOut{Body: renderSSHKey(key)}, nil
}

func renderSSHKey(row queries.SSHKey) sshKeyBody {
	return sshKeyBody{
		ID: row.ID, TenantID: row.TenantID, ProjectID: row.ProjectID, UserID: row.UserID, Name: row.Name, PublicKey: row.PublicKey,
		Fingerprint: row.Fingerprint, CreatedAt: moment(row.CreatedAt),
	}
}

// keysByID adds the stored keys of the project that an allocation names to those it brings, each once, within what policy allows.
func (s *server) keysByID(ctx context.Context, brought []string, named []id.SSHKey) ([]string, error) {
	if len(named) == 0 {
		return brought, nil
	}
	most, err := s.config.Policy.Int(ctx, authored.AllocationMaxSSHKeys)
	if err != nil {
		return nil, err
	}
	at := middleware.At(ctx)
	rows, err := queries.SSHKeysByID(ctx, s.config.Pool, at.TenantID, at.ProjectID, named)
	if err != nil {
		return nil, err
	}
	stored := map[id.SSHKey]string{}
	for _, row := range rows {
		stored[row.ID] = row.PublicKey
	}
	keys, seen := brought, map[string]bool{}
	for _, one := range brought {
		seen[one] = true
	}
	for _, one := range named {
		line, known := stored[one]
		if !known {
			return nil, fault.Newf(fault.SSHKeyNotFound, "The project has no SSH key %s.", one).With(map[string]any{"ssh_key_id": one})
		}
		if !seen[line] {
			seen[line] = true
			keys = append(keys, line)
		}
	}
	if int64(len(keys)) > most {
		return nil, tooManyKeys("body.ssh_key_ids", most)
	}
	return keys, nil
}
