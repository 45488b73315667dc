//! Where every stage of the pipeline stands, what its feeds lost, and how much happens.

mod consumers;
mod rates;

use maud::{Markup, html};
use sluice_runtime::status::groups::{Group, State};
use sluice_schemas::{StatusEvent, StatusKind};

use super::layout::{Page, Place};
use super::notice::Notice;
use super::text::{ago, count, counted, duration, time};
use super::{Moment, Pages, chart};
use consumers::Standing;

pub(super) use consumers::Groups;
pub(super) use rates::Rates;

/// A row of the table of stages.
struct Stage {
    name: String,
    what: String,
    height: Option<i32>,
    blocks_behind: Option<i64>,
    seconds_behind: Option<i64>,
    state: &'static str,
    class: &'static str,
}

pub(super) fn page(pages: &Pages, moment: &Moment) -> Result<Page, Notice> {
    let chain = pages.index.chain();
    let standing = pages.groups.standing(chain, moment)?;
    let rates = pages.rates.at(chain, moment.view.position(), moment.now)?;
    let body = html! {
        h1 { "Pipeline" }
        div id="pipeline" data-live="timer" {
            (stages(&stages_of(&standing, moment)))
            section aria-labelledby="rates" {
                h2 id="rates" { "The last half hour" }
                div.charts {
                    (chart::bars("Blocks", "connected or disconnected", &rates.blocks))
                    (chart::bars("Confirmed transactions", "in those blocks", &rates.transactions))
                    (chart::bars("Mempool changes", "came and went", &rates.mempool))
                }
            }
            (gaps(moment))
            (news(moment))
        }
    };
    Ok(Page::Shown { title: "Pipeline".to_owned(), place: Place::Pipeline, body })
}

fn stages_of(standing: &Standing, moment: &Moment) -> Vec<Stage> {
    let mut stages = vec![source(moment), producer(moment), index(standing, moment)];
    stages.extend(standing.groups.iter().map(group));
    stages
}

fn source(moment: &Moment) -> Stage {
    let seen = &moment.seen;
    let (state, class) = match (&seen.last, &seen.down) {
        // Nobody says so any more.
        (None, _) => ("unknown", "quiet"),
        _ if seen.silent_since(moment.now).is_some() => ("unknown", "quiet"),
        (_, Some(_)) => ("down", "bad"),
        (_, None) => ("up", "good"),
    };
    Stage {
        name: "Source".to_owned(),
        what: seen
            .last
            .as_ref()
            .map_or_else(|| "no sign of life kept".to_owned(), |last| last.source.clone()),
        height: seen.source_height(),
        blocks_behind: None,
        seconds_behind: None,
        state,
        class,
    }
}

fn producer(moment: &Moment) -> Stage {
    let seen = &moment.seen;
    let height = seen.height();
    let behind = seen
        .source_height()
        .zip(height)
        .map(|(source, height)| i64::from(source.saturating_sub(height)).max(0));
    let silent = seen.silent_since(moment.now);
    let published = seen.tail.as_ref().map(|tail| tail.observed_at);
    let since = silent.or(published.filter(|_| behind != Some(0)));
    let (state, class) = match (silent, behind) {
        (Some(_), _) => ("silent", "bad"),
        (None, _) if seen.down.is_some() => ("waiting", "pending"),
        (None, None) => ("unknown", "quiet"),
        (None, Some(0..=1)) => ("current", "good"),
        (None, Some(_)) => ("behind", "pending"),
    };
    let epoch = seen.tail.as_ref().map_or(0, |tail| tail.epoch);
    Stage {
        name: "Producer".to_owned(),
        what: format!("epoch {}", count(epoch)),
        height,
        blocks_behind: behind,
        // Without a time it is not behind, or nobody knows.
        seconds_behind: since.map(|since| moment.now.saturating_sub(since).max(0) / 1000).or(behind),
        state,
        class,
    }
}

fn index(standing: &Standing, moment: &Moment) -> Stage {
    let behind = moment.progress.behind();
    let (state, class) = match moment.progress.is_remarkable() {
        false => ("current", "good"),
        true => ("building", "pending"),
    };
    Stage {
        name: "Index".to_owned(),
        what: format!("{} %", moment.progress.percent()),
        height: moment.view.tip().map(|tip| tip.height),
        blocks_behind: Some(behind),
        seconds_behind: match (behind, standing.unindexed_since) {
            (0, _) => Some(0),
            (_, since) => since.map(|since| moment.now.saturating_sub(since).max(0) / 1000),
        },
        state,
        class,
    }
}

fn group(group: &Group) -> Stage {
    Stage {
        name: group.name.clone(),
        what: counted(group.members as i64, "member"),
        height: group.height,
        blocks_behind: group.blocks_behind,
        seconds_behind: Some(i64::try_from(group.behind.as_secs()).unwrap_or(i64::MAX)),
        state: group.state.name(),
        class: match group.state {
            State::Current => "good",
            State::Behind => "pending",
            State::Stuck => "bad",
            State::Stopped => "quiet",
        },
    }
}

fn stages(stages: &[Stage]) -> Markup {
    let number = |number: Option<i64>| number.map_or_else(|| "–".to_owned(), count);
    html! {
        table.stages {
            caption.hidden { "Stages, from the source to the consumers" }
            thead {
                tr {
                    th scope="col" { "Stage" }
                    th.wide scope="col" { "What" }
                    th.number scope="col" { "Height" }
                    th.number.wide scope="col" { "Blocks behind" }
                    th.number scope="col" { "Behind for" }
                    th scope="col" { "State" }
                }
            }
            tbody {
                @for stage in stages {
                    tr {
                        th scope="row" { (stage.name) }
                        td.wide { small { (stage.what) } }
                        td.number { (number(stage.height.map(i64::from))) }
                        td.number.wide { (number(stage.blocks_behind)) }
                        td.number { @match stage.seconds_behind { Some(seconds) => (duration(seconds)), None => "–" } }
                        td { span class={ "badge " (stage.class) } { (stage.state) } }
                    }
                }
            }
        }
    }
}

fn gaps(moment: &Moment) -> Markup {
    let gaps = &moment.seen.gaps;
    html! {
        section aria-labelledby="gaps" {
            h2 id="gaps" { "Gaps in the feeds" }
            dl.tiles.three {
                div { dt { "Found" } dd { span.figure { (count(gaps.detected as i64)) } } }
                div { dt { "Repaired" } dd { span.figure { (count(gaps.repaired as i64)) } } }
                div { dt { "Open" } dd { span.figure { (count(gaps.open.len() as i64)) } } }
            }
            @if !gaps.open.is_empty() {
                ul.plain {
                    @for gap in gaps.open.iter().rev().take(10) {
                        li {
                            span.badge.bad { "open" } " " b { (gap.feed) }
                            @if let (Some(from), Some(to)) = (gap.from, gap.to) { ", numbers " (count(from)) " to " (count(to)) }
                            ", found " (ago(gap.detected_at, moment.now))
                        }
                    }
                }
            }
        }
    }
}

fn news(moment: &Moment) -> Markup {
    html! {
        @if !moment.seen.news.is_empty() {
            section aria-labelledby="log" {
                h2 id="log" { "What the producer told" }
                ol.journey {
                    @for event in &moment.seen.news { (told(event, moment)) }
                }
            }
        }
    }
}

fn told(event: &StatusEvent, moment: &Moment) -> Markup {
    let (class, words) = match event.kind {
        StatusKind::GapDetected => ("lost", "Gap found"),
        StatusKind::GapRepaired => ("mined", "Gap repaired"),
        StatusKind::SourceUp => ("mined", "Source up"),
        StatusKind::SourceDown => ("lost", "Source down"),
        StatusKind::Takeover => ("seen", "Takeover"),
        StatusKind::Reorg => ("lost", "Reorg"),
        StatusKind::Heartbeat => ("seen", "Heartbeat"),
    };
    html! {
        li class=(class) {
            p {
                b { (words) }
                @if let Some(feed) = &event.feed { " in " (feed) }
                @if let (Some(from), Some(to)) = (event.from, event.to) { ", numbers " (count(from)) " to " (count(to)) }
                @if let Some(recovered) = event.recovered { ", " (counted(recovered, "change")) " restored" }
                @if !event.detail.is_empty() { ": " (event.detail) }
            }
            p { small { (time(event.observed_at)) ", " (ago(event.observed_at, moment.now)) ", " (event.source) ", epoch " (event.epoch) } }
        }
    }
}
