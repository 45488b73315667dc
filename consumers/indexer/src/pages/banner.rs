//! What a reader of any page should know first: that it may be older than it looks, and why.

use maud::{Markup, html};

use super::Moment;
use super::progress::Progress;
use super::text::{ago, count, duration};
use super::watch::Trouble;

/// Nothing where all is well.
pub(super) fn banners(moment: &Moment) -> Markup {
    let now = moment.now;
    html! {
        @match moment.seen.trouble(now) {
            Some(Trouble::LogLost { since }) => p.banner.bad role="status" {
                strong { "The event log cannot be read" } ", for the first time " (ago(since, now))
                ". What is shown is the chain as the index has it."
            },
            Some(Trouble::Silent { since }) => p.banner.bad role="status" {
                strong { "The producer has said nothing for " (duration((now - since) / 1000)) ". " }
                "It may have stopped, or be at work on a very large block. What is shown is the chain as of then."
            },
            Some(Trouble::SourceDown { since, detail }) => p.banner.bad role="status" {
                strong { "The producer cannot reach its source" } ", for the first time " (ago(since, now)) ": " (detail)
                ". What is shown is the chain as of then."
            },
            None => @if let Some(progress) = publishing(moment) {
                p.banner role="status" {
                    strong { "The producer is catching up. " }
                    "Height " (count(progress.done)) " of " (count(progress.total)) " is on the log (" (progress.percent()) " %). "
                    (bar(progress, "Heights on the log"))
                }
            },
        }
        @if moment.progress.is_remarkable() {
            p.banner role="status" {
                strong { "The index is being built. " }
                (count(moment.progress.done)) " of " (count(moment.progress.total)) " chain events are in it ("
                (moment.progress.percent()) " %). What is shown is the chain as of then. "
                (bar(moment.progress, "Chain events in the index"))
            }
        }
    }
}

/// How far the producer is, where it is well behind its source.
fn publishing(moment: &Moment) -> Option<Progress> {
    let (done, total) = (moment.seen.height()?, moment.seen.source_height()?);
    Some(Progress { done: done.into(), total: total.into() }).filter(|progress| progress.is_remarkable())
}

pub(super) fn bar(progress: Progress, label: &str) -> Markup {
    html! { progress max=(progress.total) value=(progress.done) aria-label=(label) {} }
}
