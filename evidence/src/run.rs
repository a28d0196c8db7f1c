//! Runs the parts, one after the other, and keeps the result of each.

use std::{
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    data::layout,
    drill, machine,
    parts::{Kind, PARTS, Part},
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const TOLD: Duration = Duration::from_secs(30);

/// Attempts of a drill that, by chance, shows nothing.
const TRIES: u32 = 4;

/// The longest reason that is kept, in characters.
const REASON: usize = 400;

/// Builds the programs, runs these parts, or all of them, and keeps the result of each in this folder.
pub(crate) fn run(root: &Path, folder: &Path, quick: bool, only: &[String]) -> Outcome {
    if let Some(unknown) = only.iter().find(|name| Part::named(name).is_none()) {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        return Err(format!("unknown part {unknown:?}; the parts are: {}", names.join(", ")).into());
    }
    let parts: Vec<_> =
        PARTS.iter().filter(|part| only.is_empty() || only.iter().any(|name| name == part.name)).collect();
    let work = root.join("target/evidence");
    fs::create_dir_all(&work)?;
    fs::create_dir_all(root.join(folder))?;
    for (what, kind) in [
        ("cargo bench --no-run --features migrations,testing --bench compare", Kind::Compare),
        ("cargo build --release --features testing,tower --example drill", Kind::Drill),
    ] {
        if parts.iter().any(|part| part.kind == kind) {
            eprintln!("evidence: building: {what}");
            let words: Vec<_> = what.split(' ').collect();
            let status = Command::new(words[0]).args(&words[1..]).current_dir(root).status()?;
            if !status.success() {
                return Err(format!("{what}: {status}").into());
            }
        }
    }
    let start = Instant::now();
    let mut failed = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        eprintln!("evidence: [{}/{}] {}, {:.0?} so far", number + 1, parts.len(), part.name, start.elapsed());
        let data = one(root, &work, part, quick)?;
        if data["status"] != "ok" {
            eprintln!("evidence: FAILED: {}: {}", part.name, data["reason"].as_str().unwrap_or_default());
            failed.push(part.name);
        }
        fs::write(root.join(folder).join(format!("{}.json", part.name)), layout(&data))?;
    }
    eprintln!(
        "evidence: {} of {} parts completed, after {:.0?}",
        parts.len() - failed.len(),
        parts.len(),
        start.elapsed()
    );
    match &failed[..] {
        [] => Ok(()),
        failed => Err(format!("failed, as the report says: {}", failed.join(", ")).into()),
    }
}

/// Runs a part and returns its result. A failure of the part is a result; an error means that the program cannot go on.
fn one(root: &Path, work: &Path, part: &Part, quick: bool) -> Outcome<Value> {
    let left = format!("target/evidence/{}.left", part.name);
    let (out, err) = (work.join(format!("{}.out", part.name)), work.join(format!("{}.err", part.name)));
    let words = part.words(quick, &left);
    let (program, rest) = words.split_first().ok_or("no command")?;
    let mut data = Map::new();
    let mut keep = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    keep("part", json!(part.name));
    keep("command", json!(words.join(" ")));
    keep("quick", json!(quick));
    keep("commit", json!(machine::commit()));
    keep("machine", machine::facts());
    let mut tries = 0;
    let (ended, said, complained) = loop {
        tries += 1;
        // Otherwise an earlier run's results would be taken for this one's.
        let _ = fs::remove_file(root.join(&left));
        keep("at", json!(machine::now()));
        keep("load_before", json!(machine::load()));
        let start = Instant::now();
        let mut command = Command::new(program);
        command.args(rest).current_dir(root).stdin(Stdio::null());
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let ended = wait(command.spawn()?, Duration::from_secs(60 * part.limit_minutes(quick)), part.name)?;
        keep("seconds", json!(start.elapsed().as_secs()));
        let (said, complained) = (fs::read_to_string(&out)?, fs::read_to_string(&err).unwrap_or_default());
        if tries == TRIES || !shows_nothing(part, ended, [&said, &complained]) {
            break (ended, said, complained);
        }
        eprintln!("evidence: {}: attempt {tries} shows nothing; repeating it", part.name);
    };
    if tries > 1 {
        keep("tries", json!(tries));
    }
    let result = result(root, part, &left, &said, &complained);
    let complaint = last_words(&complained, root);
    let reason = match (ended, &result) {
        (Some(status), Ok(_)) if status.success() => None,
        (None, _) => Some(format!("not completed after {} minutes", part.limit_minutes(quick))),
        (Some(status), Ok(_)) => Some(format!("{status}: {complaint}")),
        (Some(_), Err(error)) => Some(format!("{error}: {complaint}")),
    };
    keep("status", json!(if reason.is_none() { "ok" } else { "failed" }));
    if let Some(reason) = reason {
        keep("reason", json!(reason));
    }
    if let Ok(result) = result {
        keep("result", result);
    }
    Ok(Value::Object(data))
}

/// Whether a drill could not decide, since what it tests did not happen: a failover that lost nothing, a conflict. Its faults are
/// random, and differ in each run.
fn shows_nothing(part: &Part, ended: Option<ExitStatus>, told: [&str; 2]) -> bool {
    let undecided = ended.and_then(|status| status.code()) == Some(2);
    part.kind == Kind::Drill && undecided && told.iter().any(|text| text.contains("shows nothing"))
}

/// The results of a part: the file of a benchmark, or the last line of a drill and its time line.
fn result(root: &Path, part: &Part, left: &str, output: &str, errors: &str) -> Result<Value, String> {
    let read = || fs::read_to_string(root.join(left)).map_err(|_| "it left no results".to_owned());
    match part.kind {
        Kind::Compare => serde_json::from_str(&read()?).map_err(|error| format!("{left}: {error}")),
        Kind::Drill => {
            let mut values = drill::values(output).ok_or("no last line with values")?;
            // The seed is not a measured value.
            values.remove("seed");
            let mut result = json!({ "values": values });
            if let Some(seed) = drill::seed(output).or_else(|| drill::seed(errors)) {
                result["seed"] = json!(seed);
            }
            if part.has_timeline() {
                let lines: Result<Vec<Value>, _> = read()?.lines().map(serde_json::from_str).collect();
                result["timeline"] = Value::Array(lines.map_err(|error| format!("{left}: {error}"))?);
            }
            Ok(result)
        }
    }
}

/// Waits for the end of the child. None if it exceeded the limit and was ended.
fn wait(mut child: Child, limit: Duration, name: &str) -> Outcome<Option<ExitStatus>> {
    let (start, mut told) = (Instant::now(), Instant::now());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            end(&mut child)?;
            return Ok(None);
        }
        if told.elapsed() > TOLD {
            told = Instant::now();
            eprintln!("evidence: … {name}, {:.0?}", start.elapsed());
        }
        sleep(Duration::from_millis(100));
    }
}

/// Ends the child and all its descendants: cargo alone would leave its program running.
fn end(child: &mut Child) -> Outcome {
    let mut all = vec![child.id()];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let threads: Vec<PathBuf> = fs::read_dir(format!("/proc/{parent}/task"))
            .map(|tasks| tasks.flatten().map(|task| task.path().join("children")).collect())
            .unwrap_or_default();
        for children in threads {
            let text = fs::read_to_string(children).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    for id in &all {
        let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while child.try_wait()?.is_none() && Instant::now() < patience {
        sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    child.wait()?;
    Ok(())
}

/// The last meaningful line, without the path of this folder.
fn last_words(text: &str, root: &Path) -> String {
    let said =
        text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("error: bench failed"));
    let line = said.unwrap_or("no output").replace(&*root.to_string_lossy(), "");
    line.chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_name_no_folder_of_the_machine() {
        let text = "warning: x\ncompare: cannot write /some/where/docs/x.json: full\nerror: bench failed, to rerun\n\n";
        assert_eq!(last_words(text, Path::new("/some/where")), "compare: cannot write /docs/x.json: full");
        assert_eq!(last_words("", Path::new("/")), "no output");
    }

    #[test]
    fn what_has_left_nothing_is_no_result() {
        let root = std::env::temp_dir();
        let append = Part::named("append").unwrap();
        assert!(result(&root, append, "no-such-file-of-evidence", "", "").is_err());
        let drill = Part::named("drill-append").unwrap();
        assert!(result(&root, drill, "", "drill append: 4 writers\n", "").is_err());
        let told = result(&root, drill, "", "drill append: anomalies=0 appends=5\n", "").unwrap();
        assert_eq!(told, json!({"values": {"anomalies": 0, "appends": 5}}));
        let told = result(&root, drill, "", "drill append: anomalies=0 seed=7\n", "").unwrap();
        assert_eq!(told, json!({"values": {"anomalies": 0}, "seed": 7}));
        let told =
            result(&root, drill, "", "drill append: anomalies=0\n", "drill append: 4 writers, seed=8\n").unwrap();
        assert_eq!(told["seed"], 8);
        // The time line is missing.
        let failover = Part::named("drill-failover").unwrap();
        assert!(result(&root, failover, "no-such-file-of-evidence", "drill failover: anomalies=0\n", "").is_err());
    }

    #[test]
    fn only_a_drill_in_which_nothing_happened_is_made_again() {
        let (append, consume) = (Part::named("append").unwrap(), Part::named("drill-consume").unwrap());
        let ended = |code: u8| Some(Command::new("sh").args(["-c", &format!("exit {code}")]).status().unwrap());
        let nothing = ["", "drill consume: undecided: nothing was lost, so this run shows nothing"];
        assert!(shows_nothing(consume, ended(2), nothing));
        assert!(!shows_nothing(consume, ended(1), nothing), "it has found something");
        assert!(!shows_nothing(consume, None, nothing), "it was ended");
        assert!(!shows_nothing(consume, ended(2), ["", "drill consume: no primary in time"]), "that is a failure");
        assert!(!shows_nothing(append, ended(2), nothing));
    }

    #[test]
    fn whoever_takes_too_long_is_ended() {
        let child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let start = Instant::now();
        assert!(wait(child, Duration::from_millis(300), "test").unwrap().is_none());
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
