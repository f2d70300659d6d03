-- Operators are told, too: of what concerns the platform and names no tenant.
ALTER TABLE notifications ALTER COLUMN tenant_id DROP NOT NULL;
ALTER TABLE notifications DROP CONSTRAINT notifications_audience_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_audience CHECK (audience IN ('members', 'billing', 'operators'));
ALTER TABLE notifications ADD CONSTRAINT notifications_tenant CHECK ((audience = 'operators') = (tenant_id IS NULL));
CREATE INDEX notifications_of_operators ON notifications (id) WHERE audience = 'operators';
