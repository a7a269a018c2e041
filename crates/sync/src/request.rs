//! What a request asks for, checked before anything is done.

use crate::smoke;
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::wire::StartRunsRequest;
use std::collections::HashMap;

/// A path of the sync worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// How the worker fares.
    Health,
    /// Its numbers.
    Metrics,
    /// A unit of bulk work.
    Units,
    /// Start runs over these entities.
    Start(RunKind, Vec<EntityType>),
    /// The account's status.
    Status,
    /// Its runs.
    Runs,
    /// One run.
    Run(String),
    /// What a run would do.
    Plan(String),
    /// Let a run go on that the blast guard stopped.
    Approve(String),
    /// End a run.
    Cancel(String),
    /// Undo a run.
    RevertRun(String),
    /// Compare both sides, or see what the last comparison found.
    Verify,
    /// What happened to a row.
    Audit,
    /// Undo an entry of the audit log.
    RevertEntry(i64),
    /// Open conflicts.
    Conflicts,
    /// One conflict.
    Conflict(String),
    /// A decision about a conflict.
    Resolve(String),
    /// A proof that the deployed system works.
    Smoke(smoke::Part),
    /// A run of a kind that there is not.
    UnknownKind,
    /// There is no such path.
    Unknown,
}

impl Path {
    /// Finds the path; `query` decides the kind of a run over one entity.
    #[must_use]
    pub fn parse(path: &str, query: &Query) -> Self {
        // Compared as they are: a doubled or a trailing slash is another path, for us as for a rule at the edge.
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or_default().split('/').collect();
        match parts.as_slice() {
            ["health"] => Self::Health,
            ["metrics"] => Self::Metrics,
            ["smoke", name] => smoke::Part::from_name(name).map_or(Self::Unknown, Self::Smoke),
            ["units"] => Self::Units,
            ["sync", "full"] => query.start_of(EntityType::ALL.to_vec()),
            ["sync", "status"] => Self::Status,
            ["sync", "runs"] => Self::Runs,
            ["conflicts"] => Self::Conflicts,
            ["conflicts", id] if is_uuid(id) => Self::Conflict((*id).to_owned()),
            ["conflicts", id, "resolve"] if is_uuid(id) => Self::Resolve((*id).to_owned()),
            ["sync", "runs", id] if is_uuid(id) => Self::Run((*id).to_owned()),
            ["sync", "runs", id, "plan"] if is_uuid(id) => Self::Plan((*id).to_owned()),
            ["sync", "runs", id, "approve"] if is_uuid(id) => Self::Approve((*id).to_owned()),
            ["sync", "runs", id, "cancel"] if is_uuid(id) => Self::Cancel((*id).to_owned()),
            ["sync", "runs", id, "revert"] if is_uuid(id) => Self::RevertRun((*id).to_owned()),
            ["sync", "verify"] => Self::Verify,
            ["audit"] => Self::Audit,
            ["audit", id, "revert"] => id.parse().map_or(Self::Unknown, Self::RevertEntry),
            ["sync", name] => match EntityType::from_plural(name) {
                Some(entity) => query.start_of(vec![entity]),
                None => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    /// Takes each parameter once: which of two counts would be anybody's guess. `Err` says that one is repeated.
    pub fn new(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut known = HashMap::new();
        for (name, value) in pairs {
            if known.insert(name, value).is_some() {
                return Err("a parameter of the address is given more than once".to_owned());
            }
        }
        Ok(Self(known))
    }

    /// A parameter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The account that is named; `Err` says what is wrong with the name.
    pub fn account(&self) -> Result<Option<AccountId>, String> {
        self.get("account").map(AccountId::parse).transpose().map_err(|error| error.to_string())
    }

    fn start_of(&self, entities: Vec<EntityType>) -> Path {
        match self.get("kind") {
            None | Some("full") => Path::Start(RunKind::Full, entities),
            Some("incremental") => Path::Start(RunKind::Incremental, entities),
            Some(_) => Path::UnknownKind,
        }
    }

    /// How many of a list are asked for; `Err` says what is wrong.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, String> {
        self.number("limit", default, max)
    }

    /// A number from 1 to `max`; `Err` says what is wrong.
    pub fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=max).contains(number))
                .ok_or_else(|| format!("{name} is 1 to {max}")),
        }
    }

    /// The entity that is named; `Err` says what is wrong with the name.
    pub fn entities(&self) -> Result<Vec<EntityType>, String> {
        match self.get("entity") {
            None => Ok(EntityType::ALL.to_vec()),
            Some(name) => EntityType::from_name(name)
                .map(|entity| vec![entity])
                .ok_or_else(|| "entity is contact, order, tag or subscription".to_owned()),
        }
    }

    /// What a start asks for; `Err` says what is wrong.
    pub fn start(&self, kind: RunKind, entities: &[EntityType]) -> Result<StartRunsRequest, String> {
        let direction = match self.get("direction") {
            None | Some("bidirectional") => Direction::Bidirectional,
            Some("keap_to_supabase") => Direction::KeapToSupabase,
            Some("supabase_to_keap") => Direction::SupabaseToKeap,
            Some(_) => {
                return Err("direction is keap_to_supabase, supabase_to_keap or bidirectional".to_owned());
            }
        };
        if kind == RunKind::Verify && (self.get("direction").is_some() || self.get("dry_run").is_some()) {
            return Err("a comparison writes nothing: leave direction and dry_run out".to_owned());
        }
        let dry_run = match self.get("dry_run") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err("dry_run is true or false".to_owned()),
        };
        Ok(StartRunsRequest { kind, entities: entities.to_vec(), direction, dry_run, reverts: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
    }

    #[test]
    fn paths_name_what_to_do() {
        let none = Query::default();
        assert_eq!(Path::parse("/sync/full", &none), Path::Start(RunKind::Full, EntityType::ALL.to_vec()));
        let incremental = query(&[("kind", "incremental")]);
        assert_eq!(
            Path::parse("/sync/contacts", &incremental),
            Path::Start(RunKind::Incremental, vec![EntityType::Contact])
        );
        assert_eq!(Path::parse("/sync/contacts", &query(&[("kind", "weird")])), Path::UnknownKind);
        assert_eq!(Path::parse("/sync/orders", &none), Path::Start(RunKind::Full, vec![EntityType::Order]));
        let id = "018f3f6e-0000-4000-8000-00000000abcd";
        assert_eq!(Path::parse("/conflicts", &none), Path::Conflicts);
        assert_eq!(Path::parse(&format!("/conflicts/{id}"), &none), Path::Conflict(id.to_owned()));
        assert_eq!(Path::parse(&format!("/conflicts/{id}/resolve"), &none), Path::Resolve(id.to_owned()));
        assert_eq!(Path::parse(&format!("/sync/runs/{id}/revert"), &none), Path::RevertRun(id.to_owned()));
        assert_eq!(Path::parse("/audit/17/revert", &none), Path::RevertEntry(17));
        assert_eq!(Path::parse("/smoke/queries", &none), Path::Smoke(smoke::Part::Queries));
        for odd in [
            "/",
            "/audit/x/revert",
            "/smoke",
            "/smoke/fire",
            "/conflicts/x",
            "/sync",
            "/sync/planets",
            "/sync/runs/../x",
            "/sync/runs/1'--",
            "/healthy",
            "//health",
            "/health/",
            "/sync//full",
            "/sync/%66ull",
            "/SYNC/full",
            "",
        ] {
            assert_eq!(Path::parse(odd, &none), Path::Unknown, "{odd}");
        }
    }

    #[test]
    fn a_parameter_counts_once() {
        let pairs = [("account", "a"), ("limit", "1"), ("account", "b")];
        assert!(
            Query::new(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))).is_err()
        );
    }

    #[test]
    fn starts_are_checked() {
        let start = |pairs: &[(&str, &str)]| query(pairs).start(RunKind::Full, &[EntityType::Contact]);
        assert_eq!(start(&[]).unwrap().direction, Direction::Bidirectional);
        assert_eq!(start(&[("direction", "supabase_to_keap")]).unwrap().direction, Direction::SupabaseToKeap);
        assert!(query(&[("dry_run", "true")]).start(RunKind::Verify, &EntityType::ALL).is_err());
        assert!(start(&[("direction", "up")]).is_err());
        assert!(
            start(&[("dry_run", "true")]).unwrap().dry_run
                && !start(&[("dry_run", "false")]).unwrap().dry_run
        );
        assert!(start(&[("dry_run", "yes")]).is_err());
        assert_eq!(query(&[("entity", "order")]).entities(), Ok(vec![EntityType::Order]));
        assert!(query(&[("entity", "orders")]).entities().is_err());
        assert!(query(&[("account", "No!")]).account().is_err());
        assert_eq!(query(&[]).account(), Ok(None));
        assert_eq!(query(&[("rows", "5")]).number("rows", 1, 5), Ok(5));
        assert!(query(&[("rows", "0")]).number("rows", 1, 5).unwrap_err().contains("1 to 5"));
    }
}
