//! Helpers for the checks in `scripts/` that need more than a shell. `scripts/public-api` calls them, and documents their use.

mod external;
mod listing;
mod verdict;

use std::{error::Error, fs, process::ExitCode};

const USAGE: &str =
    "usage: upkeep list RUSTDOC.json | external RUSTDOC.json | judge OLD.txt NEW.txt OLD_VERSION NEW_VERSION";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("upkeep: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    match *arguments {
        ["list", json] => print!("{}", listing::of(&read(json)?, json)?),
        ["external", json] => external::of(&read(json)?)?.iter().for_each(|name| println!("{name}")),
        ["judge", old, new, old_version, new_version] => {
            let verdict = verdict::judge(&read(old)?, &read(new)?, old_version, new_version)?;
            println!("{verdict}");
            return Ok(if verdict.is_allowed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        _ => return Err(USAGE.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}
