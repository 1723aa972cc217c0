//! A JSON file of tenants and domains that is loaded at the start: all of it, or none with every fault listed.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::document::{Faults, Member, document, elements, fault, identifier, members, text};
use crate::domain::Domain;
use crate::error::Refusal;
use crate::identifier::Identifier;
use crate::store::{Store, directory};
use crate::tenant::Tenant;

/// The largest file that is read.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// The longest that loading takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much was loaded.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Tenants.
    pub tenants: usize,
    /// Domains.
    pub domains: usize,
}

/// Loads the file. Tenants and domains that it doesn't name stay as they are.
pub async fn load(store: &Store, file: &Path) -> Result<Loaded, String> {
    let bytes = read(file).map_err(|error| format!("seed {}: {error}", file.display()))?;
    let loaded = store.write_within(PATIENCE, move |connection| apply(connection, &bytes)).await;
    loaded.map_err(|refusal| match &refusal {
        Refusal::Invalid(faults) => {
            let listed: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            format!("seed {}: nothing was loaded:{}", file.display(), listed.concat())
        }
        _ => format!("seed {}: {}", file.display(), refusal.private().unwrap_or("nothing was loaded")),
    })
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(std::io::Error::other(format!("more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What a seed says, as far as it is right.
#[derive(Default)]
struct Seed {
    tenants: Vec<(String, Tenant)>,
    domains: Vec<(String, Domain, Identifier)>,
    /// Every id of a tenant, right or wrong as the rest of it may be: a domain that names it has no fault of its own.
    ids: HashSet<Identifier>,
}

fn apply(connection: &Connection, bytes: &[u8]) -> Result<Loaded, Refusal> {
    let mut faults = Faults::new();
    let seed = parse(bytes, &mut faults);
    for (_, tenant) in &seed.tenants {
        directory::save_record(connection, tenant)?;
        // Before any of them claims a name, so that two tenants can exchange their slugs.
        directory::release_names(connection, &tenant.id)?;
    }
    for (path, tenant) in &seed.tenants {
        for taken in directory::claim_names(connection, tenant)? {
            if let Refusal::NameTaken { field, name } = taken {
                fault(
                    &mut faults,
                    &format!("{path}.{field}"),
                    format!("{:?} already names another tenant", name.as_str()),
                );
            }
        }
    }
    for (path, domain, tenant_id) in &seed.domains {
        if directory::tenant_exists(connection, tenant_id)? {
            directory::put_domain(connection, domain, tenant_id)?;
        } else if !seed.ids.contains(tenant_id) {
            fault(&mut faults, path, format!("no tenant has the id {:?}", tenant_id.as_str()));
        }
    }
    // The transaction ends without a commit then.
    match faults.is_empty() {
        true => Ok(Loaded { tenants: seed.tenants.len(), domains: seed.domains.len() }),
        false => Err(Refusal::Invalid(faults)),
    }
}

fn parse(bytes: &[u8], faults: &mut Faults) -> Seed {
    let mut seed = Seed::default();
    let top = document(bytes, faults).and_then(|raw| members(raw, "", faults)).unwrap_or_default();
    for member in &top {
        match member.key.as_str() {
            "tenants" => parse_tenants(member, &mut seed, faults),
            "domains" => parse_domains(member, &mut seed, faults),
            _ => member.unknown(&["tenants", "domains"], faults),
        }
    }
    seed
}

fn parse_tenants(member: &Member<'_>, seed: &mut Seed, faults: &mut Faults) {
    for (path, value) in elements(member.value, &member.path, faults).unwrap_or_default() {
        // Where this finds faults, so does the whole record's parser below.
        let known = members(value, &path, &mut Faults::new()).unwrap_or_default();
        let id = known.iter().find(|member| member.key == "id");
        let id = id.and_then(|member| identifier(member.value, &path, &mut Faults::new()));
        let again = id.is_some_and(|id| !seed.ids.insert(id));
        let Some(tenant) = Tenant::parse(value, None, &path, faults) else {
            continue;
        };
        match again {
            true => fault(faults, &format!("{path}.id"), "given twice in this seed"),
            false => seed.tenants.push((path, tenant)),
        }
    }
}

fn parse_domains(member: &Member<'_>, seed: &mut Seed, faults: &mut Faults) {
    let mut seen = HashMap::new();
    for Member { key, path, value } in members(member.value, &member.path, faults).unwrap_or_default() {
        let domain = Domain::parse(&key);
        if domain.is_none() {
            fault(faults, &path, format!("not a domain, expected {}", Domain::EXPECTED));
        }
        let tenant_id = text(value, &path, faults).and_then(|text| {
            let id = Identifier::parse(&text);
            if id.is_none() {
                fault(faults, &path, format!("not a tenant's id, expected {}", Identifier::EXPECTED));
            }
            id
        });
        let (Some(domain), Some(tenant_id)) = (domain, tenant_id) else {
            continue;
        };
        match seen.insert(domain.clone(), path.clone()) {
            Some(other) => fault(faults, &path, format!("the same domain as {other}")),
            None => seed.domains.push((path, domain, tenant_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Location, changes};

    async fn load_text(store: &Store, text: &str) -> Result<Loaded, Vec<String>> {
        let bytes = text.as_bytes().to_vec();
        match store.write(move |connection| apply(connection, &bytes)).await {
            Ok(loaded) => Ok(loaded),
            Err(Refusal::Invalid(faults)) => Err(faults.iter().map(|fault| fault.to_string()).collect()),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn records(store: &Store) -> String {
        store.read(|connection| changes::page(connection, None, 100)).await.unwrap().tenants.join(" ")
    }

    #[tokio::test]
    async fn a_seed_is_loaded_again_and_over_what_is_there() {
        let store = Store::open(&Location::Memory).unwrap();
        let first =
            r#"{"tenants":[{"id":"acme","slug":"a"},{"id":"globex","slug":"g"}],"domains":{"App.Acme.com":"acme"}}"#;
        for _ in 0..2 {
            assert_eq!(load_text(&store, first).await, Ok(Loaded { tenants: 2, domains: 1 }));
        }
        let exchanged =
            r#"{"tenants":[{"id":"acme","slug":"g"},{"id":"globex","slug":"a"}],"domains":{"app.acme.com":"globex"}}"#;
        assert_eq!(load_text(&store, exchanged).await, Ok(Loaded { tenants: 2, domains: 1 }));
        let a = Identifier::parse("a").unwrap();
        let found = store.read(move |connection| directory::tenant(connection, &a)).await.unwrap().unwrap();
        assert_eq!(found, r#"{"id":"globex","slug":"a","status":"active"}"#);
    }

    #[tokio::test]
    async fn every_fault_of_a_seed_is_listed_and_nothing_of_it_is_loaded() {
        let store = Store::open(&Location::Memory).unwrap();
        load_text(&store, r#"{"tenants":[{"id":"old","slug":"taken"}]}"#).await.unwrap();
        let faults = load_text(
            &store,
            r#"{"tenants":[{"id":"good"},{"id":"good","slug":"g2"},{"id":"a/b"},{"id":"bad","status":"on","plan":1},{"id":"taken"},
                {"id":"s","slug":"good"},7],
               "domains":{"a.example":"good","A.example.":"good","b c":"good","c.example":"nobody","d.example":"bad","e.example":1},
               "tenant":[]}"#,
        )
        .await
        .unwrap_err();
        let expected = [
            "tenants[1].id: given twice in this seed",
            "tenants[2].id: not an identifier",
            r#"tenants[3].status: unknown value "on""#,
            "tenants[3].plan: unknown key",
            "tenants[6]: expected an object, got a number",
            r#"domains["A.example."]: the same domain as domains["a.example"]"#,
            r#"domains["b c"]: not a domain"#,
            r#"domains["e.example"]: expected a string, got a number"#,
            "tenant: unknown key, expected one of tenants, domains",
            r#"tenants[4].id: "taken" already names another tenant"#,
            r#"tenants[5].slug: "good" already names another tenant"#,
            r#"domains["c.example"]: no tenant has the id "nobody""#,
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault} is not {expected}");
        }
        assert_eq!(records(&store).await, r#"{"id":"old","slug":"taken","status":"active"}"#);
    }

    #[tokio::test]
    async fn what_is_no_seed_is_refused() {
        let store = Store::open(&Location::Memory).unwrap();
        for (text, expected) in [
            ("", "not JSON"),
            ("[]", "expected an object, got a list"),
            (r#"{"tenants":{}}"#, "tenants: expected a list, got an object"),
            (r#"{"domains":[]}"#, "domains: expected an object, got a list"),
            (r#"{"tenants":[]} x"#, "not JSON"),
        ] {
            let faults = load_text(&store, text).await.unwrap_err();
            assert!(matches!(faults.as_slice(), [only] if only.starts_with(expected)), "{text}: {faults:?}");
        }
    }
}
