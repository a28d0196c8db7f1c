//! Checks whether the step from one version to the next allows the changes of the public API.

use std::{collections::BTreeSet, fmt};

/// What has changed between two listings, and what the versions allow.
#[derive(Debug)]
pub(crate) struct Verdict {
    gone: Vec<String>,
    required: Vec<String>,
    added: usize,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// 1.2.3 to 1.2.4.
    Fix,
    /// 1.2.3 to 1.3.0, and 0.2.3 to 0.2.4.
    Addition,
    /// 1.2.3 to 2.0.0, and 0.2.3 to 0.3.0.
    Break,
}

/// Compares line by line: a changed signature counts as one line gone and one added. It cannot detect a change of
/// behaviour, of variance or of an elided lifetime: those are up to the person who releases (`RELEASING.md`).
pub(crate) fn judge(old: &str, new: &str, old_version: &str, new_version: &str) -> Result<Verdict, String> {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (old.lines().collect(), new.lines().collect());
    let is_required = |line: &&str| line.starts_with("required ");
    let lines = |lines: Vec<&str>| lines.into_iter().map(str::to_owned).collect();
    Ok(Verdict {
        // Implementors may still write what is no longer required. If an item is gone, its own line is gone, too.
        gone: lines(old.difference(&new).copied().filter(|line| !is_required(line)).collect()),
        required: lines(new.difference(&old).copied().filter(is_required).collect()),
        added: new.difference(&old).filter(|line| !is_required(line)).count(),
        step: step(version(old_version)?, version(new_version)?)?,
    })
}

fn version(text: &str) -> Result<[u64; 3], String> {
    let wrong = || format!("'{text}' is not a version: expected MAJOR.MINOR.PATCH");
    let core = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next().unwrap_or_default();
    let parts: Result<Vec<u64>, _> = core.split('.').map(str::parse).collect();
    parts.ok().and_then(|parts| parts.try_into().ok()).ok_or_else(wrong)
}

fn step(old: [u64; 3], new: [u64; 3]) -> Result<Step, String> {
    if new < old {
        return Err(format!("version {new:?} is older than the release before it, {old:?}"));
    }
    let leading = old.iter().take_while(|part| **part == 0).count();
    let changed = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    Ok(match (changed, leading) {
        (0, _) => Step::Break,
        (1, 1..) | (2, 2..) => Step::Break,
        (1, 0) | (2, 1) => Step::Addition,
        _ => Step::Fix,
    })
}

impl Verdict {
    pub(crate) fn is_allowed(&self) -> bool {
        let is_break = !self.gone.is_empty() || !self.required.is_empty();
        match self.step {
            Step::Break => true,
            Step::Addition => !is_break,
            Step::Fix => !is_break && self.added == 0,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gone.iter().try_for_each(|line| writeln!(f, "gone or changed: {line}"))?;
        self.required.iter().try_for_each(|line| writeln!(f, "new, and without a default: {line}"))?;
        let allows = match self.step {
            Step::Fix => "fixes only",
            Step::Addition => "additions, and no break",
            Step::Break => "a break",
        };
        let (gone, required) = (self.gone.len(), self.required.len());
        write!(
            f,
            "{gone} gone or changed, {required} newly required, {} added; the step of the version allows {allows}",
            self.added
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Step, judge, step, version};

    fn is_allowed(old: &str, new: &str, versions: (&str, &str)) -> bool {
        judge(old, new, versions.0, versions.1).unwrap().is_allowed()
    }

    #[test]
    fn steps_are_those_of_cargo() {
        let of = |old, new| step(version(old).unwrap(), version(new).unwrap());
        assert_eq!(of("1.2.3", "1.2.4"), Ok(Step::Fix));
        assert_eq!(of("1.2.3", "1.3.0"), Ok(Step::Addition));
        assert_eq!(of("1.2.3", "2.0.0"), Ok(Step::Break));
        assert_eq!(of("0.2.3", "0.2.4"), Ok(Step::Addition));
        assert_eq!(of("0.2.3", "0.3.0"), Ok(Step::Break));
        assert_eq!(of("0.0.3", "0.0.4"), Ok(Step::Break));
        assert_eq!(of("0.2.3", "1.0.0"), Ok(Step::Break));
        assert_eq!(of("0.1.0", "0.1.0"), Ok(Step::Fix));
        assert!(of("0.2.0", "0.1.9").is_err());
        assert!(version("1.2").is_err() && version("one").is_err());
        assert_eq!(version("v1.2.3-rc.1"), Ok([1, 2, 3]));
    }

    #[test]
    fn what_is_gone_is_a_break() {
        assert!(!is_allowed("pub fn a()\npub fn b()\n", "pub fn a()\n", ("1.0.0", "1.1.0")));
        assert!(is_allowed("pub fn a()\npub fn b()\n", "pub fn a()\n", ("1.0.0", "2.0.0")));
        assert!(is_allowed("pub fn a()\npub fn b()\n", "pub fn a()\n", ("0.1.0", "0.2.0")));
    }

    #[test]
    fn a_changed_signature_is_a_break() {
        assert!(!is_allowed("pub fn a(u32)\n", "pub fn a(u64)\n", ("0.1.0", "0.1.1")));
    }

    #[test]
    fn what_is_added_is_no_fix() {
        assert!(!is_allowed("pub fn a()\n", "pub fn a()\npub fn b()\n", ("1.0.0", "1.0.1")));
        assert!(is_allowed("pub fn a()\n", "pub fn a()\npub fn b()\n", ("1.0.0", "1.1.0")));
        assert!(is_allowed("pub fn a()\n", "pub fn a()\npub fn b()\n", ("0.1.0", "0.1.1")));
    }

    #[test]
    fn what_implementors_have_to_write_is_a_break() {
        let (old, new) = ("pub fn T::a()\n", "pub fn T::a()\npub fn T::b()\nrequired T::b\n");
        assert!(!is_allowed(old, new, ("1.0.0", "1.1.0")));
        assert!(is_allowed(old, &new.replace("required T::b\n", ""), ("1.0.0", "1.1.0")));
        assert!(is_allowed("pub fn T::a()\nrequired T::a\n", "pub fn T::a()\n", ("1.0.0", "1.1.0")));
    }

    #[test]
    fn the_same_is_always_allowed() {
        assert!(is_allowed("pub fn a()\n", "pub fn a()\n", ("1.0.0", "1.0.1")));
    }
}
