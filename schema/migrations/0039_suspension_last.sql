-- The instant at which the last suspension of an allocation began, which stays when it ends: a step that is still under way then must not
-- begin it once more.
ALTER TABLE allocations ADD COLUMN suspended_last timestamptz(3);
UPDATE allocations SET suspended_last = suspended_at WHERE suspended_at IS NOT NULL;
