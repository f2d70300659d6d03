-- name: CredentialInsert
INSERT INTO credentials (id, kind, user_id, sha256, name, scopes, parent_id, overlap_seconds, created_by, created_at, expires_at)
VALUES (@id, @kind, @user_id, @sha256, @name, @scopes, @parent_id, @overlap_seconds, @created_by, @created_at, @expires_at)
ON CONFLICT (sha256) DO NOTHING;

-- name: CredentialBySHA256
-- Asked before anything is known of who asks: the hash of 256 random bits is the proof.
SELECT id, kind, user_id, sha256, name, scopes, parent_id, overlap_seconds, created_by, created_at, expires_at, last_used_at,
  credential_revoked_at(id) AS revoked_at
FROM credentials WHERE sha256 = @sha256;

-- name: CredentialOfUser
SELECT id, kind, user_id, sha256, name, scopes, parent_id, overlap_seconds, created_by, created_at, expires_at, last_used_at,
  credential_revoked_at(id) AS revoked_at
FROM credentials WHERE id = @id AND user_id = @user_id AND kind = @kind;

-- name: CredentialPage
SELECT id, kind, user_id, sha256, name, scopes, parent_id, overlap_seconds, created_by, created_at, expires_at, last_used_at,
  credential_revoked_at(id) AS revoked_at
FROM credentials
WHERE user_id = @user_id AND kind = @kind
  AND (@before_id::text IS NULL OR (created_at, id) < (@before_time::timestamptz, @before_id::text))
ORDER BY created_at DESC, id DESC
LIMIT @limit;

-- name: CredentialSecretsLive
-- The secrets of service accounts that can be exchanged at an instant, newest first.
SELECT id, kind, user_id, sha256, name, scopes, parent_id, overlap_seconds, created_by, created_at, expires_at, last_used_at,
  credential_revoked_at(id) AS revoked_at
FROM credentials
WHERE user_id = ANY (@user_ids::text[]) AND kind = 'secret' AND credential_revoked_at(id) IS NULL AND (expires_at IS NULL OR expires_at > @at)
ORDER BY created_at DESC, id DESC;

-- name: CredentialRevoke
UPDATE credentials SET revoked_at = @at
WHERE id = @id AND user_id = @user_id AND kind = @kind AND revoked_at IS NULL;

-- name: CredentialSecretsOverlap
-- A new secret leaves the others of its account valid until then at most.
UPDATE credentials SET expires_at = @until
WHERE user_id = @user_id AND kind = 'secret' AND id <> @id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > @until);

-- name: CredentialUsed
UPDATE credentials SET last_used_at = @at
WHERE id = ANY (@ids::text[]) AND (last_used_at IS NULL OR last_used_at < @at);

-- name: CredentialForgetAccess
-- Access tokens that expired a while ago; until then their holder is told that they did.
DELETE FROM credentials WHERE user_id = @user_id AND kind = 'access' AND expires_at < @before;
