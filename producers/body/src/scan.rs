//! Finds the end of a transaction in bytes that arrive bit by bit, looking at each byte once.

use sluice_schemas::Flavour;

use crate::tx::TxError;
use crate::wire::compact_size;

/// Where the parts of a transaction are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) input_count: u64,
    /// After the count.
    pub(crate) inputs: usize,
    pub(crate) output_count: u64,
    /// After the count.
    pub(crate) outputs: usize,
    /// First byte of the input count (after marker and flag, where there are).
    pub(crate) body: usize,
    /// After the last output: witnesses where `segwit`, then the lock time.
    pub(crate) witnesses: usize,
    pub(crate) lock_time: usize,
    pub(crate) segwit: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    InputCount,
    Flag,
    Inputs(u64),
    OutputCount,
    Outputs(u64),
    /// Inputs whose witnesses have not been begun.
    Witnesses(u64),
    /// Items left of the present witness, inputs left after it.
    WitnessItems(u64, u64),
    LockTime,
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The transaction ends before this byte.
    Done(usize),
    /// At least this many bytes, from the transaction's first, are needed to go on.
    Need(u64),
}

/// A scan of one transaction that can be continued with more bytes.
#[derive(Debug)]
pub(crate) struct Scan {
    flavour: Flavour,
    step: Step,
    at: usize,
    any_witness: bool,
    pub(crate) layout: Layout,
}

const VERSION_BYTES: usize = 4;
const LOCK_TIME_BYTES: usize = 4;
/// Of an input before its script.
const OUTPOINT_BYTES: usize = 36;
/// Of an input after its script.
const SEQUENCE_BYTES: usize = 4;
/// Of an output before its script.
const VALUE_BYTES: usize = 8;

impl Scan {
    pub(crate) fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            step: Step::InputCount,
            at: VERSION_BYTES,
            any_witness: false,
            layout: Layout { body: VERSION_BYTES, ..Layout::default() },
        }
    }

    /// Goes on; `bytes` are the same as before and maybe more, the transaction's first byte first.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Progress, TxError> {
        loop {
            match self.step {
                Step::InputCount => {
                    let Some((count, next)) = compact_size(bytes, self.at)? else { return Ok(more(bytes)) };
                    if count == 0 && self.flavour == Flavour::Btc && !self.layout.segwit {
                        self.step = Step::Flag;
                    } else if count == 0 {
                        return Err(TxError::NoInputs);
                    } else {
                        self.layout.input_count = count;
                        self.layout.inputs = next;
                        self.step = Step::Inputs(count);
                    }
                    self.at = next;
                }
                Step::Flag => match bytes.get(self.at) {
                    None => return Ok(more(bytes)),
                    Some(1) => {
                        self.at += 1;
                        self.layout.segwit = true;
                        self.layout.body = self.at;
                        self.step = Step::InputCount;
                    }
                    Some(0) => return Err(TxError::NoInputs),
                    Some(&flag) => return Err(TxError::UnknownFlag { flag }),
                },
                Step::Inputs(0) => self.step = Step::OutputCount,
                Step::Inputs(left) => match field(bytes, self.at, OUTPOINT_BYTES, SEQUENCE_BYTES)? {
                    Progress::Done(next) => (self.at, self.step) = (next, Step::Inputs(left - 1)),
                    need => return Ok(need),
                },
                Step::OutputCount => {
                    let Some((count, next)) = compact_size(bytes, self.at)? else { return Ok(more(bytes)) };
                    self.layout.output_count = count;
                    self.layout.outputs = next;
                    (self.at, self.step) = (next, Step::Outputs(count));
                }
                Step::Outputs(0) => {
                    self.layout.witnesses = self.at;
                    let inputs = if self.layout.segwit { self.layout.input_count } else { 0 };
                    self.step = Step::Witnesses(inputs);
                }
                Step::Outputs(left) => match field(bytes, self.at, VALUE_BYTES, 0)? {
                    Progress::Done(next) => (self.at, self.step) = (next, Step::Outputs(left - 1)),
                    need => return Ok(need),
                },
                Step::Witnesses(0) if self.layout.segwit && !self.any_witness => {
                    return Err(TxError::SuperfluousWitness);
                }
                Step::Witnesses(0) => {
                    self.layout.lock_time = self.at;
                    self.step = Step::LockTime;
                }
                Step::Witnesses(left) => {
                    let Some((items, next)) = compact_size(bytes, self.at)? else { return Ok(more(bytes)) };
                    self.any_witness |= items > 0;
                    (self.at, self.step) = (next, Step::WitnessItems(items, left - 1));
                }
                Step::WitnessItems(0, inputs) => self.step = Step::Witnesses(inputs),
                Step::WitnessItems(items, inputs) => match field(bytes, self.at, 0, 0)? {
                    Progress::Done(next) => {
                        (self.at, self.step) = (next, Step::WitnessItems(items - 1, inputs))
                    }
                    need => return Ok(need),
                },
                Step::LockTime => {
                    let end = self.at + LOCK_TIME_BYTES;
                    let done = bytes.len() >= end;
                    return Ok(if done { Progress::Done(end) } else { Progress::Need(end as u64) });
                }
            }
        }
    }
}

fn more(bytes: &[u8]) -> Progress {
    Progress::Need(bytes.len() as u64 + 1)
}

/// Passes over `before` bytes, a length, as many bytes, and `after` bytes.
#[inline]
fn field(bytes: &[u8], at: usize, before: usize, after: usize) -> Result<Progress, TxError> {
    let Some((length, next)) = compact_size(bytes, at + before)? else {
        return Ok(Progress::Need((bytes.len() as u64 + 1).max((at + before + 1) as u64)));
    };
    let end = length.saturating_add((next + after) as u64);
    match usize::try_from(end) {
        Ok(end) if end <= bytes.len() => Ok(Progress::Done(end)),
        _ => Ok(Progress::Need(end)),
    }
}
