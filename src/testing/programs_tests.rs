use super::*;
use crate::ErrorKind;

/// A machine in a temporary folder; a "program" is a file with the text that `--version` would print.
struct Machine {
    root: tempfile::TempDir,
    path: Vec<PathBuf>,
    variable: Option<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), path: Vec::new(), variable: None }
    }

    fn folder(&self, place: &str) -> PathBuf {
        self.root.path().join(place)
    }

    fn install(&self, place: &str, version: &str) -> PathBuf {
        let folder = self.folder(place);
        fs::create_dir_all(&folder).unwrap();
        for name in NEEDED {
            fs::write(folder.join(name), format!("{name} (PostgreSQL) {version}\n")).unwrap();
        }
        folder
    }

    fn search(&self) -> Search<fn(&Path) -> io::Result<String>> {
        Search {
            variable: self.variable.clone(),
            path: self.path.clone(),
            root: self.root.path().to_path_buf(),
            ask_version: |postgres| fs::read_to_string(postgres),
        }
    }

    fn first(&self, wanted: Option<u32>) -> Result<Programs> {
        self.search().first(wanted)
    }
}

#[test]
fn the_variable_comes_first_then_path_then_the_usual_places() {
    let mut machine = Machine::new();
    let debian = machine.install("usr/lib/postgresql/18/bin", "18.4 (Debian 18.4-1.pgdg12+1)");
    assert_eq!(machine.first(None).unwrap().folder(), debian);
    let on_path = machine.install("opt/pg/bin", "16.14");
    machine.path = vec![machine.folder("bin"), on_path.clone()];
    assert_eq!(machine.first(None).unwrap(), Programs { folder: on_path, version: 16 });
    let variable = machine.install("home/me/pg", "15.18");
    machine.variable = Some(variable.clone());
    assert_eq!(machine.first(None).unwrap(), Programs { folder: variable, version: 15 });
}

#[test]
fn the_highest_version_of_a_packager_comes_first() {
    for place in [
        "usr/lib/postgresql/{}/bin",
        "usr/pgsql-{}/bin",
        "opt/homebrew/opt/postgresql@{}/bin",
        "usr/local/opt/postgresql@{}/bin",
        "opt/homebrew/Cellar/postgresql@{}/{}.3/bin",
        "usr/local/Cellar/postgresql@{}/{}.3/bin",
        "Applications/Postgres.app/Contents/Versions/{}/bin",
    ] {
        let machine = Machine::new();
        for version in ["15", "19", "17"] {
            machine.install(&place.replace("{}", version), version);
        }
        assert_eq!(machine.first(None).unwrap().version(), 19, "{place}");
        assert_eq!(machine.first(Some(17)).unwrap().version(), 17, "{place}");
        let all: Vec<u32> = machine.search().all().iter().map(Programs::version).collect();
        assert_eq!(all, [19, 17, 15], "{place}");
    }
}

#[test]
fn a_wrong_variable_is_an_error_and_nothing_else_is_tried() {
    let mut machine = Machine::new();
    machine.install("usr/lib/postgresql/18/bin", "18.4");
    machine.variable = Some(machine.folder("nowhere"));
    let error = machine.first(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let text = error.to_string();
    assert!(text.contains("MAINSTEM_PG_BIN") && text.contains("initdb") && text.contains("nowhere"), "{text}");
    machine.variable = Some(machine.install("pg16", "16.14"));
    let text = machine.first(Some(18)).unwrap_err().to_string();
    assert!(text.contains("for version 18") && text.contains("it has version 16"), "{text}");
}

#[test]
fn other_versions_are_refused_and_the_error_says_what_was_found_where() {
    let mut machine = Machine::new();
    machine.install("usr/lib/postgresql/15/bin", "15.18");
    machine.path = vec![machine.install("old/bin", "13.2"), machine.install("new/bin", "20devel")];
    fs::remove_file(machine.install("usr/pgsql-17/bin", "17.1").join("pg_rewind")).unwrap();
    assert_eq!(machine.first(None).unwrap().version(), 15);
    let error = machine.first(Some(17)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let text = error.to_string();
    for part in ["old/bin (version 13", "new/bin (version 20", "version 15 in", "pg_rewind missing", "scripts/setup"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn nothing_found_says_what_to_do() {
    let text = Machine::new().first(None).unwrap_err().to_string();
    assert!(text.contains("found: nothing") && text.contains("scripts/setup") && text.contains(VARIABLE), "{text}");
}

#[test]
fn versions_are_read_from_every_form_of_the_text() {
    assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
    assert_eq!(parse_version("postgres (PostgreSQL) 19rc1"), Some(19));
    assert_eq!(parse_version("postgres (PostgreSQL) 19devel"), Some(19));
    assert_eq!(parse_version("postgres (PostgreSQL) 18"), Some(18));
    assert_eq!(parse_version("EDB Advanced Server"), None);
    assert_eq!(parse_version("postgres (PostgreSQL) devel"), None);
}
