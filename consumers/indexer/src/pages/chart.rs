//! Small charts of how many things happened per minute.

use maud::{Markup, html};

use super::text::count;

const WIDTH: usize = 300;
const HEIGHT: i64 = 64;

/// Bars, oldest first, the last of which is still growing.
pub(super) fn bars(title: &str, unit: &str, counts: &[i64]) -> Markup {
    let highest = counts.iter().copied().max().unwrap_or(0);
    let sum = counts.iter().fold(0_i64, |sum, count| sum.saturating_add(*count));
    let summary =
        format!("{title}: {} in {} minutes, at most {} in one", count(sum), counts.len(), count(highest));
    let step = WIDTH / counts.len().max(1);
    let height = |number: i64| match highest {
        0 => 0,
        // What happened once can be seen.
        highest => ((i128::from(number) * i128::from(HEIGHT) / i128::from(highest)) as i64)
            .max(i64::from(number > 0) * 2),
    };
    html! {
        figure.chart {
            figcaption { strong { (title) } " " small { (count(sum)) " " (unit) ", at most " (count(highest)) " a minute" } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT + 1) } preserveAspectRatio="none" role="img" aria-label=(summary) {
                @for (index, number) in counts.iter().enumerate() {
                    @let bar = height(*number);
                    rect class=(if index + 1 == counts.len() { "bar now" } else { "bar" }) x=(index * step) y=(HEIGHT - bar)
                        width=(step.saturating_sub(2).max(1)) height=(bar) {}
                }
                rect.axis x="0" y=(HEIGHT) width=(WIDTH) height="1" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_per_minute_and_the_highest_fills_it() {
        let chart = bars("Blocks", "blocks", &[0, 1, i64::MAX]).into_string();
        assert_eq!(chart.matches("class=\"bar").count(), 3);
        assert!(
            chart.contains("height=\"64\"")
                && chart.contains("height=\"2\"")
                && chart.contains("height=\"0\""),
            "{chart}"
        );
        assert!(bars("Blocks", "blocks", &[]).into_string().contains("axis"));
    }
}
