//! How numbers, times, hashes and scripts are written.

use bitcoin::Txid;
use jiff::Timestamp;
use maud::{Markup, html};

/// Satoshis in a coin.
const COIN: u64 = 100_000_000;
/// Most bytes of a script or of data that are shown.
const SHOWN_BYTES: usize = 256;

/// A number in groups of three digits: `1,234,567`.
pub(super) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        text.push('\u{2212}');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A noun in its number: `1 block`, `2 blocks`.
pub(super) fn counted(number: i64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Satoshis as coins, in two parts: up to the last digit that is not zero, and the zeros after it.
fn coins(satoshis: i64) -> (String, String) {
    let sign = if satoshis < 0 { "\u{2212}" } else { "" };
    let magnitude = satoshis.unsigned_abs();
    let whole = count((magnitude / COIN) as i64);
    let fraction = format!("{:08}", magnitude % COIN);
    let significant = fraction.trim_end_matches('0').len();
    let (told, zeros) = fraction.split_at(significant);
    match told {
        "" => (format!("{sign}{whole}"), format!(".{zeros}")),
        told => (format!("{sign}{whole}.{told}"), zeros.to_owned()),
    }
}

/// An amount of money.
pub(super) fn amount(satoshis: i64, unit: &str) -> Markup {
    let (told, zeros) = coins(satoshis);
    html! { span.amount { (told) span.zeros { (zeros) } span.unit { " " (unit) } } }
}

/// An amount by which something grew or shrank, with its sign.
pub(super) fn difference(satoshis: i64, unit: &str) -> Markup {
    let direction = if satoshis < 0 { "less" } else { "more" };
    html! { span class=(direction) { @if satoshis > 0 { "+" } (amount(satoshis, unit)) } }
}

/// An amount as plain text, for a drawing: `1.5 BTC`.
pub(super) fn amount_text(satoshis: i64, unit: &str) -> String {
    format!("{} {unit}", coins(satoshis).0)
}

/// Satoshis per (virtual) byte with one decimal.
pub(super) fn fee_rate(fee: i64, size: i64) -> String {
    let tenths = i128::from(fee) * 10 / i128::from(size.max(1));
    format!("{}.{}", count((tenths / 10) as i64), (tenths % 10).abs())
}

/// Bytes, in the unit that suits.
pub(super) fn bytes(number: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, size) in UNITS {
        if number >= size {
            return format!("{}.{} {unit}", count(number / size), number % size * 10 / size);
        }
    }
    format!("{} B", count(number))
}

/// A time: in full for machines, to the second for people.
pub(super) fn time(millisecond: i64) -> Markup {
    match Timestamp::from_millisecond(millisecond) {
        Ok(time) => {
            let text = time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
            html! { time datetime=(time.to_string()) { (text) } }
        }
        Err(_) => html! { (millisecond) " ms" },
    }
}

/// How long ago: `12 s ago`. A clock that is ahead says `just now`.
pub(super) fn ago(millisecond: i64, now: i64) -> Markup {
    let text = match now.saturating_sub(millisecond) / 1000 {
        ..1 => "just now".to_owned(),
        seconds => format!("{} ago", duration(seconds)),
    };
    let full = Timestamp::from_millisecond(millisecond).map(|time| time.to_string()).unwrap_or_default();
    html! { time datetime=(full) title=(full) { (text) } }
}

/// A duration in its largest unit, rounded down.
pub(super) fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800..63_072_000 => format!("{} days", seconds / 86_400),
        _ => format!("{} years", count(seconds / 31_536_000)),
    }
}

/// A hash or address of which the end goes where there is no room.
pub(super) fn long(text: &str) -> Markup {
    let end = text.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
    let (head, tail) = text.split_at(end);
    html! { span.long title=(text) { span.head { (head) } span.tail { (tail) } } }
}

/// A link to a transaction.
pub(super) fn txid_link(txid: &Txid) -> Markup {
    html! { a.hash href={ "/explorer/tx/" (txid) } { (long(&txid.to_string())) } }
}

/// A link to a block.
pub(super) fn block_link(hash: &bitcoin::BlockHash, text: &str) -> Markup {
    html! { a href={ "/explorer/block/" (hash) } { (text) } }
}

/// Bytes of which the beginning is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    start: Vec<u8>,
    length: usize,
}

impl Excerpt {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut excerpt = Self::default();
        excerpt.push(bytes);
        excerpt
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = SHOWN_BYTES - self.start.len();
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
    }

    /// Whether there is more than is shown.
    pub(super) fn is_cut(&self) -> bool {
        self.length > self.start.len()
    }
}

/// Bytes in hexadecimal.
pub(super) fn hexadecimal(data: &Excerpt) -> String {
    let digits = hex::encode(&data.start);
    if data.is_cut() { format!("{digits}… ({})", bytes(data.length as i64)) } else { digits }
}

/// What is readable in bytes that somebody put on the chain: printable text as it is, anything else as `·`. `None` where
/// less than three quarters of it is text.
pub(super) fn readable(data: &Excerpt) -> Option<String> {
    let text = String::from_utf8_lossy(&data.start);
    let is_text = |c: &char| !c.is_control() && *c != char::REPLACEMENT_CHARACTER && !is_direction(*c);
    let (all, good) = (text.chars().count(), text.chars().filter(is_text).count());
    if good < 3 || good * 4 < all * 3 {
        return None;
    }
    let mut shown: String = text.chars().map(|c| if is_text(&c) { c } else { '·' }).collect();
    if data.is_cut() {
        shown.push('…');
    }
    Some(shown)
}

/// Whether a character changes the direction of the text around it, or cannot be seen.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(satoshis: i64) -> String {
        let (told, zeros) = coins(satoshis);
        told + &zeros
    }

    #[test]
    fn money_is_written_to_the_last_satoshi() {
        for (satoshis, text) in [
            (0, "0.00000000"),
            (1, "0.00000001"),
            (-1, "\u{2212}0.00000001"),
            (150_000_000, "1.50000000"),
            (2_100_000_000_000_000, "21,000,000.00000000"),
            (123_456_789_012_345_678, "1,234,567,890.12345678"),
            (i64::MAX, "92,233,720,368.54775807"),
            (i64::MIN, "\u{2212}92,233,720,368.54775808"),
        ] {
            assert_eq!(written(satoshis), text);
        }
        assert_eq!(amount_text(150_000_000, "BTC"), "1.5 BTC");
        assert_eq!(amount_text(0, "BSV"), "0 BSV");
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "\u{2212}1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(counted(2_000, "block"), "2,000 blocks");
    }

    #[test]
    fn sizes_and_rates_are_rounded_down_by_integers() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_999), "1.9 kB");
        assert_eq!(bytes(4_000_000_000), "4.0 GB");
        assert_eq!(fee_rate(1_000, 141), "7.0");
        assert_eq!(fee_rate(199, 100), "1.9");
        assert_eq!(fee_rate(i64::MAX, 0), "9,223,372,036,854,775,807.0");
    }

    #[test]
    fn text_that_turns_or_hides_what_follows_is_made_visible() {
        let read = |bytes: &[u8]| readable(&Excerpt::of(bytes));
        assert_eq!(read("safe \u{202e}evil\0 text".as_bytes()).unwrap(), "safe ·evil· text");
        assert_eq!(read(&[0xff; 40]), None);
        assert_eq!(read(b""), None);
        assert_eq!(read(&vec![b'a'; 1000]).unwrap().chars().count(), SHOWN_BYTES + 1);
    }

    #[test]
    fn of_many_bytes_the_first_are_shown_and_how_many_there_are() {
        assert_eq!(hexadecimal(&Excerpt::of(&[7; SHOWN_BYTES])), "07".repeat(SHOWN_BYTES));
        let mut data = Excerpt::of(&[7; SHOWN_BYTES - 1]);
        data.push(&[8; 1_000_000]);
        assert_eq!(hexadecimal(&data), "07".repeat(SHOWN_BYTES - 1) + "08… (1.0 MB)");
    }

    #[test]
    fn a_hash_is_split_before_its_last_eight_characters() {
        let markup = long("0123456789abcdef").into_string();
        assert!(markup.contains(">01234567</span>") && markup.contains(">89abcdef</span>"), "{markup}");
        long("");
        long("äöüäöüäöüäöü");
    }
}
