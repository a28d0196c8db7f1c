//! The options of `load`.

use super::payload;
use crate::Outcome;

pub(crate) const MOST_WRITERS: u64 = 64;
pub(crate) const MOST_PROCESSES: u64 = 8;

/// Who appends what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) writers: u64,
    /// The number of processes that the writers are spread over.
    pub(crate) processes: u64,
    /// The JSON bytes of each event; none for the library's own payloads, of about 305.
    pub(crate) payload: Option<u64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { writers: 32, processes: 1, payload: None }
    }
}

/// The options of `load`.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) shape: Shape,
    pub(crate) replicas: usize,
    /// Arrivals per second; none for as fast as the writers can.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: u64,
    pub(crate) shared_buffers: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { shape: Shape::default(), replicas: 0, rate: Some(500.0), seconds: 20, shared_buffers: None }
    }
}

impl Options {
    /// Takes an option and its value; false if this is not one of its options.
    pub(crate) fn take(&mut self, option: &str, value: impl FnOnce() -> Result<String, String>) -> Outcome<bool> {
        match option {
            "--writers" => self.shape.writers = number(option, &value()?, 1, MOST_WRITERS)?,
            "--processes" => self.shape.processes = number(option, &value()?, 1, MOST_PROCESSES)?,
            "--replicas" => self.replicas = usize::try_from(number(option, &value()?, 0, 2)?)?,
            "--payload" => self.shape.payload = Some(number(option, &value()?, payload::LEAST, payload::MOST)?),
            "--seconds" => self.seconds = number(option, &value()?, 1, 3600)?,
            "--shared-buffers" => self.shared_buffers = Some(value()?),
            "--rate" => {
                let text = value()?;
                self.rate = match text.trim_end_matches("/s") {
                    "max" => None,
                    text => Some(number(option, text, 1, 1_000_000)? as f64),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks that the options are compatible.
    pub(crate) fn check(&self) -> Outcome {
        let Shape { writers, processes, .. } = self.shape;
        if processes > writers {
            return Err(format!("--processes {processes} are more than --writers {writers}").into());
        }
        Ok(())
    }
}

fn number(option: &str, text: &str, least: u64, most: u64) -> Outcome<u64> {
    let number = text.replace('_', "").parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{option} is a number from {least} to {most}, not {text:?}").into())
}
