//! What is true: the tenants, and what the directory would say of each name, at every moment.

use std::collections::BTreeMap;

use envoy_tenancy::tenant::Status;
use serde_json::{Value, json};

use crate::random::Random;

/// Milliseconds on a clock that nobody sets.
pub type Time = u64;

/// What the directory says of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Absent,
    Tenant {
        id: String,
        slug: Option<String>,
        status: Status,
    },
    /// The domain belongs to the tenant of this id.
    Named(String),
}

impl Said {
    /// The id of the tenant that it leads to.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Tenant { id, .. } | Self::Named(id) => Some(id),
        }
    }

    /// The body of a 200, with the number of the call that it answers, so that a verdict shows by which answer it was made.
    pub fn body(&self, call: usize) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Tenant { id, slug, status } => {
                let status = match status {
                    Status::Active => "active",
                    Status::Suspended => "suspended",
                    Status::Inactive => "inactive",
                };
                json!({"id": id, "slug": slug, "status": status, "metadata": {"call": call}})
            }
            Self::Named(id) => json!({"tenantId": id}),
        }
    }
}

pub fn tenant_key(name: &str) -> String {
    format!("/tenants/{name}")
}

pub fn domain_key(name: &str) -> String {
    format!("/domains/{name}")
}

/// What a key is about: its last segment.
pub fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap()
}

struct Tenant {
    id: String,
    slug: Option<String>,
    /// `None` where there is no such tenant, not yet or no longer.
    status: Option<Status>,
    /// When it was last changed, as the directory counts.
    revision: u64,
}

struct Domain {
    name: String,
    owner: Option<usize>,
    /// Whether the directory answers with the whole tenant or with its id.
    whole: bool,
}

/// The tenants and domains, now and before. A name is known by its key, the path that asks for it.
pub struct Truth {
    tenants: Vec<Tenant>,
    domains: Vec<Domain>,
    history: BTreeMap<String, Vec<(Time, Said)>>,
    /// The names of tenants that there ever are: ids and slugs.
    pub names: Vec<String>,
    /// The domains that there ever are.
    pub hosts: Vec<String>,
}

impl Truth {
    pub fn new(random: &mut Random) -> Self {
        let count = random.between(10, 30);
        let tenants = (0..count).map(|n| Tenant {
            id: format!("id-{n}"),
            slug: random.percent(60).then(|| format!("slug-{n}")),
            status: any_status(random),
            revision: n + 1,
        });
        let tenants: Vec<Tenant> = tenants.collect();
        let domains = (0..random.between(2, 10)).map(|n| Domain {
            name: format!("shop-{n}.example.org"),
            owner: random.percent(80).then(|| random.index(tenants.len())),
            whole: random.percent(30),
        });
        let domains: Vec<Domain> = domains.collect();
        let names = tenants.iter().flat_map(|t| std::iter::once(t.id.clone()).chain(t.slug.clone())).collect();
        let hosts = domains.iter().map(|domain| domain.name.clone()).collect();
        let mut truth = Self { tenants, domains, history: BTreeMap::new(), names, hosts };
        truth.note(0);
        truth
    }

    /// Changes something.
    pub fn change(&mut self, random: &mut Random, now: Time) {
        let any = random.index(self.tenants.len());
        match random.below(100) {
            0..70 => {
                self.tenants[any].status = any_status(random);
                self.revise(any);
            }
            70..80 => {
                // A slug goes from one tenant to another.
                let slug = self.tenants[any].slug.take();
                let heir = random.index(self.tenants.len());
                if self.tenants[heir].slug.is_none() {
                    self.tenants[heir].slug = slug;
                }
                self.revise(any);
                self.revise(heir);
            }
            _ => {
                let domain = random.index(self.domains.len());
                self.domains[domain].owner = random.percent(80).then_some(any);
            }
        }
        self.note(now);
    }

    /// What the directory would have said of a name at a moment.
    pub fn at(&self, key: &str, moment: Time) -> Said {
        let history = self.history.get(key).map(Vec::as_slice).unwrap_or_default();
        history.iter().rev().find(|(from, _)| *from <= moment).map_or(Said::Absent, |(_, said)| said.clone())
    }

    /// Whether it would have said such a thing at some moment between two.
    pub fn was(&self, key: &str, from: Time, to: Time, such: impl Fn(&Said) -> bool) -> bool {
        let Some(history) = self.history.get(key) else { return such(&Said::Absent) };
        let ends = history.iter().skip(1).map(|(end, _)| *end).chain([Time::MAX]);
        history.iter().zip(ends).any(|((start, said), end)| *start <= to && end > from && such(said))
    }

    /// A page of a snapshot: the tenants in the order of their last change, from behind a cursor. `None` where the directory
    /// doesn't know the cursor any more.
    pub fn page(
        &self,
        target: &str,
        call: usize,
        limit: usize,
        with_latest: bool,
        random: &mut Random,
        broken: u64,
    ) -> Option<Value> {
        let after: Option<u64> = target.split_once("after=").map(|(_, cursor)| cursor.parse().unwrap());
        if after.is_some() && random.percent(3) {
            return None;
        }
        let mut all: Vec<&Tenant> = self.tenants.iter().filter(|t| t.revision > after.unwrap_or(0)).collect();
        all.sort_by_key(|tenant| tenant.revision);
        let more = all.len() > limit;
        all.truncate(limit);
        let records = all.iter().filter(|tenant| after.is_some() || tenant.status.is_some()).map(|tenant| {
            let mut record = match said(tenant) {
                Said::Absent => json!({"id": tenant.id, "deleted": true}),
                said => said.body(call),
            };
            if random.percent(broken) && tenant.status.is_some() {
                record["status"] = json!(7);
            }
            record
        });
        let mut page = json!({"tenants": records.collect::<Vec<_>>(), "next": null});
        if more {
            page["next"] = json!(all.last().unwrap().revision.to_string());
        }
        if with_latest {
            page["latest"] = json!(self.latest().to_string());
        }
        Some(page)
    }

    fn latest(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.revision).max().unwrap()
    }

    fn revise(&mut self, tenant: usize) {
        self.tenants[tenant].revision = self.latest() + 1;
    }

    /// The ids of all tenants whose a name ever was.
    pub fn ids(&self, key: &str) -> impl Iterator<Item = String> {
        let history = self.history.get(key).map(Vec::as_slice).unwrap_or_default();
        history.iter().filter_map(|(_, said)| said.id().map(str::to_owned))
    }

    fn note(&mut self, now: Time) {
        let mut all: BTreeMap<String, Said> = self.names.iter().map(|name| (tenant_key(name), Said::Absent)).collect();
        for tenant in &self.tenants {
            for name in std::iter::once(&tenant.id).chain(&tenant.slug) {
                all.insert(tenant_key(name), said(tenant));
            }
        }
        for domain in &self.domains {
            let says = match domain.owner {
                None => Said::Absent,
                Some(owner) if domain.whole => said(&self.tenants[owner]),
                Some(owner) => Said::Named(self.tenants[owner].id.clone()),
            };
            all.insert(domain_key(&domain.name), says);
        }
        for (key, says) in all {
            let history = self.history.entry(key).or_default();
            if history.last().is_none_or(|(_, last)| *last != says) {
                history.push((now, says));
            }
        }
    }
}

fn said(tenant: &Tenant) -> Said {
    match tenant.status {
        Some(status) => Said::Tenant { id: tenant.id.clone(), slug: tenant.slug.clone(), status },
        None => Said::Absent,
    }
}

fn any_status(random: &mut Random) -> Option<Status> {
    match random.below(100) {
        0..60 => Some(Status::Active),
        60..75 => Some(Status::Suspended),
        75..85 => Some(Status::Inactive),
        _ => None,
    }
}
