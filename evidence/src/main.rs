//! Called by `scripts/evidence`: runs the benchmarks and the drills, and writes `docs/evidence`, and the figures of README
//! and `docs/benchmarks.md`, from their results.
//!
//! | file | what it holds |
//! |---|---|
//! | `parts`, `run` | what is run, and how |
//! | `machine`, `drill`, `data` | what is kept of a run |
//! | `aims`, `provenance`, `stores` | what the results are worth |
//! | `against`, `noise` | comparison with another run |
//! | `report`, `headline`, `benchmarks` | what is written to docs/evidence, README and docs/benchmarks.md |
//! | `plots`, `svg`, `axis`, `markdown` | plots and tables |

mod against;
mod aims;
mod axis;
mod benchmarks;
mod data;
mod drill;
mod headline;
mod machine;
mod markdown;
mod noise;
mod parts;
mod plots;
mod provenance;
mod report;
mod run;
mod stores;
mod svg;

use std::{collections::BTreeMap, error::Error, fs, path::Path, process::ExitCode};

use data::Evidence;

const USAGE: &str = "\
scripts/evidence [--quick] [--only PART,…]   run all parts, or only these, and write the report
scripts/evidence --render                    write the report from docs/evidence/data
scripts/evidence --check                     check that the report, and the figures of README and docs/benchmarks.md, match docs/evidence/data
scripts/evidence --fresh [--quick] [--only PART,…]   run them, and keep the results in target/evidence/fresh: nothing is written in docs
scripts/evidence --against [FOLDER]          compare these results, or those in FOLDER, with docs/evidence/data
";

/// Where the results of a run are kept that is compared, not published.
const FRESH: &str = "target/evidence/fresh";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match go(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evidence: {error}");
            ExitCode::FAILURE
        }
    }
}

fn go(words: &[String]) -> Outcome {
    let (mut quick, mut only, mut render, mut check, mut fresh) = (false, Vec::new(), false, false, false);
    let (mut against, mut words) = (None, words.iter().peekable());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--only" => {
                let value = words.next().ok_or("--only needs names of parts")?;
                only.extend(value.split(',').map(str::to_owned));
            }
            "--render" => render = true,
            "--check" => check = true,
            "--fresh" => fresh = true,
            "--against" => {
                let folder = words.next_if(|word| !word.starts_with("--"));
                against = Some(folder.map_or(FRESH, String::as_str));
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(());
            }
            other => return Err(format!("unknown option {other:?}\n{USAGE}").into()),
        }
    }
    let root = std::env::current_dir()?;
    if check {
        return checked(&root);
    }
    if let Some(folder) = against {
        return beside(&root, folder);
    }
    if fresh {
        return run::run(&root, Path::new(FRESH), quick, &only);
    }
    let ran = if render { Ok(()) } else { run::run(&root, Path::new(data::FOLDER), quick, &only) };
    // Also write what failed: the report says so.
    write(&root)?;
    ran
}

/// Compares the results of a run with the published ones.
fn beside(root: &Path, folder: &str) -> Outcome {
    let names = fs::read_dir(root.join(folder)).map_err(|error| format!("{folder}: {error}"))?;
    if !names.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json")) {
        return Err(format!("{folder} has no results of a run").into());
    }
    let comparison =
        against::compared(&Evidence::read(&root.join(data::FOLDER))?, &Evidence::read(&root.join(folder))?);
    print!("{}", comparison.text());
    let complaints = [
        ("newly failed", comparison.failed().iter().map(|part| (*part).to_owned()).collect::<Vec<_>>()),
        ("aims met before, and now missed by more than the noise", comparison.lost()),
    ];
    let complaints = complaints.iter().filter(|(_, which)| !which.is_empty());
    let complaints: Vec<_> = complaints.map(|(what, which)| format!("{what}: {}", which.join(", "))).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ").into()) }
}

fn write(root: &Path) -> Outcome {
    for (file, text) in rendered(root)? {
        fs::write(root.join(&file), text).map_err(|error| format!("cannot write {file}: {error}"))?;
    }
    for stray in strays(root)? {
        fs::remove_file(root.join(stray))?;
    }
    Ok(())
}

/// All files that are written, by their paths from the root.
fn rendered(root: &Path) -> Outcome<BTreeMap<String, String>> {
    let evidence = Evidence::read(&root.join(data::FOLDER))?;
    let mut files: BTreeMap<_, _> =
        report::files(&evidence).into_iter().map(|(name, text)| (format!("docs/evidence/{name}"), text)).collect();
    let readme = fs::read_to_string(root.join("README.md"))?;
    let block = headline::block(&evidence);
    let readme = markdown::with_block(&readme, headline::BEGIN, headline::END, &block)
        .ok_or_else(|| format!("README.md has no {} … {}", headline::BEGIN, headline::END))?;
    files.insert("README.md".to_owned(), readme);
    files.insert(benchmarks::FILE.to_owned(), benchmarks::page(root, &evidence)?);
    Ok(files)
}

/// Plots that are no longer written.
fn strays(root: &Path) -> Outcome<Vec<String>> {
    let files = rendered(root)?;
    let mut strays = Vec::new();
    for entry in fs::read_dir(root.join("docs/evidence"))? {
        let name = format!("docs/evidence/{}", entry?.file_name().to_string_lossy());
        if name.ends_with(".svg") && !files.contains_key(&name) {
            strays.push(name);
        }
    }
    Ok(strays)
}

fn checked(root: &Path) -> Outcome {
    let files = rendered(root)?;
    let differs = |file: &&String| fs::read_to_string(root.join(file)).ok().as_ref() != files.get(*file);
    let mut wrong: Vec<String> = files.keys().filter(differs).cloned().collect();
    wrong.extend(strays(root)?);
    if wrong.is_empty() {
        println!("evidence: {} files match docs/evidence/data", files.len());
        return Ok(());
    }
    Err(format!("not up to date with docs/evidence/data (run scripts/evidence --render): {}", wrong.join(", ")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest tree that the report can be written into.
    fn root() -> Outcome<std::path::PathBuf> {
        let root = std::env::temp_dir().join(format!("mainstem-evidence-{}", std::process::id()));
        fs::create_dir_all(root.join(data::FOLDER))?;
        fs::create_dir_all(root.join("benches/instructions"))?;
        fs::write(root.join("benches/instructions/baselines.json"), "{\"append\": 7}")?;
        fs::write(root.join("README.md"), format!("{}\n{}\n", headline::BEGIN, headline::END))?;
        let marks = ["route", "instructions", "peers", "figures"]
            .map(|name| format!("<!-- begin {name}: written by scripts/evidence -->\n<!-- end {name} -->\n"));
        fs::write(root.join(benchmarks::FILE), marks.concat())?;
        let route = "{\"status\": \"ok\", \"result\": {\"figures\": [{\"name\": \"decision_ns\", \"value\": 57.25}]}}";
        fs::write(root.join(data::FOLDER).join("route.json"), route)?;
        Ok(root)
    }

    #[test]
    fn what_was_changed_by_hand_is_found() {
        let root = root().unwrap();
        assert!(checked(&root).is_err());
        write(&root).unwrap();
        checked(&root).unwrap();
        for file in ["README.md", benchmarks::FILE, "docs/evidence/README.md"] {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains("57.2"), "{file}: {text}");
            fs::write(root.join(file), text.replace("57.2", "56.2")).unwrap();
            assert!(checked(&root).unwrap_err().to_string().ends_with(&format!(": {file}")), "{file}");
            write(&root).unwrap();
        }
        // The text around the blocks may be edited by hand.
        let page = fs::read_to_string(root.join(benchmarks::FILE)).unwrap();
        fs::write(root.join(benchmarks::FILE), format!("prose\n{page}prose\n")).unwrap();
        checked(&root).unwrap();
        fs::write(root.join("docs/evidence/old.svg"), "").unwrap();
        assert!(checked(&root).unwrap_err().to_string().ends_with(": docs/evidence/old.svg"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_run_is_compared_with_the_published_one() {
        let root = std::env::temp_dir().join(format!("mainstem-evidence-beside-{}", std::process::id()));
        let (published, fresh) = (root.join(data::FOLDER), root.join("fresh"));
        fs::create_dir_all(&published).unwrap();
        fs::create_dir_all(&fresh).unwrap();
        let left = |value: u64| {
            format!(
                "{{\"status\": \"ok\", \"result\": {{\"figures\": [{{\"name\": \"decision_ns\", \"value\": {value}}}]}}}}"
            )
        };
        fs::write(published.join("route.json"), left(60)).unwrap();
        assert!(beside(&root, "fresh").unwrap_err().to_string().contains("has no results"));
        fs::write(fresh.join("route.json"), left(70)).unwrap();
        beside(&root, "fresh").unwrap();
        fs::write(fresh.join("route.json"), left(170)).unwrap();
        assert!(beside(&root, "fresh").unwrap_err().to_string().ends_with(": route decision_ns"));
        assert!(beside(&root, "nowhere").is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
