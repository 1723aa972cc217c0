//! The strategies: a request → what each of them says of its tenant. Pure; who the tenant is, the directory knows.

use hmac_sha256::Hash;
use serde_json::{Map, Value, json};

use crate::config::{CustomResolver, Isolation, Jwt, Resolution};
use crate::jwt::{Presented, presented};
use crate::request::{Head, HostName};
use crate::tenant::Identifier;

/// What one strategy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim<'a> {
    /// It names no tenant.
    Absent,
    /// It names one.
    Tenant(Identifier),
    /// It names a domain, which the directory has to turn into a tenant, or not.
    Domain(HostName),
    /// A token says it, or what was meant as one; whether it is to be believed, its signature shows.
    Token(Presented<'a>),
    /// Envoy's own jwt_authn has verified a token, if there was one, and left its claims under this name.
    Metadata(&'a str),
    /// The team's own resolver has to say.
    Custom(Question),
    /// It gives several values, so that two readers could read two tenants.
    Ambiguous,
}

/// What the team's own resolver is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The same for questions that have one answer. A digest, so that what a client sends takes no memory, and a key that
    /// a header holds is nowhere kept.
    pub digest: [u8; 32],
    /// The question as JSON.
    pub body: Vec<u8>,
}

/// What a strategy says of a request.
pub fn claim<'a>(strategy: Resolution, isolation: &'a Isolation, head: &Head<'a>) -> Claim<'a> {
    match strategy {
        Resolution::Subdomain => subdomain(isolation, head),
        Resolution::CustomDomain => custom_domain(isolation, head),
        Resolution::Path => match head.target.tenant_segment(&isolation.path_prefix.0) {
            Some((identifier, _)) => Claim::Tenant(identifier),
            None => Claim::Absent,
        },
        Resolution::Header => header(isolation, head),
        Resolution::Query => query(isolation, head),
        Resolution::Custom => match &isolation.custom_resolver {
            Some(resolver) => Claim::Custom(question(resolver, head)),
            None => Claim::Absent,
        },
        Resolution::Jwt => match &isolation.jwt {
            Some(Jwt { envoy_metadata: Some(name), .. }) => Claim::Metadata(name),
            Some(jwt) => Claim::Token(presented(&jwt.from, head.values(jwt.from.header()))),
            None => Claim::Absent,
        },
    }
}

/// The one label before a base domain. Of several base domains the longest that fits decides, so that with `example.com`
/// and `app.example.com` the host `app.example.com` is a base domain and not the tenant `app`.
fn subdomain<'a>(isolation: &Isolation, head: &Head<'_>) -> Claim<'a> {
    let Some(host) = HostName::in_authority(head.authority) else { return Claim::Absent };
    let Some(label) = before_longest_base(isolation, &host) else { return Claim::Absent };
    if isolation.reserved_subdomains.iter().any(|reserved| reserved.0 == label) || label.contains('.') {
        return Claim::Absent;
    }
    Identifier::parse(label.as_bytes()).map_or(Claim::Absent, Claim::Tenant)
}

/// A host that isn't the platform's own. What is under a base domain is, so nobody else's domain is looked for there.
fn custom_domain<'a>(isolation: &Isolation, head: &Head<'_>) -> Claim<'a> {
    match HostName::from_authority(head.authority) {
        Some(host) if before_longest_base(isolation, host.as_str()).is_none() => Claim::Domain(host),
        _ => Claim::Absent,
    }
}

fn before_longest_base<'h>(isolation: &Isolation, host: &'h str) -> Option<&'h str> {
    isolation.base_domain.0.iter().filter_map(|base| base.label_before(host)).min_by_key(|label| label.len())
}

/// A header's one value. A list in one header is as ambiguous as two headers, because a proxy on the way may have joined them.
fn header<'a>(isolation: &Isolation, head: &Head<'_>) -> Claim<'a> {
    let mut values = head.values(isolation.header_name.as_str());
    match (values.next(), values.next()) {
        (None, _) => Claim::Absent,
        (Some(_), Some(_)) => Claim::Ambiguous,
        (Some(value), None) if value.contains(&b',') => Claim::Ambiguous,
        (Some(value), None) => Identifier::parse(value.trim_ascii()).map_or(Claim::Absent, Claim::Tenant),
    }
}

fn query<'a>(isolation: &Isolation, head: &Head<'_>) -> Claim<'a> {
    let mut values = head.target.query_values(&isolation.query_param);
    match (values.next(), values.next()) {
        (None, _) => Claim::Absent,
        (Some(_), Some(_)) => Claim::Ambiguous,
        (Some(value), None) => Identifier::parse(value.as_bytes()).map_or(Claim::Absent, Claim::Tenant),
    }
}

/// The request as the resolver is told of it. Where answers are kept they are one for all requests with the same values of
/// the listed headers; else for the same question.
fn question(resolver: &CustomResolver, head: &Head<'_>) -> Question {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let mut headers = Map::new();
    let mut digest = Hash::new();
    for name in resolver.headers.iter().map(|name| name.as_str()) {
        // Several headers of one name are one list, says RFC 9110, section 5.3.
        let values: Vec<&[u8]> = head.values(name).collect();
        // Lengths keep two headers apart, and a header that is empty from one that isn't there.
        digest.update(values.len().to_le_bytes());
        for value in &values {
            digest.update(value.len().to_le_bytes());
            digest.update(value);
        }
        if !values.is_empty() {
            headers.insert(name.to_owned(), text(&values.join(&b", "[..])));
        }
    }
    let method = head.values(":method").next().unwrap_or_default();
    let target = match head.target.query {
        Some(query) => [head.target.path, b"?", query].concat(),
        None => head.target.path.to_vec(),
    };
    let body = json!({
        "method": text(method),
        "authority": text(head.authority),
        "path": text(&target),
        "headers": headers,
    });
    let body = body.to_string().into_bytes();
    if resolver.cache_seconds.is_none() {
        digest.update(&body);
    }
    Question { digest: digest.finalize(), body }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn config(isolation: serde_json::Value) -> Isolation {
        Config::from_value(&json!({"isolation": isolation, "tenants": [{"id": "acme"}]})).unwrap().isolation
    }

    fn check(strategy: Resolution, isolation: &Isolation, headers: &[(&str, &str)], expected: &Claim<'_>) {
        let pairs = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(claim(strategy, isolation, &Head::new(pairs)), *expected, "{headers:?}");
    }

    fn tenant(name: &str) -> Claim<'static> {
        Claim::Tenant(Identifier::parse(name.as_bytes()).unwrap())
    }

    #[test]
    fn the_longest_base_domain_decides() {
        let isolation = config(json!({
            "resolution": "subdomain",
            "baseDomain": ["example.com", "App.Example.com", "bücher.example"],
            "reservedSubdomains": ["www", "7"],
        }));
        let rows = [
            ("acme.example.com", tenant("acme")),
            ("ACME.app.example.com:443", tenant("acme")),
            ("app.example.com", Claim::Absent),
            ("example.com", Claim::Absent),
            ("a.b.example.com", Claim::Absent),
            ("www.example.com", Claim::Absent),
            ("7.app.example.com", Claim::Absent),
            ("acme.xn--bcher-kva.example", tenant("acme")),
            ("acme.bücher.example", tenant("acme")),
            ("köln.example.com", tenant("xn--kln-sna")),
            ("evilexample.com", Claim::Absent),
            ("acme.example.com.evil.org", Claim::Absent),
        ];
        for (authority, expected) in rows {
            check(Resolution::Subdomain, &isolation, &[(":authority", authority)], &expected);
        }
        check(Resolution::Subdomain, &isolation, &[], &Claim::Absent);
    }

    #[test]
    fn a_host_under_a_base_domain_is_no_custom_domain() {
        let isolation = config(json!({
            "resolution": ["subdomain", "custom_domain"],
            "baseDomain": "app.example.com",
            "domainLookup": {"cluster": "c", "path": "/{domain}"},
        }));
        let domain = |name: &str| Claim::Domain(HostName::parse(name.as_bytes()).unwrap());
        check(Resolution::CustomDomain, &isolation, &[(":authority", "App.Acme.com.:80")], &domain("app.acme.com"));
        for authority in ["acme.app.example.com", "app.example.com", "a.b.app.example.com", "127.0.0.1", "[::1]:80", ""]
        {
            check(Resolution::CustomDomain, &isolation, &[(":authority", authority)], &Claim::Absent);
        }
    }

    #[test]
    fn one_header_with_one_value_names_a_tenant() {
        let isolation = config(json!({"resolution": "header", "headerName": "X-Org"}));
        let rows: [(&[(&str, &str)], Claim<'_>); 7] = [
            (&[("x-org", "acme")], tenant("acme")),
            (&[("x-org", "acme"), ("x-org", "acme")], Claim::Ambiguous),
            (&[("x-org", "acme"), ("x-org", "")], Claim::Ambiguous),
            (&[("x-org", "acme,globex")], Claim::Ambiguous),
            (&[("x-org", "")], Claim::Absent),
            (&[("x-org", "a/b")], Claim::Absent),
            (&[("x_org", "acme")], Claim::Absent),
        ];
        for (headers, expected) in rows {
            check(Resolution::Header, &isolation, headers, &expected);
        }
    }

    #[test]
    fn one_parameter_with_one_value_names_a_tenant() {
        let isolation = config(json!({"resolution": "query"}));
        let rows = [
            ("/?tenant=acme", tenant("acme")),
            ("/?tenant=acme&tenant=acme", Claim::Ambiguous),
            ("/?tenant=&tenant=acme", Claim::Ambiguous),
            ("/?tenant=a&%74enant=b", Claim::Ambiguous),
            ("/?tenant=a+b", Claim::Absent),
            ("/?tenant=%ff", Claim::Absent),
            ("/?tenant", Claim::Absent),
        ];
        for (path, expected) in rows {
            check(Resolution::Query, &isolation, &[(":path", path)], &expected);
        }
    }
}
