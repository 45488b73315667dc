//! A transaction as a drawing: what comes in flows to the middle, and from there to where it goes. Widths are as amounts.

use maud::{Markup, html};
use sluice_schemas::Transaction;

use super::text::{amount_text, counted};

/// Bands drawn on a side; the others are drawn as one.
const MAX_BANDS: usize = 10;
/// Sizes in the drawing's own unit.
const WIDTH: i64 = 720;
const MIDDLE: i64 = 120;
const THIN: i64 = 2;
const GAP: i64 = 18;
const TOP: i64 = 14;
const LABEL: i64 = 190;

/// One side's part of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Band {
    label: String,
    class: &'static str,
    /// Height in the drawing.
    thickness: i64,
}

/// Draws a transaction. What is drawn is also told in the lists below it, so a reader of the screen hears a summary.
pub(super) fn drawing(transaction: &Transaction, unit: &str) -> Markup {
    let (left, right) = (inputs(transaction, unit), outputs(transaction, unit));
    let height = [&left, &right].map(|side| side_height(side)).into_iter().max().unwrap_or(0) + 2 * TOP;
    let summary = format!(
        "From {} to {}",
        counted(transaction.inputs.len() as i64, "input"),
        counted(transaction.outputs.len() as i64, "output")
    );
    html! {
        svg.flow viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(summary) {
            (side(&left, height, true))
            (side(&right, height, false))
        }
    }
}

fn inputs(transaction: &Transaction, unit: &str) -> Vec<Band> {
    if transaction.coinbase {
        let sum = transaction.outputs.iter().fold(0_i64, |sum, output| sum.saturating_add(output.value));
        return bands(&[(Some(sum), "coinbase")], unit);
    }
    let values =
        transaction.inputs.iter().map(|input| (input.prevout.as_ref().map(|prevout| prevout.value), "in"));
    bands(&values.collect::<Vec<_>>(), unit)
}

fn outputs(transaction: &Transaction, unit: &str) -> Vec<Band> {
    let mut values: Vec<_> = transaction.outputs.iter().map(|output| (Some(output.value), "out")).collect();
    let fee = transaction.fee.filter(|fee| *fee > 0 && !transaction.coinbase);
    let mut bands = match fee {
        // The fee has a band of its own, also where the outputs are many.
        Some(fee) => {
            values.insert(0, (Some(fee), "fee"));
            bands(&values, unit)
        }
        None => bands(&values, unit),
    };
    if fee.is_some() {
        bands.rotate_left(1);
    }
    bands
}

fn bands(values: &[(Option<i64>, &'static str)], unit: &str) -> Vec<Band> {
    let shown = if values.len() > MAX_BANDS { MAX_BANDS - 1 } else { values.len() };
    let sum = |values: &[(Option<i64>, &str)]| {
        values.iter().fold(0_i128, |sum, (value, _)| sum + i128::from(value.unwrap_or(0).max(0)))
    };
    let total = sum(values);
    let room = MIDDLE - THIN * (shown as i64 + 1);
    let thickness = |value: i128| match total {
        0 => MIDDLE / (shown as i64 + 1).max(1),
        total => THIN + (value * i128::from(room) / total) as i64,
    };
    let mut bands: Vec<_> = values[..shown]
        .iter()
        .map(|(value, class)| Band {
            label: match (value, *class) {
                (Some(value), "fee") => format!("fee {}", amount_text(*value, unit)),
                (Some(value), _) => amount_text(*value, unit),
                (None, _) => "unknown".to_owned(),
            },
            class,
            thickness: thickness(i128::from(value.unwrap_or(0).max(0))),
        })
        .collect();
    if shown < values.len() {
        let rest = &values[shown..];
        let label = counted(rest.len() as i64, "other");
        bands.push(Band { label, class: rest[0].1, thickness: thickness(sum(rest)) });
    }
    bands
}

fn side_height(bands: &[Band]) -> i64 {
    bands.iter().map(|band| band.thickness + GAP).sum::<i64>() - GAP.min(bands.len() as i64 * GAP)
}

fn side(bands: &[Band], height: i64, is_left: bool) -> Markup {
    let joined: i64 = bands.iter().map(|band| band.thickness).sum();
    let mut outer = (height - side_height(bands)) / 2;
    let mut inner = (height - joined) / 2;
    let mut shapes = Vec::new();
    for band in bands {
        shapes.push((path(outer, inner, band.thickness, is_left), outer + band.thickness / 2 + 4, band));
        outer += band.thickness + GAP;
        inner += band.thickness;
    }
    let (x, anchor) = if is_left { (LABEL - 8, "end") } else { (WIDTH - LABEL + 8, "start") };
    html! {
        @for (path, y, band) in &shapes {
            path class={ "band " (band.class) } d=(path) {}
            text class="label" x=(x) y=(y) text-anchor=(anchor) { (band.label) }
        }
    }
}

/// From the edge to the middle, with the same thickness all along.
fn path(outer: i64, inner: i64, thickness: i64, is_left: bool) -> String {
    let (edge, middle) = if is_left { (LABEL, WIDTH / 2) } else { (WIDTH - LABEL, WIDTH / 2) };
    let bend = (edge + middle) / 2;
    let (outer_end, inner_end) = (outer + thickness, inner + thickness);
    format!(
        "M{edge} {outer}C{bend} {outer} {bend} {inner} {middle} {inner}V{inner_end}C{bend} {inner_end} {bend} {outer_end} {edge} {outer_end}Z"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thicknesses(values: &[Option<i64>]) -> Vec<i64> {
        let values: Vec<_> = values.iter().map(|value| (*value, "in")).collect();
        bands(&values, "BTC").iter().map(|band| band.thickness).collect()
    }

    #[test]
    fn bands_are_as_thick_as_their_amounts_and_never_vanish() {
        let thin = thicknesses(&[Some(1), Some(999_999_999)]);
        assert!(thin[0] >= THIN && thin[1] > 50 * thin[0], "{thin:?}");
        assert_eq!(
            thicknesses(&[Some(5), Some(5)]).iter().collect::<std::collections::HashSet<_>>().len(),
            1
        );
        assert!(thicknesses(&[Some(i64::MAX), Some(i64::MAX)]).iter().sum::<i64>() <= MIDDLE);
        assert!(thicknesses(&[None, None]).iter().all(|thickness| *thickness >= THIN));
        assert!(thicknesses(&[]).is_empty());
    }

    #[test]
    fn a_crowd_is_drawn_as_one_band() {
        let crowd = vec![Some(1); 100_000];
        assert_eq!(thicknesses(&crowd).len(), MAX_BANDS);
        let values: Vec<_> = crowd.iter().map(|value| (*value, "in")).collect();
        assert_eq!(bands(&values, "BTC").last().unwrap().label, "99,991 others");
    }
}
