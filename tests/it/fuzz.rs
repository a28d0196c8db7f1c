//! The checks of `fuzz/`, without a fuzzer: its corpora, and bytes similar to them.

use std::{fs, path::PathBuf};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

#[path = "../../fuzz/checks.rs"]
#[allow(unreachable_pub, reason = "in `fuzz/` it is a library")]
mod checks;

/// How many variants of the corpora each target gets.
const VARIANTS: u32 = 2000;

/// The files of a corpus, by their names.
fn files(target: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has {} files", folder.display(), files.len());
    files
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    files(target).iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Files that nobody can read any more would show nothing: all can be read but these, which are there for their errors.
fn reads_all_but(target: &str, is_read: fn(&[u8]) -> bool, others: &[&str]) {
    let unread = files(target).into_iter().filter(|file| !is_read(&fs::read(file).unwrap()));
    let names: Vec<String> = unread.map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, others, "of the corpus {target}, what cannot be read");
}

/// A byte is put in, replaced or taken out, a piece repeated, or the rest cut off.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, u8),
    Replace(Index, u8),
    TakeOut(Index),
    Repeat(Index, Index, usize),
    Cut(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(b'0');
        }
        let len = bytes.len();
        match self {
            Self::Put(at, byte) => bytes.insert(at.index(len + 1), *byte),
            Self::Replace(at, byte) => bytes[at.index(len)] = *byte,
            Self::TakeOut(at) => drop(bytes.remove(at.index(len))),
            Self::Repeat(from, to, times) => {
                let (from, to) = (from.index(len), to.index(len));
                let piece = bytes[from.min(to)..=from.max(to)].repeat(*times);
                bytes.splice(from..from, piece);
            }
            Self::Cut(at) => bytes.truncate(at.index(len)),
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Mostly what grammars are made of.
    let byte = prop_oneof![
        3 => prop::sample::select(br#"{}[]":,.=&?%@/\-+eE0123456789 _msp"#.to_vec()),
        1 => any::<u8>(),
    ];
    let change = prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Change::Replace(at, byte)),
        any::<Index>().prop_map(Change::TakeOut),
        (any::<Index>(), any::<Index>(), 1_usize..40).prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
        any::<Index>().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 0..5)
}

fn run(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|bytes| check(bytes));
    let strategy = (any::<Index>(), changes());
    let config = ProptestConfig { cases: VARIANTS, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&strategy, |(which, changes)| {
        let mut bytes = corpus[which.index(corpus.len())].clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        check(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn any_text_may_be_a_token() {
    run("token", checks::token);
}

#[test]
fn any_json_may_be_a_filter() {
    run("filter", checks::filter);
    let others = ["deep", "escapes", "nothing", "null", "twice"];
    reads_all_but("filter", checks::is_filter, &others);
}

#[test]
fn any_text_may_be_a_cursor() {
    run("cursor", checks::cursor);
}

#[test]
fn any_text_may_be_settings() {
    run("settings", checks::settings);
}

#[test]
fn any_text_may_be_json() {
    run("json", checks::json);
    let others = ["deep", "empty", "huge-number", "lone-surrogate", "long", "nul", "trailing"];
    reads_all_but("json", checks::is_json, &others);
}

#[test]
fn any_bytes_may_be_a_column() {
    run("column", checks::column);
}

#[test]
fn any_bytes_may_be_a_row() {
    run("row", checks::row);
    let others = [
        "event-of-no-stream",
        "event-with-both-payloads",
        "event-without-type",
        "judgement-without-type",
        "last-position",
        "loaded-without-state",
        "mark-half",
        "mark-negative",
        "outcomes-alone",
        "outcomes-too-many",
        "outcomes-without-type",
        "partition-half",
        "positions-claimed",
        "tags-in-two-dimensions",
        "tags-that-are-claimed",
    ];
    reads_all_but("row", checks::is_row, &others);
}

#[test]
fn an_event_matched_by_a_filter_shares_one_of_its_keys() {
    run("guard", checks::guard);
    // Files that nobody can read any more would show nothing.
    let shown: Vec<_> =
        corpus("guard").iter().map(|bytes| checks::is_guarded(bytes).expect("a filter and an event")).collect();
    assert_eq!(shown.iter().filter(|is_match| !**is_match).count(), 1, "all but one match: {shown:?}");
}

/// What has no test here is only looked at when somebody fuzzes.
#[test]
fn each_target_is_run_here() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let bins = manifest.split("[[bin]]").skip(1);
    let mut targets: Vec<&str> = bins.map(|bin| bin.split('"').nth(1).expect("its name")).collect();
    targets.sort_unstable();
    let here = include_str!("fuzz.rs");
    for target in &targets {
        assert!(here.contains(&format!("run(\"{target}\", checks::{target});")), "there is no test for {target}");
    }
    let names = |folder: &str| {
        let files = fs::read_dir(root.join("fuzz").join(folder)).unwrap().map(|file| file.unwrap().path());
        let mut names: Vec<String> = files.map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}
