//! Which requests are open in a partition: a fold over its replay topic.

use std::collections::VecDeque;

use super::entry::{Entry, Note, Request, Tally};

/// A request that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Names it.
    pub id: String,
    /// When it was made, milliseconds since 1970.
    pub at: i64,
    /// What it asks for.
    pub request: Request,
    /// Where to go on, once something was done.
    pub next: Option<i64>,
    /// How much was done.
    pub tally: Tally,
}

/// The requests of a partition that are not done, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    open: VecDeque<Open>,
}

impl Requests {
    /// Takes in what a record says.
    pub fn apply(&mut self, entry: Entry) {
        let Entry { at, id, note } = entry;
        match note {
            Note::Request(request) => {
                if !self.open.iter().any(|open| open.id == id) {
                    self.open.push_back(Open { id, at, request, next: None, tally: Tally::default() });
                }
            }
            Note::Progress { next, tally } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
                    (open.next, open.tally) = (Some(next), tally);
                }
            }
            Note::Done(_) | Note::Cancelled => self.open.retain(|open| open.id != id),
        }
    }

    /// The one whose turn it is.
    pub fn first(&self) -> Option<&Open> {
        self.open.front()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Open> {
        self.open.iter()
    }
}
