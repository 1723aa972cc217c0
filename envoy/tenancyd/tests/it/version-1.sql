-- A database as version 1 of the schema left it. It stays as it is.
PRAGMA journal_mode = WAL;
CREATE TABLE tenants (
    id TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE names (
    name TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_tenant ON names (tenant_id);
CREATE TABLE domains (
    domain TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX domains_by_tenant ON domains (tenant_id, domain);
INSERT INTO tenants VALUES
    ('globex', '{"id":"globex","slug":"globex","status":"suspended"}'),
    ('acme', '{"id":"acme","slug":"a","status":"active","metadata":{"plan":"pro"}}');
INSERT INTO names VALUES ('globex', 'globex'), ('acme', 'acme'), ('a', 'acme');
INSERT INTO domains VALUES ('app.acme.com', 'acme');
PRAGMA user_version = 1;
