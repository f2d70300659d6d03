-- What is under way is looked for by every reconciliation, and is little beside what has ended.
CREATE INDEX payments_under_way ON payments (id) WHERE state IN ('requested', 'open', 'processing');
CREATE INDEX refunds_under_way ON refunds (id) WHERE state = 'pending';
CREATE INDEX disputes_under_way ON disputes (id) WHERE state = 'open';
