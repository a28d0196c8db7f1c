//! What is reported.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Worth knowing.
    Note,
    /// It will cause problems.
    Warning,
    /// It is broken, or loses data.
    Fault,
}

#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A name for programs.
    pub(crate) check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    pub(crate) seen: String,
    pub(crate) why: String,
    #[serde(rename = "do")]
    pub(crate) todo: String,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        check: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { severity, check, node: None, seen: seen.into(), why: why.into(), todo: todo.into() }
    }

    pub(crate) fn at(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Fault => "FAULT",
        };
        let node = self.node.as_deref().map_or_else(String::new, |node| format!("{node}: "));
        write!(f, "{severity:<8} {node}{}\n    why: {}\n    do:  {}", self.seen, self.why, self.todo)
    }
}
