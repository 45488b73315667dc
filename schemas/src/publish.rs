//! What `sluice schemas` does: print, check, publish.

use crate::compat::{self, Incompatibility};
use crate::event::EventKind;
use crate::registry::{Error, Registry, Verdict, subject};
use crate::topics::Topics;

/// The current Avro schema of a kind of event, as JSON text.
pub fn print(kind: EventKind) -> &'static str {
    kind.schema()
}

/// Checks the current schemas against every released version, both ways, without a registry.
///
/// # Errors
/// Everything that a released reader or writer could not live with.
pub fn check() -> Result<(), Vec<Incompatibility>> {
    let found: Vec<_> = EventKind::ALL.into_iter().flat_map(compat::check_kind).collect();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// A schema that the registry holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Kind of event.
    pub kind: EventKind,
    /// Subject: `<topic>-value`.
    pub subject: String,
    /// Its id at the registry.
    pub id: u32,
    /// Whether it was registered just now.
    pub new: bool,
}

/// Brings the current schemas of all topics to a registry, each under the subject of its topic, which is set to
/// FULL_TRANSITIVE. A registry that has them already is only read.
///
/// # Errors
/// `Error::Incompatible` where a subject holds a version that the schema does not work with.
pub fn publish(registry: &Registry, topics: &Topics) -> Result<Vec<Published>, Error> {
    let mut published = Vec::with_capacity(EventKind::ALL.len());
    for kind in EventKind::ALL {
        let subject = subject(topics.name(kind));
        let schema = kind.schema();
        if let Some(id) = registry.lookup(&subject, schema)? {
            published.push(Published { kind, subject, id, new: false });
            continue;
        }
        let id = match registry.check(&subject, schema)? {
            // Some registries keep no setting for a subject that does not exist yet.
            Verdict::NewSubject => {
                let id = registry.register(&subject, schema)?;
                registry.require_full_transitive(&subject)?;
                id
            }
            Verdict::Compatible => {
                registry.require_full_transitive(&subject)?;
                registry.register(&subject, schema)?
            }
            Verdict::Incompatible { reasons } => {
                return Err(Error::Incompatible { subject, url: registry.url().to_owned(), reasons });
            }
        };
        published.push(Published { kind, subject, id, new: true });
    }
    Ok(published)
}
