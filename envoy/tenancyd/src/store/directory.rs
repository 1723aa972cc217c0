//! Tenants and their domains. Each function runs inside the transaction that its caller opened.

use rusqlite::{Connection, OptionalExtension};

use super::changes;
use crate::document::{Faults, document};
use crate::domain::Domain;
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::tenant::{Status, Tenant};

/// What a write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing; it is new.
    Created,
    /// An older one, which is gone.
    Replaced,
}

/// Some of a list, and after which of its names the rest comes.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Some of it.
    pub items: Vec<T>,
    /// The last name of the page; nothing where the list ends.
    pub next: Option<String>,
}

/// The JSON record of the tenant with this id or slug.
pub fn tenant(connection: &Connection, name: &Identifier) -> Result<Option<String>, Refusal> {
    let sql = "SELECT record FROM names JOIN tenants ON tenants.id = names.tenant_id WHERE names.name = ?";
    let record = connection.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
    Ok(record)
}

/// Keeps a tenant, in place of the one with its id if there is one.
pub fn put_tenant(connection: &Connection, tenant: &Tenant) -> Result<Written, Refusal> {
    let written = save_record(connection, tenant)?;
    release_names(connection, &tenant.id)?;
    match claim_names(connection, tenant)?.into_iter().next() {
        Some(taken) => Err(taken),
        None => Ok(written),
    }
}

/// Keeps a tenant's record, and leaves its names as they are.
pub fn save_record(connection: &Connection, tenant: &Tenant) -> Result<Written, Refusal> {
    let record = serde_json::to_string(tenant).map_err(|error| Refusal::Internal(error.to_string()))?;
    let known = connection.prepare_cached("SELECT 1 FROM tenants WHERE id = ?")?.exists([tenant.id.as_str()])?;
    // What is written as it was is no change: a seed that is loaded at every start must not send every reader through it again.
    let sql = "INSERT INTO tenants (id, record, status) VALUES (?, ?, ?) ON CONFLICT (id)
        DO UPDATE SET record = excluded.record, status = excluded.status WHERE record <> excluded.record";
    connection.prepare_cached(sql)?.execute([tenant.id.as_str(), &record, tenant.status.as_str()])?;
    Ok(if known { Written::Replaced } else { Written::Created })
}

/// Takes a tenant's names from it.
pub fn release_names(connection: &Connection, id: &Identifier) -> Result<(), Refusal> {
    connection.prepare_cached("DELETE FROM names WHERE tenant_id = ?")?.execute([id.as_str()])?;
    Ok(())
}

/// Gives a tenant its names, or says which of them another one has.
pub fn claim_names(connection: &Connection, tenant: &Tenant) -> Result<Vec<Refusal>, Refusal> {
    let sql = "INSERT INTO names (name, tenant_id) VALUES (?, ?) ON CONFLICT (name) DO NOTHING";
    let mut statement = connection.prepare_cached(sql)?;
    let slug = (tenant.slug != tenant.id).then_some(("slug", &tenant.slug));
    let mut taken = Vec::new();
    for (field, name) in [("id", &tenant.id)].into_iter().chain(slug) {
        if statement.execute([name.as_str(), tenant.id.as_str()])? == 0 {
            taken.push(Refusal::NameTaken { field, name: name.clone() });
        }
    }
    Ok(taken)
}

/// Gives the tenant with this id another status. Its record comes back, if there is such a tenant.
pub fn set_status(connection: &Connection, id: &Identifier, status: Status) -> Result<Option<String>, Refusal> {
    let sql = "SELECT record FROM tenants WHERE id = ?";
    let found: Option<String> =
        connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    let Some(record) = found else { return Ok(None) };
    let mut faults = Faults::new();
    let tenant = document(record.as_bytes(), &mut faults).and_then(|raw| Tenant::parse(raw, Some(id), "", &mut faults));
    let Some(mut tenant) = tenant else {
        return Err(Refusal::Internal(format!("the record of {id} is none: {faults:?}")));
    };
    tenant.status = status;
    save_record(connection, &tenant)?;
    serde_json::to_string(&tenant).map(Some).map_err(|error| Refusal::Internal(error.to_string()))
}

/// Forgets a tenant, its names and its domains. That it was there stays known for a while.
pub fn delete_tenant(connection: &Connection, id: &Identifier) -> Result<bool, Refusal> {
    if connection.prepare_cached("DELETE FROM tenants WHERE id = ?")?.execute([id.as_str()])? == 0 {
        return Ok(false);
    }
    changes::after_deletion(connection)?;
    Ok(true)
}

/// How many tenants have each status.
pub fn count_by_status(connection: &Connection) -> Result<Vec<(String, i64)>, Refusal> {
    let sql = "SELECT status, count(*) FROM tenants WHERE status IS NOT NULL GROUP BY status";
    let mut statement = connection.prepare_cached(sql)?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// Whether this is a tenant's id.
pub fn tenant_exists(connection: &Connection, id: &Identifier) -> Result<bool, Refusal> {
    Ok(connection.prepare_cached("SELECT 1 FROM tenants WHERE id = ?")?.exists([id.as_str()])?)
}

/// The id of the tenant with this id or slug.
pub fn tenant_id(connection: &Connection, name: &Identifier) -> Result<Option<String>, Refusal> {
    let sql = "SELECT tenant_id FROM names WHERE name = ?";
    Ok(connection.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0)).optional()?)
}

/// The id of the tenant that has this domain.
pub fn domain(connection: &Connection, domain: &Domain) -> Result<Option<String>, Refusal> {
    let sql = "SELECT tenant_id FROM domains WHERE domain = ?";
    Ok(connection.prepare_cached(sql)?.query_row([domain.as_str()], |row| row.get(0)).optional()?)
}

/// The domains after this one of the tenant with this id or slug, if there is such a tenant.
pub fn domains(
    connection: &Connection,
    name: &Identifier,
    after: Option<&Domain>,
    limit: usize,
) -> Result<Option<Page<String>>, Refusal> {
    let Some(id) = tenant_id(connection, name)? else { return Ok(None) };
    let sql = "SELECT domain FROM domains WHERE tenant_id = ? AND domain > ? ORDER BY domain";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_str(), after.map_or("", Domain::as_str)])?;
    let mut page = Page { items: Vec::<String>::new(), next: None };
    while let Some(row) = rows.next()? {
        if page.items.len() >= limit {
            page.next = page.items.last().cloned();
            break;
        }
        page.items.push(row.get(0)?);
    }
    Ok(Some(page))
}

/// Gives a domain to a tenant that exists, whoever had it before.
pub fn put_domain(connection: &Connection, domain: &Domain, tenant_id: &Identifier) -> Result<Written, Refusal> {
    let known = self::domain(connection, domain)?.is_some();
    let sql = "INSERT INTO domains (domain, tenant_id) VALUES (?, ?) ON CONFLICT (domain) DO UPDATE SET tenant_id = excluded.tenant_id";
    connection.prepare_cached(sql)?.execute([domain.as_str(), tenant_id.as_str()])?;
    Ok(if known { Written::Replaced } else { Written::Created })
}

/// Forgets a domain.
pub fn delete_domain(connection: &Connection, domain: &Domain) -> Result<bool, Refusal> {
    Ok(connection.prepare_cached("DELETE FROM domains WHERE domain = ?")?.execute([domain.as_str()])? > 0)
}

/// Whether the database answers.
pub fn ping(connection: &Connection) -> Result<(), Refusal> {
    connection.prepare_cached("SELECT 1 FROM tenants LIMIT 1")?.exists([])?;
    Ok(())
}
