//! The recorded counts, and how far a new count may differ.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::Outcome;

/// This many percent more fails. Runs differ by less than one percent, except `append` by six, since its background work
/// goes by the clock.
const MORE: u64 = 12;
/// This many percent less fails, too: an improvement must be recorded, or it can be lost again unnoticed.
const LESS: u64 = 25;

pub(crate) struct Baselines(BTreeMap<String, u64>);

pub(crate) enum Verdict {
    Holds(u64),
    More(u64),
    Less(u64),
    Unknown,
}

impl Baselines {
    pub(crate) fn read() -> Outcome<Self> {
        let text = match std::fs::read_to_string(path()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(format!("{}: {error}", path().display()).into()),
        };
        serde_json::from_str(&text).map(Self).map_err(|error| format!("{}: {error}", path().display()).into())
    }

    pub(crate) fn write(&self) -> Outcome {
        Ok(std::fs::write(path(), serde_json::to_string_pretty(&self.0)? + "\n")?)
    }

    pub(crate) fn set(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count);
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| "nothing".to_owned(), u64::to_string)
    }

    pub(crate) fn judge(&self, name: &str, count: u64) -> Verdict {
        let Some(&recorded) = self.0.get(name) else { return Verdict::Unknown };
        if count * 100 > recorded * (100 + MORE) {
            Verdict::More(recorded)
        } else if count * 100 < recorded * (100 - LESS) {
            Verdict::Less(recorded)
        } else {
            Verdict::Holds(recorded)
        }
    }
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        matches!(self, Self::Holds(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(recorded) => write!(f, "as recorded ({recorded})"),
            Self::More(recorded) => write!(f, "MORE than {MORE} % above what was recorded ({recorded})"),
            Self::Less(recorded) => write!(f, "LESS than {LESS} % below what was recorded ({recorded})"),
            Self::Unknown => write!(f, "was never RECORDED"),
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/baselines.json")
}
